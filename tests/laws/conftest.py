from __future__ import annotations

import pytest
from scenario import Scenario
from scenarios import Rehearsed
from world import World


@pytest.fixture
def it(scenario: Scenario, world: World) -> Rehearsed:
    """The scenario, prepared in this test's world."""
    return Rehearsed(scenario, world)
