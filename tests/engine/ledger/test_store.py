"""What every store of a ledger must answer; another implementation joins by one more fixture parameter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.sqlite import SqliteStore
from opsctl.engine.ledger.store import EventRow, Holder, LockRow, LogRow, RunRow, RunState, StepRow, Store
from opsctl.errors import LedgerFailed

AT = "2026-01-01T00:00:00+00:00"
HOLDER = Holder("host", "boot", "space", 1, "1", 100.0, 200.0)
STATES = {
    "changed": ("changed", None),
    "partial": ("partial", None),
    "cancelled": ("partial", "cancel"),
    "open": (None, None),
}


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = {"sqlite": lambda: SqliteStore(tmp_path / "ledger.db", Keyring(tmp_path))}[request.param]()
    yield made
    made.close()


def a_run(id: str, number: int, *, parent: str | None = None, state: str = "changed", environment: str = "prod") -> RunRow:
    result, wish = STATES[state]
    closed = AT if result else None
    return RunRow(id, parent, environment, "scale", AT, number, "c0ffee", "{}", "head", 1, closed, result, wish, "mark")


def a_step(run: str, seq: int = 1, state: str = "applied", kind: str = "set", target: str = "a/b", count: int = 1) -> StepRow:
    return StepRow(run, seq, kind, target, "{}", state, "", None, count, "tasks", None, None, None)


def fill(store: Store, *runs: RunRow, steps: tuple[StepRow, ...] = ()) -> None:
    with store.transaction():
        for run in runs:
            store.add_run(run)
        store.add_steps(steps)


def ids(rows: list[RunRow]) -> list[str]:
    return [row.id for row in rows]


def test_a_run_is_found_by_its_id_and_by_the_beginning_of_it(store: Store) -> None:
    fill(store, a_run("ab-1", 1), a_run("ab-2", 2), a_run("b", 3))
    assert store.run_ids("ab") == ["ab-1", "ab-2"]
    assert store.run_ids("%") == []
    assert store.run_rows(["b"]) == [a_run("b", 3)]
    assert ids(store.run_rows(["ab-1", "b", "none"])) == ["b", "ab-1"]


def test_what_changes_of_a_run_is_replaced(store: Store) -> None:
    fill(store, a_run("one", 1))
    state = RunState("new", 7, None, None, "pause", "other")
    with store.transaction():
        store.set_run_state("one", state)
    assert store.run_state("one") == state
    assert store.run_state("none") is None


def test_runs_come_newest_first_and_children_by_themselves(store: Store) -> None:
    fill(store, a_run("c", 1), a_run("a", 2), a_run("child", 3, parent="a"), a_run("b", 4), a_run("second", 5, parent="a"))
    assert ids(store.newest_runs(2)) == ["b", "a"]
    assert ids(store.newest_runs(-1)) == ["b", "a", "c"]
    assert ids(store.children("a")) == ["second", "child"]
    assert ids(store.runs_of_command("prod", "scale")) == ["second", "b", "child", "a", "c"]
    assert store.runs_of_command("test", "scale") == []


def test_only_what_may_go_on_is_unended(store: Store) -> None:
    fill(store, *(a_run(state, number, state=state) for number, state in enumerate(STATES, 1)))
    assert ids(store.unended_runs(9)) == ["open", "partial"]
    assert ids(store.unended_runs(1)) == ["open"]


def test_a_complete_run_has_changed_something_and_left_nothing(store: Store) -> None:
    steps = (a_step("whole"), a_step("whole", 2, "done"), a_step("half"), a_step("half", 2, "failed"), a_step("idle", 1, "done"))
    fill(store, a_run("whole", 1), a_run("half", 2), a_run("idle", 3), steps=steps)
    found = store.newest_complete("prod", "scale", "")
    assert found
    assert found.id == "whole"
    assert store.newest_complete("prod", "scale", "whole") is None


def test_an_undecided_run_has_a_step_without_a_known_outcome(store: Store) -> None:
    steps = (a_step("left", state="begun"), a_step("done", state="begun"), a_step("known", state="applied"))
    fill(store, a_run("left", 1, state="open"), a_run("done", 2), a_run("known", 3, state="partial"), steps=steps)
    assert ids(store.undecided_runs("prod", "scale", "")) == ["left"]
    assert store.undecided_runs("prod", "scale", "left") == []


def test_steps_are_kept_and_replaced(store: Store) -> None:
    fill(store, a_run("one", 1), steps=(a_step("one", 2), a_step("one", 1)))
    assert store.steps("one") == [a_step("one", 1), a_step("one", 2)]
    later = a_step("one", 2)._replace(state="failed", why="no", at=AT, begun=AT, ended=AT, evidence="{}")
    with store.transaction():
        store.update_step(later)
    assert store.step("one", 2) == later
    assert store.step("one", 3) is None


def test_steps_are_found_by_kind_and_target(store: Store) -> None:
    runs = (a_run("old", 1), a_run("new", 2), a_run("elsewhere", 3, environment="test"))
    steps = (
        a_step("old"),
        a_step("new", target="a/b/c", count=0),
        a_step("new", 2, target="a0"),
        a_step("new", 3, kind="other"),
        a_step("elsewhere"),
        a_step("new", 4),
    )
    fill(store, *runs, steps=steps)
    assert [(s.run, s.seq) for s in store.steps_on(["set", "former"], "prod", "a/b")] == [("new", 4), ("old", 1)]
    assert [(s.run, s.seq) for s in store.steps_below(["set"], "prod", "a")] == [("new", 1), ("new", 4), ("old", 1)]
    assert sorted((s.run, s.seq) for s in store.steps_with_impact(["set"], "prod", "c0ffee")) == [("new", 2), ("new", 4), ("old", 1)]
    assert list(store.steps_with_impact(["set"], "prod", "other")) == []


def test_history_is_kept_in_order(store: Store) -> None:
    fill(store, a_run("one", 1), a_run("two", 3, state="open"))
    events = [EventRow("one", number, AT, "begun", None, "{}", f"h{number}") for number in (1, 0)]
    with store.transaction():
        for event in events:
            store.add_event(event)
        for number, run in enumerate(("one", "one", "two"), 1):
            store.add_log(LogRow(number, f"at {number}", run, "opened", "head", f"hash {number}"))
    assert store.events("one") == events[::-1]
    assert list(store.all_events()) == events[::-1]
    last = store.last_log()
    assert last
    assert last.number == 3
    assert (store.last_log_number("one"), store.last_log_number("none")) == (2, 0)
    assert store.log_times_after(1) == ["at 2", "at 3"]
    assert sorted(store.runs_later_than(3)) == ["two"]
    assert sorted(store.runs_later_than(1)) == ["one", "two"]
    assert (store.in_log("hash 2"), store.in_log("hash 9")) == (True, False)


def test_locks_are_kept_renewed_and_removed(store: Store) -> None:
    lock = LockRow("a", "one", 7, "me", "scale", AT, HOLDER)
    with store.transaction(durable=False):
        store.add_locks([lock, lock._replace(target="b", fence=8)])
        store.renew_locks([7], 300.0, 400.0)
        store.remove_locks([8])
    assert store.locks() == [lock._replace(holder=HOLDER._replace(expires=300.0, until=400.0))]
    assert store.holds_lock("a", 7)
    assert not store.holds_lock("a", 8)


def test_personal_texts_are_kept_until_they_are_forgotten(store: Store) -> None:
    fill(store, a_run("open", 1, state="open")._replace(row="personal:x"), a_run("done", 2)._replace(row="personal:y"))
    with store.transaction():
        store.remember({"x": "a@b.c", "y": "d@e.f"}, "2026-01-01")
        store.remember({"z": "g@h.i"}, "2026-02-01")
    assert store.texts(["x", "z", "none"]) == {"x": "a@b.c", "z": "g@h.i"}
    assert list(store.needed_texts()) == ["personal:x"]
    assert store.forget("2026-01-02", lambda: {"x"}) == 1
    assert dict(store.all_texts()) == {"x": "a@b.c", "z": "g@h.i"}


def test_everything_is_walked_through_however_much_it_is(store: Store) -> None:
    runs = [f"run-{number:04}" for number in range(1100)]
    fill(store, *(a_run(run, number) for number, run in enumerate(runs)), steps=tuple(a_step(run) for run in runs))
    with store.snapshot():
        assert [row.id for row in store.all_runs()] == runs
        assert [row.run for row in store.all_steps()] == runs


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    fill(store, a_run("one", 1))
    with pytest.raises(LedgerFailed):
        fill(store, a_run("two", 2), a_run("one", 3))
    assert ids(store.newest_runs(-1)) == ["one"]


def test_a_transaction_is_alone_among_threads(store: Store) -> None:
    fill(store, a_run("one", 1)._replace(events=0))

    def count() -> None:
        for _ in range(20):
            with store.transaction():
                state = store.run_state("one")
                assert state
                store.set_run_state("one", state._replace(events=state.events + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = store.run_state("one")
    assert state
    assert state.events == 80
