"""`opsctl snapshots`: snapshots of the database, and copies that are restored from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.cli.types import DURATION
from opsctl.contract import Change, Planning
from opsctl.errors import NotFound, Refused

if TYPE_CHECKING:
    from opsctl.adapters.aws.snapshots import Kind, RdsDatabase, Snapshot, Surroundings
    from opsctl.systems import Systems

DAY = 86_400

snapshots = group("snapshots")


class NameType(click.ParamType[str]):
    """A name that RDS takes: letters, digits and single hyphens, the first a letter; RDS lowers it, and so do we."""

    name = "name"

    def __init__(self, most: int) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises a usage error for anything else."""
        if not re.fullmatch(r"[A-Za-z](-?[A-Za-z0-9])*", value) or len(value) > self.most:
            self.fail(f"{value!r} is no name: letters, digits and single hyphens, the first a letter, at most {self.most}.", param, ctx)
        return str(value.lower())


SNAPSHOT_NAME = NameType(255)
COPY_NAME = NameType(61)
"""An instance's name has at most 63; that of a cluster's instance is two longer than the cluster's."""


@snapshots.command()
@requires("rds:DescribeDBClusterSnapshots rds:DescribeDBClusters", changes="create-snapshot")
@click.option("--id", "name", type=SNAPSHOT_NAME, metavar="ID", help="The snapshot's name; by default the configured prefix and the time.")
@click.option(
    "--max-age",
    type=DURATION,
    default="24h",
    show_default=True,
    help="Use opsctl's last snapshot if it is younger than this; 0s: always create one.",
)
@click.option("--of", metavar="NAME", help="The cluster or instance to copy; by default the configured database.")
@mutating
def create(planning: Planning, name: str | None, max_age: timedelta, of: str | None) -> Iterator[Change]:
    """Create a snapshot of the database and wait until it is available. If opsctl created one recently, that one is used.

    Examples:
        opsctl snapshots create -n
        opsctl snapshots create --id before-upgrade --max-age 0s
    """
    from opsctl.changes.snapshots import CreateSnapshot

    source = source_of(planning.systems, of)
    if name:
        free_of_failure(planning.systems, name, source.kind)
    now = planning.now
    yield CreateSnapshot(
        of=source.id,
        of_kind=source.kind,
        id=name or f"{planning.systems.config.snapshots.prefix}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03}",
        since=planning.follows or (now if planning.again else now - max_age),
    )


def source_of(systems: Systems, of: str | None) -> RdsDatabase:
    """The cluster or instance to make snapshots of; raises NotFound, and Refused for a member of a cluster."""
    name = of or configured(systems)
    found = systems.snapshots.place(name)
    if found is None:
        raise NotFound(f"There is no cluster and no instance {name!r}.", "opsctl status names what there is.")
    if found.cluster:
        raise Refused(
            f"{name} is a member of cluster {found.cluster}, and AWS makes snapshots of the whole cluster only.",
            f"Name the cluster: --of {found.cluster}",
        )
    return found


def free_of_failure(systems: Systems, name: str, kind: Kind) -> None:
    """Raise Refused where a snapshot of this name has failed: it keeps its name until somebody deletes it."""
    from opsctl.changes.snapshots import progress

    found = systems.snapshots.find(name, kind)
    if found is not None and found.status == "failed":
        what = "db-cluster-snapshot" if kind == "cluster" else "db-snapshot"
        delete = f"aws rds delete-{what} --{what}-identifier {found.id} --region {systems.environment.aws.region}"
        raise Refused(f"{progress(found)}, and keeps its name.".capitalize(), f"Give another --id, or delete it: {delete}")


def configured(systems: Systems) -> str:
    """The name of the configured database in RDS."""
    settings = systems.environment.database
    return str(settings.cluster or settings.instance)


@snapshots.command("list")
@requires("rds:DescribeDBClusterSnapshots rds:DescribeDBSnapshots")
@click.option("--of", metavar="NAME", help="Snapshots of this cluster or instance; by default the configured database.")
@click.option("--all", "everything", is_flag=True, help="Snapshots of every database, and AWS's automated ones too.")
@read_only
def list_(systems: Systems, of: str | None, everything: bool) -> list[dict[str, Any]]:
    """List snapshots, the newest first: state, age, and which opsctl created.

    Examples:
        opsctl snapshots list
        opsctl snapshots list --all
    """
    if of:
        source_of(systems, of)
    found = systems.snapshots.all(of or (None if everything else configured(systems)))
    if not found and not everything:
        # RDS answers the same for a name that it doesn't know.
        source_of(systems, of)
    now = systems.now()
    return [_row(snapshot, now) for snapshot in found if everything or snapshot.manual]


