"""Whatever leaves goes through one function, which others' words can't get round."""

from __future__ import annotations

import ast
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import opsctl
from opsctl.cli import app as cli
from opsctl.contract import Change, Irreversible
from opsctl.engine.ledger.rows import Step
from opsctl.engine.plan import Plan
from opsctl.redaction import CONTROL, IN_LINES, vault
from opsctl.render import out
from opsctl.render.progress import Progress
from opsctl.render.screen import Screen
from opsctl.render.shapes import Check, NoRows, Page, Series, Text, Verdict

HOSTILE = "a\x1b[2Kb\x1b]0;title\x07c\x9bd\u202ee\u200bf\ud800g\rh"
SECRET = "pat-na1-7f3a9c51-e0d8-4b26-a5c1-f09e3d7b6482"
WAYS_OUT = {"print", "echo", "secho", "style", "clear", "pager", "echo_via_pager", "prompt", "confirm"}
FREE = {"render/out.py", "adapters/http/logins.py"}
"""The printer itself, and a child process that answers over a pipe."""


def calls(tree: ast.AST) -> list[tuple[int, str]]:
    """Where something is printed, and how."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "print":
                found.append((node.lineno, "print"))
            if (
                isinstance(called, ast.Attribute)
                and isinstance(called.value, ast.Name)
                and called.value.id == "click"
                and called.attr in WAYS_OUT
            ):
                found.append((node.lineno, f"click.{called.attr}"))
            if isinstance(called, ast.Attribute) and called.attr in ("write", "writelines") and "sys.std" in ast.unparse(called):
                found.append((node.lineno, ast.unparse(called)))
        if isinstance(node, ast.ImportFrom) and node.module == "click" and any(name.name in WAYS_OUT for name in node.names):
            found.append((node.lineno, "from click import ..."))
    return found


def test_nothing_else_prints() -> None:
    root = Path(opsctl.__file__).parent
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if name not in FREE and not name.startswith("sandbox/"):
            assert calls(ast.parse(path.read_text())) == [], f"{name} prints by itself"


class Hostile(Change, frozen=True, kw_only=True):
    """A change whose every word is somebody else's."""

    @property
    def target(self) -> str:
        return HOSTILE

    @property
    def summary(self) -> str:
        return f"{HOSTILE}\nforged row"

    def difference(self) -> tuple[Any, Any]:
        return HOSTILE, {HOSTILE: HOSTILE}

    def inverse(self) -> Irreversible:
        return Irreversible(HOSTILE)


NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLANNED = Step(seq=1, change=Hostile(), state="pending", why=HOSTILE, count=1, unit="rows")
PLAN = Plan(
    command=f"do {HOSTILE}\nforged", environment="x", account="1", caller=HOSTILE, config_digest="", created=NOW,
    expires=NOW + timedelta(days=1), changes=[PLANNED], file="",
)  # fmt: skip

SHOWN: dict[str, Any] = {
    "rows": [{"a": HOSTILE}],
    "a record": {"a": HOSTILE, "b": [HOSTILE]},
    "a verdict": Verdict([Check(HOSTILE, True, HOSTILE)]),
    "a page": Page([("head", [{"a": HOSTILE}]), (HOSTILE, {"a": HOSTILE})]),
    "a plot": Series([{"a": 3, "reason": HOSTILE}], "a", None, {HOSTILE: 2.0}),
    "text": Text(HOSTILE),
}


