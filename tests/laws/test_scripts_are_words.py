"""Law: a script holds words, whatever is in them: no text of a change, a configuration or a person is ever read as shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from by_hand import by_hand, script
from every_kind import every_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import Rehearsed, each
from world import World

from opsctl import config
from opsctl.changes import all_kinds
from opsctl.shell import (
    Assign,
    Command,
    Comment,
    File,
    Joined,
    Need,
    Program,
    Put,
    Script,
    Statement,
    Stop,
    Variable,
    Wanted,
    capture,
    piped,
    run,
    walk,
)

HOSTILE = {
    "a quote": "'; touch PWN; #'",
    "a line": "hello\n: > PWN\ntouch PWN\n#",
    "a substitution": "$(touch PWN)`touch PWN`${PWN:=$(touch PWN)}",
    "an option": "--output=PWN",
    "a dash": "-",
    "a glob": "*?[a-z]~{a,b}!!",
    "controls": "\x01\x1b]0;title\x07\t\r\x7f\x9b31m",
    "another direction": "\u202egnp.exe\u2066\u2028",
    "a backslash": "\\'\"\\n$'\\x41'",
    "a file": "file:///etc/hostname",
    "an address": "http://127.0.0.1:9/",
    "no text": "caf\udce9",
    "psql": "'; DROP TABLE users; -- :'x' \\! touch PWN",
    "a format": "{users} %s %(x)s {0}",
}


def hostile(environment: config.Environment, text: str) -> config.Environment:
    """The same, with a text for everything that it may name as it likes."""
    held, change = environment.settings, msgspec.structs.replace
    assert held.sessions
    assert held.bounces
    assert held.database
    settings = change(
        held,
        sessions=change(held.sessions, table=text, user_column=text, keep=[text], redis_patterns=[text]),
        bounces=change(held.bounces, users_table=text, id_column=text, email_column=text, status_column=text, active_column=text),
        database=change(held.database, name=text, cluster=text),
        secrets={**held.secrets, text: held.secrets["ghcr"]},
    )
    return change(environment, settings=settings)


def scripted(environment: config.Environment, text: str) -> list[Statement]:
    """The statements of every kind."""
    # A configuration is UTF-8.
    place = hostile(environment, text) if text.isascii() or text.encode(errors="ignore").decode() == text else environment
    return [statement for change in every_kind(text) for statement in [Comment(line=change.summary), *change.as_shell(place)]]


def bash(text: str, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Have bash read a script."""
    raw = text.encode(errors="surrogateescape")
    return subprocess.run(["bash", *options], input=raw, capture_output=True, timeout=60, check=False, cwd=cwd, start_new_session=True)


def value(word: Any) -> str:
    """What a program is given for a word, where no variable is set."""
    if isinstance(word, Joined):
        return "".join(map(value, word.parts))
    return word if isinstance(word, str) else {"work": "work"}.get(word.name, "") if isinstance(word, Variable) else f"work/{word.name}"


def name(command: Command) -> str:
    """How a script calls a command's program."""
    return command.program if isinstance(command.program, str) else command.program.name


def rehearsed(statements: list[Statement], folder: Path) -> list[list[str]]:
    """Run each line by itself, with a function in place of each program, and return what every program was given."""
    leaves = [each for each in walk(statements) if not list(each.inner()) and not isinstance(each, Stop)]
    programs = {name(each) for each in leaves if isinstance(each, Command)}
    (folder / "work").mkdir()
    lines = [
        "set +eu; work=work",
        # What stands for a program can't be a process for each: it takes a word after another, and standard input last.
        'heard() { local all=""; [ -t 0 ] || IFS= read -r -d "" all; printf "%s\\0" "$@" "$all" "END" >> heard; }',
        "say() { :; }; stop() { :; }; question() { :; }; want() { :; }",
        *(f'{each}() {{ heard {each} "$@"; }}' for each in sorted(programs)),
    ]
    for leaf in leaves:
        bare = msgspec.structs.replace(leaf, stdin=None, output=None) if isinstance(leaf, Command) else leaf
        alone = isinstance(bare, Command) and not bare.given
        # What one line sets is not to change another's words.
        lines += [f"{line} < /dev/null" if alone else f"( {line} )" if isinstance(bare, Assign) else line for line in bare.lines()]
    done = bash("\n".join(lines), cwd=folder)
    assert done.returncode == 0, done.stderr
    raw = (folder / "heard").read_bytes().decode(errors="surrogateescape")
    return [call.split("\0")[:-1] for call in raw.split("END\0")[:-1]]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_every_word_of_every_kind_arrives_as_it_is(environment: config.Environment, tmp_path: Path, text: str) -> None:
    statements = scripted(environment, text)
    script = str(Script(title=text, statements=tuple(statements), account="1"))
    assert bash(script, "-n").returncode == 0, script
    assert all(line.isprintable() for line in script.split("\n"))
    (tmp_path / "at").mkdir()
    heard = rehearsed(statements, tmp_path / "at")
    wanted = [
        [name(each), *map(value, each.words), "".join(f"{value(one)}\n" for one in each.given)]
        for each in walk(statements)
        if isinstance(each, Command)
    ]
    assert heard == wanted
    assert not list(tmp_path.rglob("PWN*"))


