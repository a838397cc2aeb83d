"""Changes to snapshots of the database, and tags and states that restores also use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.adapters.aws.snapshots import HOLD, NAME, OURS, STEP, Kind, Snapshot
from opsctl.changes import raw
from opsctl.changes.states import SNAPSHOT
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, InProgress, Pending
from opsctl.errors import ExternalError, Retry
from opsctl.permissions import Permissions, needs

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems

SKEW = timedelta(minutes=5)
"""By how much AWS's clock may be behind ours, when it says that a snapshot which carries our name is an old one."""


def made_by(token: str, id: str) -> dict[str, str]:
    """The tags of this step's snapshot: its run, its number, and the snapshot's name as RDS writes it."""
    run, _, step = token.rpartition("-")
    return {OURS: run, STEP: step, NAME: id.lower()}


def progress(snapshot: Snapshot) -> str:
    """A snapshot's progress, in words."""
    if snapshot.status == "failed":
        return f"snapshot {snapshot.id} has failed"
    return f"snapshot {snapshot.id} is {snapshot.status}" + (f", {snapshot.percent} %" if snapshot.percent is not None else "")


def rds(environment: Environment, operation: str, **how: Any) -> Command:
    """An RDS command, without empty options."""
    given: dict[str, Any] = {name: value for name, value in how.items() if value or value is False}
    return raw.aws(environment, "rds", operation, **given)


