"""Every command is one of three kinds, and every changing one is rehearsed: so no law can overlook one."""

from __future__ import annotations

from commands import UNIMPORTABLE, changing, lines
from scenarios import SCENARIOS

from opsctl.cli.app import acts, changes, views


def test_every_command_is_one_of_changes_views_and_acts() -> None:
    roles = {words: type(line.role) for words, line in lines().items()}
    assert len(roles) > 20
    assert {words for words, role in roles.items() if role not in (changes, views, acts)} == set()
    assert UNIMPORTABLE == {}


def test_every_changing_command_is_rehearsed() -> None:
    assert {words for words in changing() if not SCENARIOS.get(words)} == set(), "add a scenario to tests/laws/scenarios.py"
    assert set(SCENARIOS) <= set(changing()), "a scenario is of no command"
