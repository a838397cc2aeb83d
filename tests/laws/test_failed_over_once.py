"""Law 4 for an instance by itself: AWS takes a second reboot with failover for a second wish, so that it must never be sent twice."""

from __future__ import annotations

import pytest
import test_killed_anywhere as killed
from scenario import Scenario
from scenarios import Rehearsed
from world import World

INSTANCE = "safawinet-reports"


def alone(world: World) -> None:
    """The application's database is a Multi-AZ instance."""
    world.configure(replace={'cluster = "safawinet-prod"\nname': f'instance = "{INSTANCE}"\nname'})


def swapped(world: World) -> bool:
    """Whether it works in its other zone, after one failover."""
    instance = world.aws("rds").describe_db_instances(DBInstanceIdentifier=INSTANCE)["DBInstances"][0]
    done = [message for message in world.failovers() if "completed" in message]
    return instance["AvailabilityZone"] == "us-east-1b" and len(done) == 1


@pytest.mark.exhaustive
def test_an_instance_killed_anywhere_has_swapped_its_zone_once(world: World) -> None:
    it = Rehearsed(Scenario("database failover", swapped, prepare=alone), world)
    killed.test_killed_anywhere_it_ends_as_if_undisturbed(it)
