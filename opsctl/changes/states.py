"""The states of resources, as each API lists them: in progress, good, or final. An unlisted state is reported, and waited for.

Sources: "Viewing Amazon RDS DB instance status", "Viewing DB cluster status" and "Viewing DB snapshot status" (RDS and Aurora user guides);
the models of Secrets Manager (StatusType) and Lambda (LastUpdateStatus).
"""

from __future__ import annotations

from msgspec import Struct

from opsctl.contract import Failed, InProgress


class States(Struct, frozen=True):
    """The state names of one kind of resource in an API."""

    good: frozenset[str]
    coming: frozenset[str]
    final: frozenset[str]

    def waited(self, name: str, state: str, unit: str, next: str = "") -> InProgress | Failed | None:
        """A finding for a state: None if it is good, InProgress, or Failed with `next` as the advice."""
        if state in self.good:
            return None
        if state in self.final:
            what = f"{name} failed" if state.lower() == "failed" else f"{name} is {state}; waiting doesn't change that"
            return Failed(f"{what}{f'; {next}' if next else ''}", 1, unit)
        return InProgress(f"{name} is {state}" if state in self.coming else f"{name} is {state}, a state that opsctl doesn't know")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DATABASE = States(
    good=_words("available"),
    coming=_words("""
        backing-up backtracking configuring-activity-stream configuring-associated-roles configuring-enhanced-monitoring
        configuring-iam-database-auth configuring-log-exports converting-to-vpc creating failing-over maintenance migrating modifying
        moving-to-vpc preparing-data-migration promoting rebooting renaming resetting-master-credentials restoring scaling-compute
        scaling-storage starting storage-config-upgrade storage-initialization storage-optimization update-iam-db-auth upgrading
    """),
    final=_words("""
        cloning-failed delete-precheck deleting failed inaccessible-encryption-credentials inaccessible-encryption-credentials-recoverable
        incompatible-create incompatible-credentials incompatible-network incompatible-option-group incompatible-parameters
        incompatible-restore insufficient-capacity migration-failed restore-error stopped stopping storage-full
    """),
)
"""A database's instance or cluster: the two lists have no word of opposite meanings."""
SNAPSHOT = States(
    good=_words("available"),
    coming=_words("creating copying pending backing-up modifying upgrading"),
    final=_words("failed deleting deleted incompatible-restore incompatible-parameters"),
)
REPLICA = States(good=_words("InSync"), coming=_words("InProgress Pending"), final=_words("Failed Detached"))
FUNCTION_UPDATE = States(good=_words("Successful"), coming=_words("InProgress"), final=_words("Failed"))