def clean(said: str) -> None:
    """A terminal obeys nothing of it."""
    assert not IN_LINES.search(said), repr(said)
    assert r"\x1b[2K" in said or "\\u001b[2K" in said


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("what", SHOWN)
def test_what_is_shown_obeys_nobody(what: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Screen(output).show(SHOWN[what])
    clean(capsys.readouterr().out)


@pytest.mark.parametrize("output", ["table", "json"])
def test_what_is_streamed_obeys_nobody(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    Screen(output).show(iter([{"a": HOSTILE}]))
    clean(capsys.readouterr().out)


def test_a_plot_on_a_terminal_obeys_nobody(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    Screen("table").show(SHOWN["a plot"])
    said = capsys.readouterr().out
    assert "█" in said
    clean(said.replace("\x1b[0m", "").replace("\x1b[1m", ""))


def test_a_plan_obeys_nobody_and_none_of_its_lines_is_forged(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("table").plan(PLAN)
    said = capsys.readouterr().err
    clean(said)
    assert not any(line.startswith("forged") for line in said.splitlines())


def test_progress_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(live=False)
    step = Step(seq=1, change=Hostile(), state="applied", why=HOSTILE)
    progress.step_started(step)
    progress.step_waiting(step, HOSTILE)
    progress.step_ended(step)
    progress.message(HOSTILE)
    clean(capsys.readouterr().err)


def test_a_live_line_is_cut_after_it_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    vault.remember(SECRET.encode())
    width = out.live(f"waiting for {SECRET}", 0, 30)
    said = capsys.readouterr().err
    assert "pat-" not in said
    assert width <= 30


@pytest.mark.parametrize(
    "args",
    [
        ["status", "\x1b[2Kx"],
        ["\x1b[2Kx"],
        ["-o", "\x1b[2Kx", "status"],
        ["logout", "user", "5", "--timeout", "\x1b[2Kx"],
        ["downloads", "show", "\x1b[2Kx\nError: forged"],
        ["playbook", "run", "\x1b[2Kx"],
        ["status", "--\x1b[2Kx"],
    ],
)
def test_a_usage_error_obeys_nobody(args: list[str], capsys: pytest.CaptureFixture[str], machine: Path) -> None:
    assert cli.run(args) == 2
    said = capsys.readouterr().err
    assert not IN_LINES.search(said)
    assert not any(line.startswith("Error: forged") for line in said.splitlines())


LONG = [
    ["downloads", "disable", "a" * 40_000],
    ["downloads", "disable", "1" * 10_000],
    ["downloads", "disable", "a@" + "." * 3_999],
    ["logout", "user", "x" * 10_000],
    ["logout", "user", "5", "--reason", "a" * 20_000],
    ["runs", "show", "9" * 10_000],
    ["logs", "tail", "g" * 5_000],
    ["e" * 40_000],
]


@pytest.mark.parametrize("args", LONG, ids=lambda args: " ".join(args)[:30])
def test_what_is_typed_has_a_bound(args: list[str], capsys: pytest.CaptureFixture[str], machine: Path) -> None:
    assert cli.run(args) == 2
    assert len(capsys.readouterr().err) < 3_000


def test_only_our_own_styles_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert out.clean(out.style("done", fg="green")) == "\x1b[32mdone\x1b[0m"
    assert out.clean("\x1b[32mdone\x1b[0m") == r"\x1b[32mdone\x1b[0m"
    forged = out.clean("\x1b0123456789abcdef[8mhidden")
    assert "\x1b" not in forged


WORDS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(WORDS | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner))


@given(VALUES)
def test_json_is_exact_and_obeys_nobody(value: Any) -> None:
    for indent in (0, 2):
        said = out.as_json(value, indent)
        assert not IN_LINES.search(said)
        assert json.loads(said) == value


def test_json_keeps_its_keys_and_its_form_whatever_the_secrets_are() -> None:
    vault.remember(b'":{"x1":2')
    vault.remember(SECRET.encode())
    found = {"a": {"x1": 2}, "token": SECRET, "half": "\ud800", "bidi": "\u202e", "c1": "\x9b"}
    said = json.loads(out.as_json(found))
    assert said == {"a": {"x1": 2}, "token": "[secret]", "half": "\\ud800", "bidi": "\u202e", "c1": "\x9b"}


def test_a_narrow_encoding_writes_out_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "latin-1", errors="strict"))
    out.say("ü ✓")
    sys.stdout.flush()
    assert raw.getvalue() == "ü \\u2713\n".encode("latin-1")


def test_nothing_that_is_cleaned_twice_changes() -> None:
    assert out.clean(out.clean(HOSTILE)) == out.clean(HOSTILE)
    assert not CONTROL.search(out.clean(HOSTILE))


def test_without_colour_a_page_is_still_drawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    out.page(out.style("red", fg="red"), 5)
    assert terminal.getvalue().startswith(f"{out.HOME}{out.NO_WRAP}red{out.END_OF_LINE}")


def test_no_rows_are_a_sentence_for_a_person_and_an_empty_list_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("json").show(Page([("Findings", NoRows("None."))]))
    assert json.loads(capsys.readouterr().out) == {"Findings": []}
    Screen("table").show(Page([("Findings", NoRows("None."))]))
    assert capsys.readouterr().out == "Findings\nNone.\n"