def _row(snapshot: Snapshot, now: datetime) -> dict[str, Any]:
    return {
        "snapshot": snapshot.id,
        "of": snapshot.of,
        "kind": snapshot.kind,
        "status": snapshot.status,
        "percent": snapshot.percent,
        "created": snapshot.created,
        "age": _age(now - snapshot.created) if snapshot.created else None,
        "size_gib": snapshot.size,
        "encrypted": snapshot.encrypted,
        "made_by": _maker(snapshot),
        "ours": snapshot.ours,
        "hold": None if snapshot.held is None else snapshot.held or "yes",
    }


def _maker(snapshot: Snapshot) -> str:
    if snapshot.ours:
        return f"opsctl, run {snapshot.tags['opsctl']}"
    return "somebody" if snapshot.manual else "AWS"


def _age(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    unit, size = next((u, s) for u, s in (("d", DAY), ("h", 3600), ("m", 60), ("s", 1)) if seconds >= 2 * s or s == 1)
    return f"{seconds // size}{unit}"


@snapshots.command()
@requires(
    "rds:DescribeDBClusterSnapshots rds:DescribeDBClusters[any] rds:DescribeDBInstances[any] rds:DescribeDBSnapshots",
    changes="add-instance enable-data-api restore-cluster restore-instance",
)
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--to", required=True, type=COPY_NAME, metavar="INSTANCE", help="The new database's name; it must not exist yet.")
@click.option("--like", metavar="NAME", help="Copy network and parameters from this database; by default from the snapshot's database.")
@mutating
def restore(planning: Planning, snapshot: str, to: str, like: str | None) -> Iterator[Change]:
    """Restore a snapshot into a new database in the same network, closed to the internet, and run a test query.

    Examples:
        opsctl snapshots restore before-upgrade --to restored-1 -n
    """
    from opsctl.changes.restores import AddInstance, EnableDataApi, RestoreCluster, RestoreInstance

    systems = planning.systems
    found = systems.snapshots.find(snapshot)
    if found is None:
        raise NotFound(f"There is no snapshot {snapshot!r}.", "opsctl snapshots list --all")
    origin: dict[str, Any] = {"name": to, "snapshot": found.id, "origin": found.origin, "like": surroundings(systems, found, like)}
    if found.kind == "instance":
        yield RestoreInstance(**origin)
        return
    arn = f"{found.arn.partition(':cluster-snapshot:')[0]}:cluster:{to}"
    yield RestoreCluster(**origin)
    if systems.environment.database.driver == "rds-data":
        yield EnableDataApi(**origin, arn=arn)
    yield AddInstance(**origin, id=f"{to}-1", arn=arn)


def surroundings(systems: Systems, snapshot: Snapshot, like: str | None) -> Surroundings:
    """What the copy takes over; raises Refused where there is nothing to take it from, or it is of another kind."""
    name = like or snapshot.of
    found = systems.snapshots.surroundings(name, snapshot.kind)
    if found is None:
        raise Refused(
            f"There is no {snapshot.kind} {name} whose network and parameters the copy of {snapshot.id} could take over.",
            f"Name a {snapshot.kind} that is like it: --like NAME",
        )
    if snapshot.kind == "cluster" and not snapshot.engine.startswith("aurora"):
        raise Refused(
            f"{snapshot.id} is of a Multi-AZ cluster ({snapshot.engine}), which opsctl doesn't restore.",
            "aws rds restore-db-cluster-from-snapshot help",
        )
    return found


@snapshots.command()
@requires("rds:DescribeDBClusterSnapshots rds:DescribeDBClusters rds:DescribeDBSnapshots", changes="prune-snapshot")
@click.option("--keep", required=True, type=click.IntRange(1), metavar="N", help="How many of opsctl's newest snapshots to keep.")
@click.option("--of", metavar="NAME", help="Snapshots of this cluster or instance; by default the configured database.")
@mutating
def prune(planning: Planning, keep: int, of: str | None) -> Iterator[Change]:
    """Delete the oldest snapshots that opsctl created, for good.

    Snapshots of AWS or of other people, and those tagged hold, are never deleted.

    Examples:
        opsctl snapshots prune --keep 7 -n
    """
    from opsctl.changes.snapshots import PruneSnapshot, prunable

    source = source_of(planning.systems, of)
    ours = [s for s in planning.systems.snapshots.all(source.id) if prunable(s, source.kind)]
    yield from (PruneSnapshot(of=source.id, of_kind=source.kind, id=s.id, keep=keep) for s in reversed(ours))
