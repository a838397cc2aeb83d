"""The state of a playbook's run, read from its events and its child runs in the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.engine.ledger.rows import Run
    from opsctl.playbook.schema import Playbook

ANSWERED, STEP_ENDED, STEP_FAILED, AGAIN = "answered", "step ended", "step failed", "step taken again"


class History:
    """The steps that have ended: for each number, the detail of its event, with its `state`.

    `failed` holds the steps that stopped the run; resuming repeats them. `retrying` holds the steps that an operator chose to
    repeat and that haven't ended since.

    States: `answered`, `changed`, `unchanged`, `partial`, `verified`, `seen`, `unseen` (a look that failed), `not needed` (its `when` is
    not met), `skipped` (by an operator), and `failed`, which isn't an end.
    """

    def __init__(self, ledger: Ledger, run: Run, playbook: Playbook) -> None:
        self.ledger, self.run, self.playbook = ledger, run, playbook
        self.ended: dict[int, dict[str, Any]] = {}
        self.failed: dict[int, dict[str, Any]] = {}
        self.retrying: set[int] = set()
        self._superseded: set[str] = set()
        for event in ledger.events(run.id):
            self.replay(event.what, {**event.detail, "recorded": event.at.isoformat()})

    def replay(self, what: str, detail: dict[str, Any]) -> None:
        """Update the state with one event of the ledger."""
        if what in (ANSWERED, STEP_ENDED):
            self.ended[detail["step"]] = detail
            self.failed.pop(detail["step"], None)
            self.retrying.discard(detail["step"])
        elif what == STEP_FAILED:
            self.failed[detail["step"]] = detail
        elif what == AGAIN:
            self.ended.pop(detail["step"], None)
            self.failed.pop(detail["step"], None)
            self.retrying.add(detail["step"])
            self._superseded |= set(detail["former"])

    def record(self, what: str, number: int, state: str, **detail: Any) -> None:
        """Record how a step ended."""
        self.keep(what, {"step": number, "key": self.playbook.key(number), "state": state, **detail})

    def keep(self, what: str, detail: dict[str, Any]) -> None:
        """Write an event to the ledger, and update the state with it."""
        self.ledger.event(self.run.id, what, detail)
        self.replay(what, {**detail, "recorded": self.ledger.now().isoformat()})

    def text(self, number: int) -> str:
        """A step's question or command line as it was approved, with its parameters filled in."""
        return str(self.run.details["steps"][number - 1][self.playbook.steps[number - 1].kind])

    def children(self, number: int) -> list[Run]:
        """The runs of a step, newest first, without those from before a retry."""
        found = self.ledger.children(self.run.id)
        return [child for child in found if child.item == number and child.id not in self._superseded]

    def known(self) -> dict[str, str]:
        """Parameters and answers, for `when`. The answer of a question that wasn't needed is `""`."""
        known = dict(self.run.details["parameters"])
        for number, detail in self.ended.items():
            if self.playbook.steps[number - 1].kind == "ask":
                known[self.playbook.key(number)] = detail.get("answer", "")
        return known

    def completed_at(self, number: int) -> datetime | None:
        """When a step's change was done, for a step that follows it; None when it wasn't done."""
        at = self.ended.get(number, {}).get("at")
        return datetime.fromisoformat(at) if at else None


def run_completed_at(ledger: Ledger, run: Run) -> datetime:
    """When a child run's change was done: the latest time by the servers' clocks, otherwise the time of its last event."""
    moments = [step.at for step in ledger.steps(run.id) if step.at]
    return max(moments) if moments else ledger.events(run.id)[-1].at
