import shlex

import click
import pytest

from opsctl.playbook import parameters
from opsctl.playbook.schema import Parameter, Playbook, PlaybookStep

PLAYBOOK = Playbook(
    title="t",
    parameters={
        "scope": Parameter(choices=["single", "widespread"], default="widespread"),
        "user": Parameter(required_when={"scope": "single"}),
        "note": Parameter(default=""),
    },
    steps=[PlaybookStep(ask="q")],
)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {"scope": "widespread", "note": ""}),
        (["scope=single", "user=a=b"], {"scope": "single", "user": "a=b", "note": ""}),
        (["user=", "scope=single"], {"scope": "single", "user": "", "note": ""}),
    ],
)
def test_words_become_values(words: list[str], values: dict[str, str]) -> None:
    assert parameters.check(PLAYBOOK, words) == values


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["scope"], "is not a parameter"),
        (["colour=red"], "is not a parameter"),
        (["scope=some"], "one of single, widespread"),
        (["scope=single"], "user=VALUE is missing when scope is single"),
        (["scope=single", "user=1", "user=2"], "given twice"),
        (["user=1"], "user is used only when scope is single"),
    ],
)
def test_wrong_words_are_usage_errors(words: list[str], wrong: str) -> None:
    with pytest.raises(click.UsageError, match=wrong):
        parameters.check(PLAYBOOK, words)


def test_a_missing_choice_is_named_with_what_may_be_chosen() -> None:
    playbook = Playbook(title="t", parameters={"scope": Parameter(choices=["one", "all"], help="Whom.")}, steps=[PlaybookStep(ask="q")])
    with pytest.raises(click.UsageError, match=r"scope=one\|all is missing\. Whom\."):
        parameters.check(playbook, [])


def test_the_command_reads_back_as_it_was_given() -> None:
    given = {"scope": "single", "user": "a b'c"}
    words = shlex.split(parameters.command_line("drill", given))
    assert words[:3] == ["playbook", "run", "drill"]
    assert parameters.check(PLAYBOOK, words[3:]) == {**given, "note": ""}
