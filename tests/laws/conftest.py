from __future__ import annotations

import pytest
from scenarios import Rehearsed, Scenario
from world import World


@pytest.fixture
def it(scenario: Scenario, world: World) -> Rehearsed:
    """The scenario, prepared in this test's world."""
    return Rehearsed(scenario, world)
