"""The one loop that asks again: how often, how long, and what ends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.errors import Denied, Interrupted, Throttled
from opsctl.retry import Policy, TryAgain, retry


class Clock:
    """A clock that only a pause or a call moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failing(clock: Clock, takes: float, raises: Callable[[], Exception]) -> tuple[Callable[[], None], list[float]]:
    """A call that always fails, and the times at which it was made."""
    made: list[float] = []

    def call() -> None:
        made.append(clock.now)
        clock.now += takes
        raise raises()

    return call, made


policies = st.builds(
    Policy,
    tries=st.integers(1, 12),
    deadline=st.floats(0, 300),
    first=st.floats(0, 30),
    longest=st.floats(0, 60),
    jitter=st.floats(0, 1),
    errors=st.just((Throttled,)),
)
shares = st.floats(0, 1, exclude_max=True)


@given(policies, st.floats(0, 40), shares, st.none() | st.floats(0, 100))
def test_no_call_begins_past_the_deadline_by_a_pause(policy: Policy, takes: float, share: float, asked: float | None) -> None:
    clock = Clock()
    call, made = failing(clock, takes, lambda: TryAgain(Throttled("slow"), asked))
    with pytest.raises(Throttled):
        retry(call, policy, clock=clock, sleep=clock.sleep, share=lambda: share)
    assert len(made) <= policy.tries
    assert all(at <= 100 + policy.deadline for at in made[1:])


@given(policies, shares)
def test_every_promised_try_is_made_where_the_pauses_fit(policy: Policy, share: float) -> None:
    fits = policy._replace(deadline=sum(policy.pause(n) for n in range(1, policy.tries)) + 1)
    clock = Clock()
    call, made = failing(clock, 0, lambda: Throttled("slow"))
    with pytest.raises(Throttled):
        retry(call, fits, clock=clock, sleep=clock.sleep, share=lambda: share)
    assert len(made) == fits.tries


@given(policies, st.floats(0, 400))
def test_what_the_other_side_asks_to_wait_is_waited_or_the_error_is_raised(policy: Policy, asked: float) -> None:
    clock = Clock()
    call, made = failing(clock, 0, lambda: TryAgain(Throttled("slow"), asked))
    with pytest.raises(Throttled):
        retry(call, policy, clock=clock, sleep=clock.sleep)
    assert set(clock.pauses) <= {asked}
    assert len(made) == 1 or asked <= policy.deadline + 1e-6


@given(policies, shares)
def test_pauses_grow_and_are_never_longer_than_the_longest(policy: Policy, share: float) -> None:
    clock = Clock()
    call, _ = failing(clock, 0, lambda: Throttled("slow"))
    with pytest.raises(Throttled):
        retry(call, policy, clock=clock, sleep=clock.sleep, share=lambda: share)
    assert clock.pauses == sorted(clock.pauses)
    assert all(pause <= policy.longest for pause in clock.pauses)


ONCE_MORE = Policy(tries=2, deadline=60, first=1, errors=(Throttled,))


def test_a_call_that_succeeds_later_returns_its_answer() -> None:
    clock, answers = Clock(), iter([Throttled("slow"), "done"])

    def call() -> str:
        if isinstance(answer := next(answers), Throttled):
            raise answer
        return answer

    assert retry(call, ONCE_MORE, clock=clock, sleep=clock.sleep) == "done"
    assert len(clock.pauses) == 1


def test_an_error_that_the_policy_does_not_name_is_raised_at_once() -> None:
    clock = Clock()
    call, made = failing(clock, 0, lambda: Denied("no"))
    with pytest.raises(Denied):
        retry(call, ONCE_MORE, clock=clock, sleep=clock.sleep)
    assert (len(made), clock.pauses) == (1, [])


def test_a_wanted_stop_ends_it_before_the_pause() -> None:
    def stop() -> None:
        raise Interrupted("Stopped.")

    clock = Clock()
    call, made = failing(clock, 0, lambda: Throttled("slow"))
    with pytest.raises(Interrupted):
        retry(call, ONCE_MORE, clock=clock, sleep=clock.sleep, stop=stop)
    assert (len(made), clock.pauses) == (1, [])


def test_the_error_within_keeps_its_own_cause() -> None:
    cause = ValueError("the wire")

    def call() -> None:
        error = Throttled("slow")
        error.__cause__ = cause
        raise TryAgain(error)

    with pytest.raises(Throttled) as raised:
        retry(call, ONCE_MORE._replace(tries=1))
    assert raised.value.__cause__ is cause
