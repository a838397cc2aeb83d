"""What a person reads before saying yes is the text that was reviewed: each scenario's plan is kept in `tests/snapshots/`.

`make snapshots` writes the files anew; `git diff` then shows what changed for the reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from scenario import Scenario
from scenarios import SCENARIOS, Prepared, rehearsed
from world import World

FOLDER = Path(__file__).parents[1] / "snapshots"
BEGIN = "$ opsctl "
VOLATILE = [
    (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
    (r"\b(version|ghcr) [0-9a-f]{8}\b", r"\1 <version>"),
    (r"\b[0-9a-f]{6}-[0-9a-f]{12}\b", "<fingerprint>"),
    (r"\b[0-9a-f]{12}\b", "<digest>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| UTC|\+00:00)?", "<time>"),
    (r"\b\d{8}-\d{6}(?:-\d+)?\b", "<time>"),
    (r"(replica lag of \S+): \d+ ms", r"\1: <lag>"),
    (r"\(\d+ now\)", "(<count> now)"),
    (r"\b\d+ safawinet-api\b(.*?), \d+ s\b", r"<pid> safawinet-api\1, <age>"),
    (r"(?<=, <age>: ).*?(?= -> )", "<queries>"),
    (
        r"of \d+ addresses sampled in the last 300 s, \d+ sent more \(\d+%",
        "of <count> addresses sampled in the last 300 s, <count> sent more (<share>",
    ),
]
"""What differs from run to run, and what stands for it."""


@pytest.mark.every_case
@pytest.mark.parametrize("scenario", [pytest.param(one, id=one.line.replace("/", ":")) for _, one in rehearsed()])
def test_a_plan_reads_as_it_was_reviewed(scenario: Scenario, world: World, request: pytest.FixtureRequest) -> None:
    it = Prepared(scenario, world)
    plain = {**it.env, "COLUMNS": "100", "NO_COLOR": "1"}
    shown = world.opsctl(*it.words, "-n", input=scenario.stdin, env=plain, check=3)
    text = normal(f"{shown.out}{shown.err}", str(world.home))
    path = FOLDER / f"{command_of(scenario).replace(' ', '-')}.txt"
    held = read(path)
    if request.config.getoption("renew"):
        write(path, {**held, scenario.line: text})
    else:
        assert held.get(scenario.line) == text, "the plan reads otherwise: look at it, then `make snapshots`"


def test_every_snapshot_is_of_a_scenario() -> None:
    lines = {(f"{command.replace(' ', '-')}.txt", one.line) for command, one in rehearsed()}
    assert {(path.name, line) for path in FOLDER.iterdir() for line in read(path)} == lines


def command_of(scenario: Scenario) -> str:
    return next(command for command, found in SCENARIOS.items() if scenario in found)


def normal(text: str, home: str) -> str:
    """The text without what differs from run to run and without spaces at the ends of lines."""
    text = text.replace(home, "<home>")
    for pattern, placeholder in VOLATILE:
        text = re.sub(pattern, placeholder, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def read(path: Path) -> dict[str, str]:
    """The texts of a file by the lines that show them."""
    if not path.exists():
        return {}
    parts = ("\n" + path.read_text()).split(f"\n{BEGIN}")[1:]
    return {line: text.rstrip("\n") for line, _, text in (part.partition("\n") for part in parts)}


def write(path: Path, texts: dict[str, str]) -> None:
    """Keep the texts, in the order of the scenarios."""
    order: Callable[[str], int] = [one.line for _, one in rehearsed()].index
    path.write_text("\n\n".join(f"{BEGIN}{line}\n{texts[line]}" for line in sorted(texts, key=order)) + "\n")
