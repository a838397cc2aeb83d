"""The documents can't drift: their sections, links, command lines and generated parts are those of the code."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from opsctl.cli import reference
from opsctl.cli.app import GROUPS, root
from opsctl.cli.context import AppContext
from opsctl.commands.runbook import Procedure, split_procedures, symptoms
from opsctl.errors import OpsctlError
from opsctl.playbook import loader
from opsctl.settings.reference import tables

HOUSE = Path(__file__).parents[2]
RUNBOOK = (HOUSE / "RUNBOOK.md").read_text()
README = (HOUSE / "README.md").read_text()
REFERENCE = (HOUSE / "docs" / "reference.md").read_text()
GENERATED_IN = ("docs/reference.md", "docs/bench.md")
DOCUMENTS = {str(path.relative_to(HOUSE)): path.read_text() for path in sorted([*HOUSE.glob("*.md"), *HOUSE.glob("docs/*.md")])}
COMMANDS = dict(reference.leaves(root))
PREFIXES = {" ".join(words.split()[:length]) for words in COMMANDS for length in (1, 2)}
PLAYBOOKS = sorted((HOUSE / "playbooks").glob("*.yaml"))
FILES = ("plan.json", "users.txt", "head.txt", "contacts.csv", "notifications.jsonl", "archive.json.gz")
"""The files that the documents' lines name; some commands want theirs to exist."""

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
GENERATED = re.compile(r"^<!-- \[\[\[cog.*?^<!-- \[\[\[end\]\]\] -->$", re.MULTILINE | re.DOTALL)
MENTION = re.compile(r"\bopsctl ([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?(?: ([a-z]+))?")


