"""`opsctl snapshots`: what is refused, waited for, left alone, and proven."""

from __future__ import annotations

import json
import shlex
from typing import Any

from terminal import Result
from world import CLUSTER, World

BY_HAND = "before-the-upgrade"
OURS = {"opsctl": "a-former-run", "opsctl-step": "1"}
COPY = ("--to", "safawinet-restore")
ALONE = {"DBInstanceIdentifier": "safawinet-alone", "DBInstanceClass": "db.t4g.small", "Engine": "postgres", "AllocatedStorage": 20}

WRONG = [
    ("create --id no_name", 2, "is no name"),
    ("create --id 1st", 2, "is no name"),
    ("create --id ends-", 2, "is no name"),
    ("create --max-age 0", 2, "expected a duration"),
    ("create --max-age -1h", 2, "expected a duration"),
    ("create --of nothing", 1, "no instance 'nothing'"),
    (f"create --of {CLUSTER}-2", 4, "is a member of cluster"),
    (f"create --id {BY_HAND}", 4, "opsctl didn't create"),
    ("prune --keep 0", 2, "0 is not in the range"),
    ("prune --keep -1", 2, "not in the range"),
    ("prune", 2, "Missing option '--keep'"),
    ("prune --keep 1 --of nothing", 1, "no instance 'nothing'"),
    ("list --of nothing", 1, "no instance 'nothing'"),
    ("restore nothing --to copy", 1, "no snapshot 'nothing'"),
    ("restore '' --to copy", 2, "'SNAPSHOT': it is empty"),
    ("prune --keep 1 --of ''", 2, "'--of': it is empty"),
    ("create --of ''", 2, "'--of': it is empty"),
    ("list --of ''", 2, "'--of': it is empty"),
    (f"restore {BY_HAND}", 2, "Missing option '--to'"),
    (f"restore {BY_HAND} --to {'x' * 62}", 2, "is no name"),
    (f"restore {BY_HAND} --to {CLUSTER}", 4, "already exists"),
    (f"restore {BY_HAND} --to copy --like nothing", 4, "no cluster nothing"),
]
"""What is typed wrong: the line, its exit code, and what is said."""


def told(result: Result) -> str:
    """The one line of what happened; there is one of what to do next."""
    assert "Traceback" not in result.err
    return next(line for line in result.err.splitlines() if line.startswith("opsctl:"))


def listed(world: World, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world.opsctl("-o", "json", "snapshots", "list", *args, check=0).out)
    return found


def make(world: World, name: str, of: str = CLUSTER, **tags: str) -> None:
    """Somebody makes a snapshot."""
    given = [{"Key": key, "Value": value} for key, value in tags.items()]
    world.aws("rds").create_db_cluster_snapshot(DBClusterIdentifier=of, DBClusterSnapshotIdentifier=name, Tags=given)


def alone(world: World) -> None:
    """An instance that is in no cluster."""
    world.aws("rds").create_db_instance(**ALONE, MasterUsername="postgres", MasterUserPassword="never-used-to-log-in")


def being_made(world: World) -> None:
    """A world in which snapshots take longer than a test."""
    world.opsctl("sandbox", "up", "--tempo", "100", check=0)


def test_what_is_wrong_is_said_and_nothing_is_done(world: World) -> None:
    before = world.snapshot(sessions=False)
    for line, code, said in WRONG:
        yes = [] if line.startswith("list") else ["-y"]
        result = world.opsctl("snapshots", *shlex.split(line), *yes, check=code)
        assert said in result.err, line
        assert "Traceback" not in result.err, line
    assert world.snapshot(sessions=False) == before


def test_a_young_one_will_do_and_an_old_or_a_foreign_one_will_not(world: World) -> None:
    make(world, "theirs")
    first = world.opsctl("-o", "json", "snapshots", "create", "--id", "Mine", "-y", check=0).json
    assert first["changes"][0]["evidence"] == {"snapshot": "mine"}
    assert world.opsctl("-o", "json", "snapshots", "create", "-y", check=0).json["result"] == "unchanged"
    assert world.opsctl("-o", "json", "snapshots", "create", "--max-age", "0s", "-n", check=3).json["result"] == "would-change"
    assert world.opsctl("-o", "json", "snapshots", "create", "--again", "-n", check=3).json["result"] == "would-change"
    rows = {row["snapshot"]: row for row in listed(world)}
    assert list(rows) == ["mine", "theirs", BY_HAND]
    assert rows["mine"]["made_by"] == f"opsctl, run {first['run']}"
    assert (rows["theirs"]["made_by"], rows["theirs"]["hold"], rows[BY_HAND]["age"]) == ("somebody", None, "30d")
    everything = {row["snapshot"]: row["made_by"] for row in listed(world, "--all")}
    assert "AWS" in everything.values()