def tags(named: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as RDS takes them."""
    return [{"Key": key, "Value": value} for key, value in named.items()]


class CreateSnapshot(Change, frozen=True, kw_only=True):
    """One of our snapshots from after `since` is available: the one called `id`, or one from another run."""

    permissions: ClassVar[Permissions] = needs(
        check="rds:DescribeDBClusterSnapshots rds:DescribeDBSnapshots",
        apply="rds:AddTagsToResource rds:CreateDBClusterSnapshot rds:CreateDBSnapshot",
    )
    poll: ClassVar[float] = 3
    timeout: ClassVar[float] = 6 * 3600
    target_template: ClassVar[str] = "snapshots/{of}"
    summary_template: ClassVar[str] = "create snapshot {id} of {of_kind} {of}"
    irreversible: ClassVar[str] = "a snapshot is kept until it is pruned: opsctl snapshots prune"

    of: str
    of_kind: Kind
    id: str
    since: datetime

    def check(self, read: Systems) -> Finding:
        """Reads the snapshot with that name, then our other snapshots."""
        if named := read.snapshots.find(self.id, self.of_kind):
            return self._finding_by_name(named)
        ours = [s for s in read.snapshots.all(self.of) if s.ours and s.manual and s.kind == self.of_kind]
        young = [s for s in ours if s.created is None or s.created >= self.since]
        for snapshot in young:
            if snapshot.status == "available":
                return Done(f"{snapshot.id} from {snapshot.created:%Y-%m-%d %H:%M} UTC is available", snapshot.created)
        for snapshot in young:
            if snapshot.status == "creating":
                return InProgress(progress(snapshot))
        newest = next((s.created for s in ours if s.created and s.status == "available"), None)
        return Pending(
            1, "snapshots", f"opsctl's newest snapshot is from {newest:%Y-%m-%d %H:%M} UTC" if newest else "opsctl has made no snapshot yet"
        )

    def _finding_by_name(self, found: Snapshot) -> Finding:
        if not found.ours or found.of != self.of:
            return Drifted(f"{self.id} already exists: a snapshot of {found.of} that opsctl didn't create; choose another --id")
        if found.created and found.created < self.since - SKEW:
            return Drifted(f"{self.id} already exists, from {found.created:%Y-%m-%d %H:%M} UTC, which is too old; choose another --id")
        waited = SNAPSHOT.waited(f"snapshot {self.id}", found.status, "snapshots", "delete it, or choose another --id")
        if isinstance(waited, InProgress) and found.status in SNAPSHOT.coming:
            return InProgress(progress(found))
        return waited or Done(f"{self.id} is available", found.created)

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """CreateDBClusterSnapshot or CreateDBSnapshot, with run and step as tags."""
        write.snapshots.create(self.of_kind, self.of, self.id, made_by(token, self.id))
        return {"snapshot": self.id}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 7.1), for a cluster as AWS wants it, with its wait, and with tags so that it can be pruned."""
        ours = tags(made_by("by-hand-0", self.id))
        if self.of_kind == "cluster":
            named = {"DBClusterSnapshotIdentifier": self.id}
            made = rds(environment, "create-db-cluster-snapshot", DBClusterIdentifier=self.of, Tags=ours, **named)
            return [made, rds(environment, "wait db-cluster-snapshot-available", **named)]
        named = {"DBSnapshotIdentifier": self.id}
        made = rds(environment, "create-db-snapshot", DBInstanceIdentifier=self.of, Tags=ours, **named)
        return [made, rds(environment, "wait db-snapshot-available", **named)]


def prunable(snapshot: Snapshot, kind: Kind) -> bool:
    """Whether pruning counts this snapshot: ours, manual, and available. AWS's automated ones are never deleted."""
    return snapshot.ours and snapshot.manual and snapshot.status == "available" and snapshot.kind == kind


class PruneSnapshot(Change, frozen=True, kw_only=True):
    """Snapshot `id` is deleted, unless it is held or among our newest `keep`."""

    permissions: ClassVar[Permissions] = needs(
        check="rds:DescribeDBClusterSnapshots rds:DescribeDBSnapshots",
        apply="rds:DeleteDBClusterSnapshot rds:DeleteDBSnapshot",
    )
    target_template: ClassVar[str] = "snapshots/{of}/{id}"
    summary_template: ClassVar[str] = "delete snapshot {id} of {of}, unless it is on hold or among the newest {keep}"
    irreversible: ClassVar[str] = "a deleted snapshot can't be restored"

    of: str
    of_kind: Kind
    id: str
    keep: int

    def check(self, read: Systems) -> Finding:
        """Counts our newer snapshots again: this one may be needed if somebody else deleted others."""
        found = read.snapshots.all(self.of)
        mine = next((s for s in found if s.id == self.id and s.kind == self.of_kind), None)
        if mine is None and read.snapshots.find(self.id, self.of_kind):
            raise ExternalError(f"RDS has the snapshot {self.id}, but doesn't list it among those of {self.of}.", Retry("Wait a moment"))
        if mine is None:
            return Done(f"{self.id} is deleted: RDS has no snapshot of that name")
        if mine.held is not None:
            return Done(f"kept: it is on hold{': ' if mine.held else ''}{mine.held}")
        if mine.status == "deleting":
            return InProgress(progress(mine))
        if not prunable(mine, self.of_kind):
            return Drifted(f"{self.id} is now {mine.status} and {'' if mine.ours else 'not '}created by opsctl")
        free = [s.id for s in found if prunable(s, self.of_kind) and s.held is None]
        if free.index(self.id) < self.keep:
            return Done(f"kept: it is number {free.index(self.id) + 1} of opsctl's snapshots, counted from the newest")
        return Pending(1, "snapshots", f"created {mine.created:%Y-%m-%d %H:%M} UTC, {mine.size} GiB")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """DeleteDBClusterSnapshot or DeleteDBSnapshot."""
        write.snapshots.delete(self.of_kind, self.id)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The AWS command, if the snapshot is still ours and nobody holds it."""
        word = "cluster-" if self.of_kind == "cluster" else ""
        key, name = ("DBClusterSnapshots", "DBClusterSnapshotIdentifier") if word else ("DBSnapshots", "DBSnapshotIdentifier")
        look = rds(environment, f"describe-db-{word}snapshots", **{name: self.id})
        marked = f"length({key}[0].TagList[?Key=='{{}}'])"
        return [
            *raw.as_reviewed(look, marked.format(OURS), "1", f"The number of opsctl tags on {self.id}"),
            *raw.as_reviewed(look, marked.format(HOLD), "0", f"The number of hold tags on {self.id}"),
            rds(environment, f"delete-db-{word}snapshot", **{name: self.id}),
        ]
