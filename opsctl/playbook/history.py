"""How far a playbook's run came, read back from its events and its children, in whichever process it is taken up."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.engine.ledger.rows import Run
    from opsctl.playbook.schema import Playbook

ANSWERED, STEP_ENDED, STEP_FAILED, AGAIN = "answered", "step ended", "step failed", "step taken again"


class History:
    """The steps that have ended, by number, each as its event told it: `state`, and what belongs to it.

    `failed` holds those that ended the run and haven't ended since: they are taken again. `anew` holds those that a person wanted once more
    and that haven't ended since.

    States: `answered`, `changed`, `unchanged`, `partial`, `verified`, `seen`, `unseen` (a look that couldn't), `not needed` (its `when`
    doesn't hold), `skipped` (a person said so), and of one that hasn't ended `failed`.
    """

    def __init__(self, ledger: Ledger, run: Run, playbook: Playbook) -> None:
        self.ledger, self.run, self.playbook = ledger, run, playbook
        self.ended: dict[int, dict[str, Any]] = {}
        self.failed: dict[int, dict[str, Any]] = {}
        self.anew: set[int] = set()
        self._forgotten: set[str] = set()
        for event in ledger.events(run.id):
            self.replay(event.what, {**event.detail, "recorded": event.at.isoformat()})

    def replay(self, what: str, detail: dict[str, Any]) -> None:
        """Take one event of the ledger into account."""
        if what in (ANSWERED, STEP_ENDED):
            self.ended[detail["step"]] = detail
            self.failed.pop(detail["step"], None)
            self.anew.discard(detail["step"])
        elif what == STEP_FAILED:
            self.failed[detail["step"]] = detail
        elif what == AGAIN:
            self.ended.pop(detail["step"], None)
            self.failed.pop(detail["step"], None)
            self.anew.add(detail["step"])
            self._forgotten |= set(detail["former"])

    def record(self, what: str, number: int, state: str, **detail: Any) -> None:
        """Keep that a step ended."""
        self.keep(what, {"step": number, "key": self.playbook.key(number), "state": state, **detail})

    def keep(self, what: str, detail: dict[str, Any]) -> None:
        """Write an event, and take it into account."""
        self.ledger.event(self.run.id, what, detail)
        self.replay(what, {**detail, "recorded": self.ledger.now().isoformat()})

    def text(self, number: int) -> str:
        """A step's question or command line as it was shown and approved, its parameters filled."""
        return str(self.run.details["steps"][number - 1][self.playbook.steps[number - 1].kind])

    def children(self, number: int) -> list[Run]:
        """The runs that a step made, the newest first, those before a retry left out."""
        found = self.ledger.children(self.run.id)
        return [child for child in found if child.item == number and child.id not in self._forgotten]

    def known(self) -> dict[str, str]:
        """Parameters and answers, for `when`; a question that wasn't needed is answered by nothing."""
        known = dict(self.run.details["parameters"])
        for number, detail in self.ended.items():
            if self.playbook.steps[number - 1].kind == "ask":
                known[self.playbook.key(number)] = detail.get("answer", "")
        return known

    def moment(self, number: int) -> datetime | None:
        """When a step's outcome came about, for one that follows it; None when it wasn't done."""
        at = self.ended.get(number, {}).get("at")
        return datetime.fromisoformat(at) if at else None


def came_about(ledger: Ledger, run: Run) -> datetime:
    """When a child's outcome came about: the latest moment on the servers' clocks, else that of its latest event."""
    moments = [step.at for step in ledger.steps(run.id) if step.at]
    return max(moments) if moments else ledger.events(run.id)[-1].at
