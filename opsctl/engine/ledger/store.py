"""The Store protocol: what the ledger needs from its database. SQLite implements it; another database can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class RunState(NamedTuple):
    """The mutable columns of a run; `mark` is their keyed hash."""

    head: str
    events: int
    closed: str | None
    result: str | None
    wish: str | None
    mark: str


class RunRow(NamedTuple):
    """A run as stored. `number` is the position of its opening in the log, `row` its immutable fields as JSON."""

    id: str
    parent: str | None
    environment: str
    command: str
    opened: str
    number: int | None
    config_digest: str
    row: str
    head: str
    events: int
    closed: str | None
    result: str | None
    wish: str | None
    mark: str


class StepRow(NamedTuple):
    """A step as stored. The digest of these values, in this order, is in its newest event."""

    run: str
    seq: int
    kind: str
    target: str
    change: str
    state: str
    why: str
    at: str | None
    count: int  # type: ignore[assignment]
    unit: str
    begun: str | None
    ended: str | None
    evidence: str | None


class EventRow(NamedTuple):
    """One event of a run as stored."""

    run: str
    number: int
    at: str
    what: str
    seq: int | None
    detail: str
    hash: str


class LogRow(NamedTuple):
    """One entry of the log, which lists the openings and closings of all runs in order."""

    number: int
    at: str
    run: str
    what: str
    head: str
    hash: str


class Holder(NamedTuple):
    """The process that holds a lock."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    expires: float
    until: float


class LockRow(NamedTuple):
    """A lock as stored."""

    target: str
    run: str
    fence: int
    operator: str
    doing: str
    since: str
    holder: Holder


class LockStore(Protocol):
    """The part of a store that locks need."""

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """One exclusive transaction. Without `durable` a power failure may lose it."""
        ...

    def locks(self) -> list[LockRow]:
        """Return every lock."""
        ...

    def add_locks(self, locks: Collection[LockRow]) -> None:
        """Add locks."""
        ...

    def remove_locks(self, fences: Collection[int]) -> None:
        """Remove the locks with these fences."""
        ...

    def renew_locks(self, fences: Collection[int], expires: float, until: float) -> None:
        """Extend locks."""
        ...

    def holds_lock(self, target: str, fence: int) -> bool:
        """Return whether the lock on `target` is the one with this fence."""
        ...


class PersonalStore(Protocol):
    """The part of a store that pseudonyms need."""

    def remember(self, texts: Mapping[str, str], at: str) -> None:
        """Keep the text of each digest, as last used at `at`."""
        ...

    def texts(self, digests: Collection[str]) -> dict[str, str]:
        """Return the texts of the digests that haven't been purged."""
        ...


class Store(LockStore, PersonalStore, Protocol):
    """The rows of a ledger. Methods that write belong inside a transaction. Raises LedgerFailed for errors of the database."""

    def snapshot(self) -> AbstractContextManager[None]:
        """A block in which all reads see the same state."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...

    # Runs

    def add_run(self, run: RunRow) -> None:
        """Add a run."""
        ...

    def run_state(self, run: str) -> RunState | None:
        """Return the mutable columns of a run."""
        ...

    def stop_requested(self, run: str) -> str | None:
        """Return the stop request of a run or, if it has none, of its parent run."""
        ...

    def set_run_state(self, run: str, state: RunState) -> None:
        """Replace the mutable columns of a run."""
        ...

    def run_ids(self, beginning: str) -> list[str]:
        """Return the ids with this prefix, in order."""
        ...

    def run_rows(self, ids: Collection[str]) -> list[RunRow]:
        """Return the runs with these ids, the newest first."""
        ...

    def newest_runs(self, limit: int) -> list[RunRow]:
        """Return the newest runs without a parent, at most `limit`; a negative limit means all."""
        ...

    def unended_runs(self, limit: int) -> list[RunRow]:
        """Return the newest runs without a parent that weren't cancelled and can be resumed."""
        ...

    def children(self, parent: str) -> list[RunRow]:
        """Return the runs with this parent, the newest first."""
        ...

    def runs_of_command(self, environment: str, command: str) -> list[RunRow]:
        """Return the runs of a command, the newest first."""
        ...

    def newest_complete(self, environment: str, command: str, besides: str) -> RunRow | None:
        """Return the newest run of a command, but `besides`, that changed something and completed all its steps."""
        ...

    def undecided_runs(self, environment: str, command: str, besides: str) -> list[RunRow]:
        """Return the runs of a command, but `besides`, that didn't succeed and have a step with an unknown outcome."""
        ...

    def runs_later_than(self, number: int) -> list[str]:
        """Return the runs that the log names after entry `number`, and those that aren't closed."""
        ...

    # Steps

    def add_steps(self, steps: Collection[StepRow]) -> None:
        """Add steps."""
        ...

    def update_step(self, step: StepRow) -> None:
        """Replace a step's state and outcome."""
        ...

    def step(self, run: str, seq: int) -> StepRow | None:
        """Return one step."""
        ...

    def steps(self, run: str) -> list[StepRow]:
        """Return a run's steps in order."""
        ...

    def steps_on(self, kinds: Collection[str], environment: str, target: str) -> list[StepRow]:
        """Return the steps of these kinds on a target, those of the newest run first."""
        ...

    def steps_below(self, kinds: Collection[str], environment: str, target: str) -> list[StepRow]:
        """Return the steps of these kinds on the targets below `target`, those of the newest run first."""
        ...

    def steps_with_impact(self, kinds: Collection[str], environment: str, config_digest: str) -> Iterator[StepRow]:
        """Yield the steps of these kinds, planned with a configuration, that have an impact or evidence."""
        ...

    # History

    def add_event(self, event: EventRow) -> None:
        """Add an event."""
        ...

    def events(self, run: str) -> list[EventRow]:
        """Return a run's events in order."""
        ...

    def add_log(self, line: LogRow) -> None:
        """Add an entry to the log."""
        ...

    def last_log(self) -> LogRow | None:
        """Return the log's last entry."""
        ...

    def last_log_number(self, run: str) -> int:
        """Return the number of the log's last entry for a run; 0 if there is none."""
        ...

    def log_times_after(self, number: int) -> list[str]:
        """Return the times of the log's entries after `number`, in order."""
        ...

    def in_log(self, hash: str) -> bool:
        """Return whether an entry of the log has this hash."""
        ...

    # Personal data

    def needed_texts(self) -> Iterator[str]:
        """Yield the stored texts of runs that can be resumed, and of their steps and events."""
        ...

    def forget(self, before: str, needed: Callable[[], Collection[str]]) -> int:
        """Delete the personal texts last used before `before`, except those needed. Returns how many. No copy is left in the database."""
        ...

    # Verifying

    def all_log(self) -> Iterator[LogRow]:
        """Yield the whole log in order."""
        ...

    def all_runs(self) -> Iterator[RunRow]:
        """Yield every run by id."""
        ...

    def all_events(self) -> Iterator[EventRow]:
        """Yield every event by run and number."""
        ...

    def all_steps(self) -> Iterator[StepRow]:
        """Yield every step by run and number."""
        ...

    def all_texts(self) -> Iterator[tuple[str, str]]:
        """Yield every digest of a personal text with that text."""
        ...
