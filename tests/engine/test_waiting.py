"""Every turn of a wait keeps the deadline; what makes nothing fails; what waiting can't mend ends the wait."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import pytest

from opsctl.contract import Done, Evidence, Finding, InProgress, Pending
from opsctl.engine.runner import MAX_ATTEMPTS, MAX_EMPTY_PASSES
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, NotFound, OpsctlError, Retry, Throttled, Unreachable
from opsctl.protocols import ProgressCallback
from opsctl.testing.rig import MemorySystems, Rig, Set, Setting

LOGIN = CredentialsInvalid("The login has expired.", "aws sso login --profile prod")
MISSING = Denied("AWS denied ecs:DescribeServices.", "Ask for that permission.")


class Empty(Setting, frozen=True, kw_only=True):
    """A store that is emptied in passes; `value` is how much is in it, and an act of `apply` says what a pass takes."""

    converging: ClassVar[bool] = True

    def check(self, read: MemorySystems) -> Finding:  # type: ignore[override]
        read.world.meet("check", self.name)
        left = read.world.values[self.name]
        return Pending(left, "rows") if left else Done("it is empty")

    def apply(self, write: MemorySystems, token: str, progress: ProgressCallback) -> Evidence:  # type: ignore[override]
        taken = write.world.meet("apply", self.name) or 0
        write.world.values[self.name] -= taken
        return {"taken": taken}


def test_passes_that_make_nothing_fail(rig: Rig) -> None:
    """The login that looks sees rows that the login that writes doesn't."""
    rig.world.values["rows"] = 50
    outcome = rig.run(Empty(name="rows"))
    assert outcome.exit_code == 1
    assert outcome.error
    assert outcome.error.what == "rows: 50 rows match, but 3 passes changed none of them."
    assert len(rig.world.applied) == MAX_EMPTY_PASSES
    assert rig.states(outcome) == ["failed"]


def test_a_pass_that_makes_nothing_once_is_made_again(rig: Rig) -> None:
    rig.world.values["rows"] = 3
    take = lambda n: lambda world: n  # noqa: E731
    rig.world.on("apply", "rows", *[take(n) for n in (0, 0, 1, 0, 0, 2)])
    assert rig.run(Empty(name="rows")).result == "changed"
    assert rig.world.values["rows"] == 0


@pytest.mark.parametrize("seconds", [0, 1])
def test_the_deadline_holds_where_each_pass_makes_something(rig: Rig, seconds: int) -> None:
    """Something fills it as fast as it is emptied."""
    rig.world.values["rows"] = 10

    def refilled(world: object) -> int:
        rig.world.values["rows"] += 1
        return 1

    rig.world.on("apply", "rows", *[refilled] * 1_000_000)
    outcome = rig.run(Empty(name="rows"), timeout=timedelta(seconds=seconds))
    assert outcome.exit_code == 6
    assert outcome.error
    assert outcome.error.what == f"rows: 10 rows are left after {seconds} s."
    assert outcome.error.next == Retry(run=outcome.run or "")


def test_a_pass_that_outlasts_the_deadline_is_proven_all_the_same(rig: Rig) -> None:
    rig.world.values["rows"] = 1
    rig.world.on("apply", "rows", lambda world: 1)
    assert rig.run(Empty(name="rows"), timeout=timedelta(0)).result == "changed"


@pytest.mark.parametrize("cause", [LOGIN, MISSING])
def test_what_waiting_cant_mend_ends_the_wait_with_what_to_type(rig: Rig, cause: OpsctlError) -> None:
    rig.world.on("check", "a", None, None, InProgress("on its way"), cause)
    outcome = rig.run(Set(name="a"))
    assert outcome.exit_code == 6
    assert outcome.error
    assert outcome.error.what == f"a: {cause.what} It was applied, but not verified."
    assert outcome.error.next == Retry(str(cause.next).rstrip("."), outcome.run or "")
    assert rig.states(outcome) == ["made"]
    assert rig.resume(outcome).result == "changed"
    assert rig.world.applied == ["a"]


@pytest.mark.parametrize("cause", [Unreachable("Down."), Throttled("Slow."), NotFound("Not yet."), ExternalError("500.")])
def test_what_waiting_mends_is_waited_for(rig: Rig, cause: OpsctlError) -> None:
    rig.world.on("check", "a", None, None, cause, cause, cause)
    assert rig.run(Set(name="a")).result == "changed"


def test_what_stays_away_is_waited_for_until_the_deadline(rig: Rig) -> None:
    rig.world.on("check", "a", None, None, *[Unreachable("Down.")] * 1_000_000)
    outcome = rig.run(Set(name="a"), timeout=timedelta(0))
    assert outcome.exit_code == 6
    assert outcome.error
    assert "a is not verified after 0 s" in outcome.error.what


def test_a_call_without_an_answer_is_not_sent_for_ever(rig: Rig) -> None:
    from opsctl.errors import OutcomeUnknown

    rig.world.on("apply", "a", *[OutcomeUnknown("No answer.")] * 100)
    assert rig.run(Set(name="a")).exit_code == 6
    assert len(rig.world.applied) == MAX_ATTEMPTS