def test_no_secret_is_an_argument(environment: config.Environment) -> None:
    """A variable with a secret is told to a file by the shell itself, compared, or exported; no program gets it as a word."""
    statements = scripted(environment, "x")
    needs = {need.variable for each in walk(statements) for need in each.needs() if need.secret}
    assert needs
    for statement in walk(statements):
        if isinstance(statement, Command):
            words = [part for word in statement.words for part in (word.parts if isinstance(word, Joined) else [word])]
            assert not {word.name for word in words if isinstance(word, Variable)} & {*needs, "token", "former"}, statement


def test_every_kind_can_be_scripted(environment: config.Environment) -> None:
    for change in every_kind("x"):
        assert all(isinstance(each, Statement) for each in change.as_shell(environment)), type(change)
    assert {type(change) for change in every_kind("x")} == set(all_kinds())


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8))
def test_any_word_arrives_as_it_is(words: list[str]) -> None:
    done = bash(run("printf", "%s\\0", *words).bare())
    wanted = b"".join(raw_bytes(word) + b"\0" for word in words)
    assert done.stdout == wanted


def raw_bytes(word: str) -> bytes:
    """Half a character that came from a command line is the byte that it was; any other is written as it is."""
    return b"".join(_raw(each) for each in word)


def _raw(character: str) -> bytes:
    try:
        return character.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return character.encode(errors="surrogatepass")


def test_a_script_begins_with_what_keeps_it_safe_and_ends_with_its_first_line() -> None:
    script = str(Script(title="x", statements=(run("aws", "x"), Wanted(need=Need("PIN", "a pin", secret=True))), account="123"))
    lines = script.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines.index("set -euo pipefail") < lines.index("umask 077") < lines.index("main() {")
    assert lines[-1] == 'main "$@" < /dev/null'
    assert lines.index("  program aws") < lines.index("  want PIN 'a pin' secret") < lines.index("  aws x > /dev/null")
    assert "trap 'rm -rf \"$work\"' EXIT" in lines


@pytest.mark.parametrize("cut", [0.3, 0.6, 1])
def test_half_a_script_does_nothing(tmp_path: Path, cut: float) -> None:
    script = str(Script(title="x", statements=(run("touch", "PWN"),)))
    bash(script[: int(script.rindex("main") * cut)], cwd=tmp_path)
    assert not (tmp_path / "PWN").exists()


@pytest.mark.parametrize(
    "failing", [run("false"), piped(run("false"), run("cat")), capture("x", run("false")), capture("x", piped(run("false"), run("cat")))]
)
def test_it_stops_at_the_first_failure_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Statement
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first, second = Put(file=File("secret"), words=("x",)), run("touch", "PWN")
    script = str(Script(title="x", statements=(first, failing, second)))
    done = subprocess.run(
        ["bash"], input=script, text=True, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_given_is_said_where_nobody_can_be_asked(tmp_path: Path) -> None:
    script = str(Script(title="x", statements=(Wanted(need=Need("PIN", "the pin", secret=True)), run("touch", "PWN"))))
    done = bash(script, cwd=tmp_path)
    assert done.returncode == 1
    assert b"set the variable PIN: the pin" in done.stderr
    assert not (tmp_path / "PWN").exists()


def test_a_missing_program_is_named_before_anything_is_done(tmp_path: Path) -> None:
    script = str(Script(title="x", statements=(run("touch", "PWN"), run("no-such-program"))))
    done = bash(script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, b"This script needs the program no-such-program.\n")
    assert not (tmp_path / "PWN").exists()


def test_a_message_is_no_shell(world: World) -> None:
    message = "hello\n: > PWN\n# $(touch PWN) `touch PWN` '; touch PWN"
    text = script(world, "notify", "slack", "--message", message)
    done = by_hand(world, text)
    assert done.code == 0, done
    assert [sent["message"]["text"] for sent in world.sent()["slack"]] == [message]
    assert not list(world.home.rglob("PWN*"))


@each()
def test_every_command_prints_a_script(it: Rehearsed) -> None:
    text = script(it.world, *it.words, env=it.env, input=it.scenario.stdin)
    assert text.splitlines()[-1] == 'main "$@" < /dev/null'
    it.untouched()


def test_a_program_that_a_script_brings_along_knows_every_name_that_it_uses(environment: config.Environment, tmp_path: Path) -> None:
    leaves = [each for each in walk(scripted(environment, "x")) if isinstance(each, Command)]
    programs = {each.program.name: each.program.code for each in leaves if isinstance(each.program, Program)}
    assert len(programs) > 5
    for name, code in programs.items():
        (tmp_path / f"{name}.py").write_text(code)
    command = ["ruff", "check", "--isolated", "--no-cache", "--select", "F821,E9", str(tmp_path)]
    found = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