def test_one_that_another_run_makes_is_waited_for(world: World) -> None:
    being_made(world)
    try:
        begun = world.opsctl("-o", "json", "snapshots", "create", "--no-wait", "-y", check=6).json
        assert begun["result"] == "unknown"
        (row,) = [row for row in listed(world) if row["status"] == "creating"]
        assert row["percent"] == 0
        planned = world.opsctl("-o", "json", "snapshots", "create", "-n", check=3).json
        assert (planned["changes"][0]["state"], planned["changes"][0]["impact"]["count"]) == ("pending", 0)
        assert "is creating, 0 %" in planned["changes"][0]["why"]
        refused = world.opsctl("snapshots", "restore", row["snapshot"], *COPY, "-y", check=4)
        assert "can't be restored yet" in told(refused)
        begun = world.opsctl("-o", "json", "snapshots", "restore", BY_HAND, *COPY, "--no-wait", "-y", check=6).json
        assert [change["state"] for change in begun["changes"]] == ["unknown", "pending"], "a cluster that is made takes no instance yet"
    finally:
        world.opsctl("sandbox", "up", "--tempo", "0", check=0)


def test_one_that_failed_is_said_restored_never_and_made_anew_under_another_name(world: World) -> None:
    world.opsctl("sandbox", "fault", "snapshot", check=0)
    assert "snapshot one failed" in told(world.opsctl("snapshots", "create", "--id", "one", "-y", check=1))
    assert "has failed" in told(world.opsctl("snapshots", "restore", "one", *COPY, "-y", check=4))
    for way in ("-n", "-y"):
        refused = world.opsctl("snapshots", "create", "--id", "one", way, check=4)
        assert "snapshot one has failed" in told(refused).lower()
        assert "delete-db-cluster-snapshot --db-cluster-snapshot-identifier one" in refused.err
    assert world.opsctl("-o", "json", "snapshots", "create", "-y", check=0).json["result"] == "changed"


def test_an_instance_that_stands_alone_has_snapshots_of_its_own_kind(world: World) -> None:
    alone(world)
    made = world.opsctl("-o", "json", "snapshots", "create", "--of", "safawinet-alone", "--id", "r1", "-y", check=0).json
    assert "instance safawinet-alone" in made["changes"][0]["summary"]
    (row,) = listed(world, "--of", "safawinet-alone")
    assert (row["kind"], row["size_gib"]) == ("instance", 20)
    done = world.opsctl("-o", "json", "snapshots", "restore", "r1", *COPY, "-y", check=0).json
    assert [change["kind"] for change in done["changes"]] == ["restore-instance"]
    (copy,) = world.aws("rds").describe_db_instances(DBInstanceIdentifier=COPY[1])["DBInstances"]
    assert {tag["Key"]: tag["Value"] for tag in copy["TagList"]}["opsctl-restored-by"] == f"{done['run']}-1"
    assert world.opsctl("-o", "json", "snapshots", "restore", "r1", *COPY, "-y", check=0).json["result"] == "unchanged"
    world.opsctl("snapshots", "create", "--of", "safawinet-alone", "--id", "r2", "--max-age", "0s", "-y", check=0)
    world.opsctl("snapshots", "prune", "--of", "safawinet-alone", "--keep", "1", "-y", check=0)
    assert [row["snapshot"] for row in listed(world, "--of", "safawinet-alone")] == ["r2"]


def test_a_copy_of_a_former_snapshot_of_that_name_is_not_taken_for_one_of_this(world: World) -> None:
    make(world, "one")
    plan = str(world.home / "plan.json")
    restore = ("snapshots", "restore", "one")
    world.opsctl(*restore, "--to", "another", "-n", "--save", plan, check=3)
    world.opsctl(*restore, *COPY, "-y", check=0)
    world.aws("rds").delete_db_cluster_snapshot(DBClusterSnapshotIdentifier="one")
    make(world, "one")
    assert f"{COPY[1]} already exists" in told(world.opsctl(*restore, *COPY, "-y", check=4))
    assert "has been replaced since the plan" in told(world.opsctl("apply", plan, "-y", check=4))
    world.opsctl(*restore, "--to", "another", "-y", check=0)
    assert world.opsctl("-o", "json", *restore, "--to", "another", "-y", check=0).json["result"] == "unchanged"


