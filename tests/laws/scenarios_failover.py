"""Rehearsals of the database's failover."""

from __future__ import annotations

from collections.abc import Callable

from scenario import Scenario
from world import CLUSTER, World


def writer(name: str) -> Callable[[World], bool]:
    """Whether an instance is the cluster's writer, after one failover and no more, and the application's login can write."""

    def so(world: World) -> bool:
        completed = [message for message in world.failovers() if message.startswith("Completed")]
        with world.database() as connection:
            connection.execute("CREATE TEMPORARY TABLE one ON COMMIT DROP AS SELECT 1")
        return world.writer() == name and completed == [f"Completed failover to DB instance: {name}"]

    return so


def somebody_else(name: str) -> Callable[[World], None]:
    """Somebody else fails over to another reader."""
    return lambda world: world.aws("rds").failover_db_cluster(DBClusterIdentifier=CLUSTER, TargetDBInstanceIdentifier=name)


SCENARIOS = {
    "database failover": [
        Scenario("database failover", writer(f"{CLUSTER}-2")),
        Scenario(
            f"database failover --to {CLUSTER}-3",
            writer(f"{CLUSTER}-3"),
            meddle=somebody_else(f"{CLUSTER}-2"),
            variant=True,
        ),
    ]
}
