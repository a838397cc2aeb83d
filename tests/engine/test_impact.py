"""What a plan affects is counted once, however often it is met."""

from __future__ import annotations

from typing import ClassVar

import pytest

from opsctl.engine.plan import Plan
from opsctl.testing.rig import Rig, Set, Setting


class End(Setting, frozen=True, kw_only=True):
    """Sessions that began before a cutoff, which each planning pins anew."""

    volatile_fields: ClassVar[frozenset[str]] = frozenset({"before"})


def together(rig: Rig, *steps: Setting) -> Plan:
    """Each step planned by itself, as a playbook shows them."""
    plans = [rig.plan(step) for step in steps]
    plan = plans[0]
    plan.changes = [change for each in plans for change in each.changes]
    return plan


@pytest.mark.parametrize(
    ("counts", "most"),
    [((50_001, 50_001), 50_001), ((50_001, 7), 50_001), ((7, 50_001), 50_001), ((5, 5, 5), 5)],
)
def test_the_same_change_at_two_moments_counts_once(rig: Rig, counts: tuple[int, ...], most: int) -> None:
    plan = together(rig, *[End(name="sessions", before=n, count=1) for n, _ in enumerate(counts)])
    for planned, count in zip(plan.changes, counts, strict=True):
        planned.count = count
    assert plan.impact == {"values": most}


def test_different_changes_are_added(rig: Rig) -> None:
    steps = [Set(name="a", count=5), Set(name="b", count=7), Set(name="a", after=2, count=11)]
    assert together(rig, *steps).impact == {"values": 23}


def test_what_is_done_counts_for_nothing(rig: Rig) -> None:
    rig.world.values["a"] = 1
    assert together(rig, Set(name="a", count=5), Set(name="b", count=7)).impact == {"values": 7}