def shell_lines(text: str) -> Iterator[str]:
    """What a reader would type: the lines of shell blocks, those after `$` in a console's, and code in the running text."""
    for kind, body in FENCED.findall(text):
        if kind == "bash":
            yield from body.splitlines()
        elif kind == "console":
            yield from (line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ "))
    yield from (code for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", text)) if re.search(r"\bopsctl ", code))


def typed(line: str) -> Iterator[list[str]]:
    """The words after each `opsctl` of a shell line, whatever it is piped from, substituted into or given as environment."""
    for inner in re.findall(r"\$\(([^)]*)\)", line):
        yield from typed(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";|&>"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words[:1] == ["opsctl"]:
                yield words[1:]
            words = []
        else:
            words.append(word)


def refusal(words: list[str]) -> str:
    """Why opsctl doesn't understand these words; empty when it does. `--help` is understood everywhere."""
    try:
        command: click.Command = root
        ctx = command.make_context("opsctl", list(words), obj=AppContext())
        while isinstance(command, click.Group):
            name, found, rest = command.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
            command, ctx = found, found.make_context(name, rest, parent=ctx)
    except click.exceptions.Exit:
        return ""
    except click.ClickException as wrong:
        return wrong.format_message()
    return ""


def leads_nowhere(text: str) -> list[str]:
    """The commands that a text mentions and that don't exist."""
    wrong = []
    for words in (tuple(word for word in found if word) for found in MENTION.findall(text)):
        known = " ".join(words) in PREFIXES or any(" ".join(words[:length]) in COMMANDS for length in (1, 2, 3))
        if words[0] in GROUPS and not known:
            wrong.append(" ".join(words))
    return wrong


def test_every_command_has_its_anchor_in_the_reference() -> None:
    assert ANCHOR.findall(REFERENCE) == [reference.anchor(words) for words in COMMANDS]


def test_every_playbook_has_its_anchors_in_the_runbook() -> None:
    expected = {f"playbook-{path.stem}" for path in PLAYBOOKS} | {loader.load(path.stem).playbook.runbook for path in PLAYBOOKS}
    assert expected <= set(ANCHOR.findall(RUNBOOK))


PROCEDURES = split_procedures(RUNBOOK)
SOURCES = [f"safawinet-{number}" for number in ("1", "2", "3", "4-1", "4-2", "5-1", "5-2", "6", "7", "8-1", "8-2", "9-1", "9-2", "10")]
"""The sections of the Safawinet runbook; the HH runbook's are the playbooks' anchors."""


def test_the_runbook_is_short_enough_to_be_read_in_an_incident() -> None:
    assert len(RUNBOOK.splitlines()) < 1000
    assert set(SOURCES) <= set(ANCHOR.findall(RUNBOOK))


@pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda each: each.anchors[0])
def test_a_procedure_is_found_and_read_in_few_lines(procedure: Procedure) -> None:
    lines = [line for line in procedure.text.splitlines() if line]
    table = [line for line in RUNBOOK.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(lines) <= 40
    assert len(table) + len(lines) <= 100


@pytest.mark.parametrize("procedure", [each for each in PROCEDURES if "**When:**" in each.text], ids=lambda each: each.anchors[0])
def test_a_procedure_says_when_what_to_type_and_how_to_undo(procedure: Procedure) -> None:
    assert "```bash" in procedure.text
    own = {"when-a-run-stops", "undo-a-run", "raw-commands"}
    parts = [] if procedure.anchors[0] in own else ["**Undo:**", "**If it stops:**"]
    assert [part for part in parts if part not in procedure.text] == []


def test_every_symptom_leads_to_a_procedure() -> None:
    rows = symptoms(RUNBOOK, PROCEDURES)
    assert len(rows) == RUNBOOK.partition("\n## ")[0].count("\n| ") - 2
    anchors = {anchor for each in PROCEDURES for anchor in each.anchors}
    assert {name for path in PLAYBOOKS if (name := f"playbook-{path.stem}")} <= anchors
    assert all(refusal(row["read"].split()[1:]) == "" for row in rows)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_is_sound_and_its_line_is_in_the_runbook(path: Path) -> None:
    _, problems = loader.inspect(path)
    assert not problems
    assert any(words[:3] == ["playbook", "run", path.stem] for line in shell_lines(RUNBOOK) for words in typed(line))


def test_every_verdict_is_explained() -> None:
    flags = {words: command.verdict_flag for words, command in COMMANDS.items() if command.gives_verdict}
    expected = {f"{words} --{flag}" if flag else words for words, flag in flags.items()}
    assert set(reference.VERDICTS) == expected | {"playbook lint"}


def test_every_variable_that_opsctl_reads_is_explained() -> None:
    read = re.compile(r'(?:environ|variables)(?:\.get\(|\[)"([A-Z_]+)"')
    code = [path.read_text() for path in (HOUSE / "opsctl").rglob("*.py") if "sandbox" not in path.parts[:-1]]
    assert {name for text in code for name in read.findall(text)} <= set(reference.VARIABLES)


def test_every_setting_is_described() -> None:
    assert [(table.header, key.name) for table in tables() for key in table.keys if not key.description] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_line_that_a_reader_would_type_is_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        Path(file).touch()
    written = GENERATED.sub("", DOCUMENTS[name])
    lines = [(line, words) for line in shell_lines(written) for words in typed(line)]
    assert lines or name in ("CHANGELOG.md", "docs/architecture.md", "docs/bench.md", "docs/why.md")
    assert {line: why for line, words in lines if (why := refusal(words))} == {}


def test_the_playbook_in_the_guide_for_authors_is_sound(tmp_path):
    blocks = [body for kind, body in FENCED.findall(DOCUMENTS["docs/authoring.md"]) if kind == "yaml"]
    (tmp_path / "first.yaml").write_text(blocks[0])
    (tmp_path / "second.yaml").write_text(f"title: Checks\nsteps:\n{blocks[1]}")
    for path in sorted(tmp_path.iterdir()):
        assert loader.inspect(path)[1] == []


@pytest.mark.parametrize("line", ["opsctl service scale api", "opsctl -x status", "cat f | opsctl nothing", 'eval "$(opsctl sandbox en)"'])
def test_a_line_that_is_wrong_would_be_found(line):
    assert [refusal(words) for words in typed(line)] != [""]


def test_help_and_playbooks_mention_only_commands_that_exist():
    texts = [command.help or "" for command in COMMANDS.values()]
    texts += [option.help or "" for command in COMMANDS.values() for option in command.params if isinstance(option, click.Option)]
    texts += [path.read_text() for path in PLAYBOOKS]
    assert [wrong for text in texts for wrong in leads_nowhere(text)] == []


def test_what_an_error_says_to_type_next_exists():
    kinds = {kind.__name__ for kind in (OpsctlError, *reference.errors())}
    wrong = []
    for path in sorted((HOUSE / "opsctl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                said = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                wrong += [f"{path.name}:{node.lineno}: {found}" for found in leads_nowhere(" ".join(said))]
    assert wrong == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    text = DOCUMENTS[name]
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(ANCHOR.findall(text))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [t for t in targets if t.startswith("#") and t[1:] not in places] == []
    here = (HOUSE / name).parent
    assert [t for t in targets if not t.startswith(("#", "http")) and not (here / t.partition("#")[0]).exists()] == []


def test_every_exit_code_of_an_error_is_explained():
    assert {kind.exit_code for kind in (OpsctlError, *reference.errors())} <= set(reference.EXIT)


def test_the_generated_parts_are_fresh():
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", *GENERATED_IN], cwd=HOUSE, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"make docs: {done.stdout}{done.stderr}"
