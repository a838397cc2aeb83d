"""A line that is parsed and not run: one spelling, placeholders that stay values, and nothing empty."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.cli import app as cli
from opsctl.cli.parsed import ParsedCommand

WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("line", "spelling"),
    [
        ("service scale api 4", "service scale api 4"),
        ("service scale api 4 -y --reason 'because of it'", "service scale api 4"),
        ("service scale --dry-run api 4", "service scale api 4"),
        ("logout user 'a b' c", "logout user 'a b' c"),
        ("logout user -- -5", "logout user -- -5"),
        ("secrets rotate jwt --compromised --value-from generate", "secrets rotate jwt --value-from generate --compromised"),
        ("notify page --message fire --severity critical", "notify page --message fire"),
        ("notify page --message fire --severity info", "notify page --message fire --severity info"),
        ("logout bulk --inactive-for 90d", "logout bulk --inactive-for 90d"),
    ],
)
def test_a_line_has_one_spelling_which_reads_back(line: str, spelling: str) -> None:
    assert ParsedCommand(line, {}).text == spelling
    assert ParsedCommand(spelling, {}).text == spelling


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_any_arguments_read_back(words: list[str]) -> None:
    parsed = ParsedCommand(shlex.join(["logout", "user", "--", *words]), {})
    assert parsed.params["users"] == tuple(words)
    assert ParsedCommand(parsed.text, {}).params["users"] == tuple(words)


@given(WORDS)
def test_a_placeholder_becomes_one_argument_whatever_is_in_it(value: str) -> None:
    assert ParsedCommand("logout user {user}", {"user": value}).params["users"] == (value,)


@pytest.mark.parametrize(
    "line", ["", "nope", "service", "service nope", "service scale", "service scale api x", "service scale api 4 --nope"]
)
def test_what_is_no_line_is_a_usage_error(line: str) -> None:
    with pytest.raises(click.UsageError):
        ParsedCommand(line, {})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("snapshots restore '' --to copy", "SNAPSHOT"),
        ("snapshots prune --keep 1 --of ''", "'--of'"),
        ("snapshots create --of {database}", "'--of'"),
        ("snapshots list --of=", "'--of'"),
        ("sessions list --user ''", "'--user'"),
        ("logout user 7 ''", "USER"),
        ("access review ''", "USER"),
        ("service status ''", "NAME"),
        ("alarms list ''", "NAME"),
        ("alarms ack ''", "NAME"),
        ("secrets rollback jwt --to ''", "'--to'"),
        ("database failover --to ''", "'--to'"),
        ("runs seal --to ''", "'--to'"),
    ],
)
def test_what_is_empty_means_nothing_else(line: str, what: str) -> None:
    with pytest.raises(click.BadParameter, match="it is empty") as wrong:
        ParsedCommand(line, {"database": ""})
    assert what in wrong.value.format_message()


def test_no_type_of_ours_takes_what_is_empty() -> None:
    def lines(command: click.Command) -> Iterator[click.Command]:
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                yield from lines(command.get_command(click.Context(command), name) or command)
        else:
            yield command

    for line in lines(cli.root):
        for param in line.params:
            if not isinstance(param.type, click.types.StringParamType | click.Path | click.types.BoolParamType):
                with pytest.raises(click.BadParameter):
                    param.type.convert("", param, None)


def test_what_is_empty_unless_it_is_given_may_be_empty() -> None:
    text = ParsedCommand("logs tail api --filter ''", {}).text
    assert ParsedCommand(text, {}).params["pattern"] == ""
