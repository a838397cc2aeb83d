"""The command tree as a whole: complete, explained, marked, and cheap to ask for help."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from opsctl import commands
from opsctl.cli import reference
from opsctl.cli.app import GROUPS, root
from opsctl.cli.command import OpsCommand
from opsctl.cli.context import AppContext
from opsctl.cli.options import GlobalOption, shared_options

COMMANDS = dict(reference.leaves(root))
HEAVY = ("boto3", "botocore", "httpx", "psycopg", "redis", "tabulate", "yaml")
MODULES = "import json, sys; from opsctl.cli.app import run; code = run(sys.argv[1:]); json.dump([code, list(sys.modules)], sys.stderr)"


def loaded(*args: str, folder: Path) -> tuple[int, set[str]]:
    """The exit code of a command line in a process of its own, and the packages that it has imported."""
    surroundings = {**os.environ, "OPSCTL_SANDBOX": str(folder), "XDG_STATE_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", MODULES, *args], env=surroundings, capture_output=True, text=True, check=True, timeout=60)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, {name.partition(".")[0] for name in modules}


def test_the_table_of_groups_is_the_folder_of_commands():
    files = {path.stem for path in Path(commands.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(GROUPS) == files
    assert all(line.endswith(".") for line in GROUPS.values())


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_what_its_file_calls_by_its_name(name):
    found = root.get_command(click.Context(root), name)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_marked_with_its_kind(words):
    assert isinstance(COMMANDS[words], OpsCommand)
    assert COMMANDS[words].kind in ("mutating", "read-only", "local")


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_says_in_one_sentence_what_it_does(words):
    summary = COMMANDS[words].get_short_help_str(1000)
    assert summary.endswith(".")
    assert len(summary) <= 140


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_what_it_is_for(words):
    assert [p.name for p in COMMANDS[words].params if isinstance(p, click.Option) and not p.help] == []


def test_help_imports_no_vendor_and_draws_no_table(tmp_path):
    code, packages = loaded("--help", folder=tmp_path)
    assert code == 0
    assert packages.isdisjoint(HEAVY)


def test_the_files_of_commands_import_no_kind_of_change():
    """A view pays for no kind: a command imports its kinds where it yields them."""
    every = "; ".join(["import sys", *(f"import opsctl.commands.{name}" for name in GROUPS), "print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", every], capture_output=True, text=True, check=True, timeout=60)
    assert [name for name in done.stdout.split() if name.startswith("opsctl.changes")] == []


def test_looking_at_services_imports_neither_database_nor_cache_nor_http(tmp_path):
    code, packages = loaded("--env", "sandbox", "service", "status", folder=tmp_path)
    assert code == 2, "there is no sandbox in that folder"
    assert packages.isdisjoint(("psycopg", "httpx", "redis"))


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_only_what_takes_all_shared_options_is_said_to(words: str) -> None:
    shared = {option.name or "" for option in shared_options()}
    drawn = reference.block(root, words, shared)
    params = {param.name for param in COMMANDS[words].params}
    assert ("options of every changing command" in drawn) is (shared <= params)
    own = [param for param in COMMANDS[words].params if not isinstance(param, GlobalOption)]
    hidden = [param for param in own if param.opts[-1].startswith("--") and param.opts[-1] not in drawn]
    assert not hidden or shared <= params


EXAMPLES = [(words, line) for words, command in COMMANDS.items() for line in command.examples]


def test_every_command_has_an_example():
    assert [words for words, command in COMMANDS.items() if not command.examples] == []


@pytest.mark.parametrize(("words", "line"), EXAMPLES)
def test_an_example_is_a_line_that_can_be_typed(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = shlex.split(line)
    for file in [word for word in typed if re.fullmatch(r"\w+[.](json|csv|txt|seal)", word)]:
        (tmp_path / file).touch()
    assert typed.pop(0) == "opsctl"
    command, ctx = root, click.Context(root, info_name="opsctl", obj=AppContext())
    while isinstance(command, click.Group):
        name, command, typed = command.resolve_command(ctx, typed)
        ctx = command.make_context(name, typed, parent=ctx) if not isinstance(command, click.Group) else click.Context(command, parent=ctx)
    assert command is COMMANDS[words]
