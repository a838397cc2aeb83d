"""What a kind of change or a command needs in the outside systems. With the configuration, needs become policies and grants.

A need is an IAM action (`ecs:DescribeServices`; `rds:DescribeDBClusters[any]` where it isn't about the configured resource), or a right in
another system that `grants` and `scopes` know (`postgres:sessions.read`, `hubspot:contacts.write`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Permissions(NamedTuple):
    """The needs of read-only work (planning, `check`), and those of `apply`."""

    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()


class Requirement(NamedTuple):
    """What a command needs to plan or to read, and the tags of the kinds of change that it, or its undo, applies."""

    reads: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()


def needs(check: str = "", apply: str = "") -> Permissions:
    """The permissions of a kind of change; both texts list needs separated by blanks."""
    return Permissions(frozenset(check.split()), frozenset(apply.split()))


def union(several: Iterable[Permissions]) -> Permissions:
    """The permissions of all of them together."""
    listed = list(several)
    return Permissions(frozenset().union(*(each.read for each in listed)), frozenset().union(*(each.write for each in listed)))
