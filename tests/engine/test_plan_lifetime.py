from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from opsctl.engine import plan as plans
from opsctl.engine.plan import Plan
from opsctl.errors import PlanStale

MADE = datetime(2024, 5, 1, 12, tzinfo=UTC)


def apply_at(now: datetime) -> None:
    plan = Plan(
        command="scale",
        environment="test",
        account="1",
        caller="me",
        config_digest="c0ffee",
        created=MADE,
        expires=MADE + plans.LIFETIME,
        changes=[],
    )
    environment, caller = SimpleNamespace(name="test", digest="c0ffee"), SimpleNamespace(account="1")
    plans.fresh(plan, SimpleNamespace(environment=environment, caller=caller, now=lambda: now))  # type: ignore[arg-type]


@pytest.mark.parametrize("age", [timedelta(0), plans.LIFETIME - timedelta(seconds=1)])
def test_a_plan_of_less_than_a_day_is_fresh(age: timedelta) -> None:
    apply_at(MADE + age)


def test_a_plan_of_a_day_has_expired() -> None:
    with pytest.raises(PlanStale, match="it expired at 2024-05-02 12:00 UTC"):
        apply_at(MADE + plans.LIFETIME)


def test_a_plan_from_a_clock_ahead_says_that_and_not_that_it_expired() -> None:
    with pytest.raises(PlanStale) as raised:
        apply_at(MADE - timedelta(seconds=30))
    assert "it was made at 2024-05-01 12:00:00 UTC, but this machine's clock says 2024-05-01 11:59:30 UTC" in raised.value.what
    assert "expired" not in raised.value.what
