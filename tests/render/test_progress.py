"""What a log or a pipe gets of a run's progress."""

from types import SimpleNamespace
from typing import Any

import pytest

from opsctl.render.progress import Progress


def step(name: str) -> Any:
    return SimpleNamespace(change=SimpleNamespace(target=name))


def test_two_steps_that_wait_at_once_say_the_same_thing_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    progress, one, two = Progress(live=False, monotonic=lambda: 0.0), step("one"), step("two")
    for _ in range(5):
        progress.step_waiting(one, "1 of 2")
        progress.step_waiting(two, "2 of 3")
    progress.step_waiting(one, "2 of 2")
    assert capsys.readouterr().err.splitlines() == ["  … one: 1 of 2 (0 s)", "  … two: 2 of 3 (0 s)", "  … one: 2 of 2 (0 s)"]
