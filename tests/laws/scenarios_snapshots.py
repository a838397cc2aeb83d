"""Rehearsals of the commands that make, restore and prune snapshots, and of the one that announces maintenance."""

from __future__ import annotations

from collections.abc import Callable

from scenario import Scenario
from world import CLUSTER, World

BY_HAND = "before-the-upgrade"
COPY = "safawinet-restore"
SAID = "Scheduled maintenance in 30 minutes"


def ours(world: World) -> list[str]:
    """The snapshots that opsctl has made and that are whole, the oldest first."""
    found = world.aws("rds").describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]
    mine = [s for s in found if s["Status"] == "available" and "opsctl" in {tag["Key"] for tag in s["TagList"]}]
    return [s["DBClusterSnapshotIdentifier"] for s in sorted(mine, key=lambda s: s["SnapshotCreateTime"])]


def make(name: str, **tags: str) -> Callable[[World], None]:
    """Somebody makes a snapshot, or, by its tags, a former run."""

    def prepare(world: World) -> None:
        named = {**tags, "opsctl-name": name} if "opsctl" in tags else tags
        given = [{"Key": key, "Value": value} for key, value in named.items()]
        world.aws("rds").create_db_cluster_snapshot(DBClusterIdentifier=CLUSTER, DBClusterSnapshotIdentifier=name, Tags=given)

    return prepare


def make_several(world: World) -> None:
    """Three of ours, the first of them held; the last two are free."""
    make("held-1", opsctl="a-former-run", hold="the auditors")(world)
    for number in (2, 3):
        make(f"free-{number}", opsctl="a-former-run")(world)


def take_for_theirs(world: World) -> None:
    """Somebody takes our mark off the oldest free one."""
    client = world.aws("rds")
    found = client.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier="free-2")["DBClusterSnapshots"][0]
    client.remove_tags_from_resource(ResourceName=found["DBClusterSnapshotArn"], TagKeys=["opsctl"])


def restored(world: World) -> bool:
    """Whether the copy is there, once, with its instance, closed and in the old one's network."""
    client = world.aws("rds")
    old, copy = (client.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0] for name in (CLUSTER, COPY))
    (member,) = copy["DBClusterMembers"]
    instance = client.describe_db_instances(DBInstanceIdentifier=member["DBInstanceIdentifier"])["DBInstances"][0]
    like = ("DBSubnetGroup", "DBClusterParameterGroup", "VpcSecurityGroups", "Port", "Engine")
    whole = copy["Status"] == instance["DBInstanceStatus"] == "available" and member["IsClusterWriter"]
    return whole and not instance["PubliclyAccessible"] and all(copy[key] == old[key] for key in like)


def is_restored(world: World) -> bool:
    """Whether the copy is there and as it must be."""
    names = [each["DBClusterIdentifier"] for each in world.aws("rds").describe_db_clusters()["DBClusters"]]
    return names.count(COPY) == 1 and restored(world)


def restore_by_hand(world: World) -> None:
    """Somebody takes the copy's name."""
    world.aws("rds").restore_db_cluster_from_snapshot(DBClusterIdentifier=COPY, SnapshotIdentifier=BY_HAND, Engine="aurora-postgresql")


def announced(world: World) -> bool:
    """Whether users were told, once."""
    return [(each["message"], each["duration"]) for each in world.announcements()] == [(SAID, "2 hours")]


SCENARIOS = {
    "snapshots create": [
        Scenario("snapshots create", lambda world: len(ours(world)) == 1),
        Scenario(
            "snapshots create --id before-lunch", lambda world: ours(world) == ["before-lunch"], meddle=make("before-lunch"), variant=True
        ),
    ],
    "snapshots restore": [Scenario(f"snapshots restore {BY_HAND} --to {COPY}", is_restored, meddle=restore_by_hand)],
    "snapshots prune": [
        Scenario(
            "snapshots prune --keep 1", lambda world: ours(world) == ["held-1", "free-3"], prepare=make_several, meddle=take_for_theirs
        )
    ],
    "maintenance announce": [Scenario(f"maintenance announce --message '{SAID}' --duration 2h", announced, blind=True)],
}
