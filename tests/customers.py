"""What the tests of HH's commands share: the contacts that they meet, and how a command is read."""

from __future__ import annotations

from typing import Any

from terminal import Result
from world import World

FIRST = 156855158284
ONE, TWO, DISABLED = (str(FIRST + n) for n in (1, 2, 9))


def told(world: World, *line: str, code: int = 0) -> Any:
    """What a command prints as JSON, once it has left with that exit code."""
    return world.opsctl("-o", "json", *line, check=code).json


def refusal(result: Result, code: int) -> str:
    """The one line that says why a command failed, with one below it of what to do next, and no traceback."""
    said = result.err.splitlines()
    lines = [line for line in said if line.startswith("opsctl: ")]
    assert result.code == code, str(result)
    assert len(lines) == 1, str(result)
    assert "Traceback" not in result.err, str(result)
    assert "defect" not in result.err, str(result)
    assert said[-1].startswith("  next: "), str(result)
    return lines[0]


def steps(result: Result) -> list[dict[str, Any]]:
    """The changes of a command's JSON."""
    found: list[dict[str, Any]] = result.json["changes"]
    return found