def test_held_and_foreign_ones_stay_and_one_whose_newer_ones_are_gone_does_too(world: World) -> None:
    for name in ("one", "two", "three"):
        make(world, name, **OURS, **{"opsctl-name": name})
    make(world, "held", **OURS, **{"opsctl-name": "held"}, hold="")
    plan = str(world.home / "plan.json")
    planned = world.opsctl("-o", "json", "snapshots", "prune", "--keep", "2", "-n", "--save", plan, check=3).json
    assert [(c["target"].rpartition("/")[2], c["state"]) for c in planned["changes"]] == [
        ("one", "pending"),
        ("two", "done"),
        ("three", "done"),
        ("held", "done"),
    ]
    world.aws("rds").delete_db_cluster_snapshot(DBClusterSnapshotIdentifier="three")
    applied = world.opsctl("-o", "json", "apply", plan, "-y", check=0).json
    assert applied["result"] == "unchanged"
    assert "kept: it is number 2" in applied["changes"][0]["why"]
    assert {row["snapshot"] for row in listed(world)} == {"one", "two", "held", BY_HAND}


def test_what_somebody_made_of_a_copy_is_not_ours_whatever_tags_aws_copies_from_it(world: World) -> None:
    client, copy = world.aws("rds"), COPY[1]
    world.opsctl("snapshots", "restore", BY_HAND, *COPY, "-y", check=0)
    client.modify_db_cluster(DBClusterIdentifier=copy, CopyTagsToSnapshot=True)
    (arn,) = (c["DBClusterArn"] for c in client.describe_db_clusters(DBClusterIdentifier=copy)["DBClusters"])
    for name, tags in (("by-hand-1", {}), ("by-hand-2", OURS), ("by-hand-3", {"opsctl-name": "a-former-one"})):
        client.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
        client.create_db_cluster_snapshot(DBClusterIdentifier=copy, DBClusterSnapshotIdentifier=name)
    assert {row["made_by"] for row in listed(world, "--of", copy)} == {"somebody"}
    create = ("-o", "json", "snapshots", "create", "--of", copy)
    for name in ("one", "two"):
        assert world.opsctl(*create, "--id", name, "--again", "-y", check=0).json["result"] == "changed"
    assert world.opsctl(*create, "-y", check=0).json["result"] == "unchanged", "ours, with what AWS has copied onto it"
    world.opsctl("snapshots", "prune", "--of", copy, "--keep", "1", "-y", check=0)
    assert [row["snapshot"] for row in listed(world, "--of", copy)] == ["two", "by-hand-3", "by-hand-2", "by-hand-1"]


def test_a_copy_is_asked_over_the_data_api_where_that_is_the_driver(world: World) -> None:
    world.configure({'driver = "postgres"': 'driver = "rds-data"'})
    done = world.opsctl("-o", "json", "snapshots", "restore", BY_HAND, *COPY, "-y", check=0).json
    assert [change["kind"] for change in done["changes"]] == ["restore-cluster", "enable-data-api", "add-instance"]
    assert "answers: 1,000 or more rows in users" in done["changes"][-1]["why"]
    assert world.opsctl("-o", "json", "snapshots", "restore", BY_HAND, *COPY, "-y", check=0).json["result"] == "unchanged"


def test_a_copy_that_cannot_be_asked_is_there_and_not_proven(world: World) -> None:
    world.rotate("safawinet/prod/database-reader", "password", "rotated-since-the-snapshot-was-made")
    for _ in range(2):
        failed = world.opsctl("snapshots", "restore", BY_HAND, *COPY, "-y", check=1)
        assert "is available but can't be queried" in told(failed)
    assert [m["DBInstanceIdentifier"] for m in world.aws("rds").describe_db_instances()["DBInstances"]].count(f"{COPY[1]}-1") == 1


def test_the_network_of_another_is_taken_where_the_old_database_is_gone(world: World) -> None:
    client = world.aws("rds")
    copy = {"Engine": "aurora-postgresql", "DBClusterIdentifier": "gone"}
    client.restore_db_cluster_from_snapshot(SnapshotIdentifier=BY_HAND, **copy)
    make(world, "of-gone", "gone")
    client.delete_db_cluster(DBClusterIdentifier="gone", SkipFinalSnapshot=True)
    assert "--like NAME" in world.opsctl("snapshots", "restore", "of-gone", *COPY, "-y", check=4).err
    world.opsctl("snapshots", "restore", "of-gone", *COPY, "--like", CLUSTER, "-y", check=0)


def test_throttling_is_waited_out_and_a_lost_answer_looked_up(world: World) -> None:
    world.fault("aws", "rds.CreateDBClusterSnapshot", "throttle", times=2)
    assert world.opsctl("-o", "json", "snapshots", "create", "--id", "one", "-y", check=0).json["result"] == "changed"
    world.fault("aws", "rds.RestoreDBClusterFromSnapshot", "timeout-after-effect")
    assert world.opsctl("-o", "json", "snapshots", "restore", "one", *COPY, "-y", check=0).json["result"] == "changed"
