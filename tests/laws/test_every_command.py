"""Every command is one of three kinds, and every changing one is rehearsed: so no law can overlook one."""

from __future__ import annotations

from commands import UNIMPORTABLE, changing, lines
from scenarios import SCENARIOS


def test_every_command_is_mutating_read_only_or_local() -> None:
    kinds = {words: line.kind for words, line in lines().items()}
    assert len(kinds) > 20
    assert {words for words, kind in kinds.items() if kind not in ("mutating", "read-only", "local")} == set()
    assert UNIMPORTABLE == {}


def test_every_changing_command_is_rehearsed() -> None:
    assert {words for words in changing() if not SCENARIOS.get(words)} == set(), "add a scenario to tests/laws/scenarios.py"
    assert set(SCENARIOS) <= set(changing()), "a scenario is of no command"
