"""Leaving the order of a playbook's steps: skipping one, doing one once more, or going on at another; always with a reason that is kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opsctl.errors import ConfigurationError, Refused
from opsctl.playbook.history import AGAIN, STEP_ENDED, History

Kept = tuple[str, dict[str, Any]]
"""An event to write: what happened, and its detail."""


class Detours:
    """What a person may ask when a run is taken up; each returns the events to write, or raises before any is written."""

    def __init__(self, history: History, reason: str, who: str) -> None:
        self.history, self.playbook = history, history.playbook
        self._why = {"reason": reason, "who": who}

    def asked(self, skip: str | None, retry: str | None, jump: str | None) -> list[Kept]:
        """The events of everything that was asked, each step named by its id or number."""
        found: list[Kept] = []
        if skip:
            found += self.skip(self._number(skip))
        if retry:
            found += self.again(self._number(retry))
        if jump:
            found += self.jump(self._number(jump))
        return found

    def _number(self, key: str) -> int:
        number = self.playbook.number(key)
        if number is None:
            keys = ", ".join(self.playbook.key(n) for n in range(1, len(self.playbook.steps) + 1))
            raise ConfigurationError(f"This playbook has no step {key!r}.", f"Its steps: {keys}")
        return number

    def _step(self, number: int) -> dict[str, Any]:
        return {"step": number, "key": self.playbook.key(number), **self._why}

    def skip(self, number: int) -> list[Kept]:
        """Go on without a step; raises Refused for one that has ended, and for a question on whose answer others wait."""
        if number in self.history.ended:
            state = self.history.ended[number]["state"]
            raise Refused(f"Step {self.playbook.key(number)} has ended: {state}.", f"opsctl runs show {self.history.run.id}")
        self._unneeded(number, {number})
        return [(STEP_ENDED, {**self._step(number), "state": "skipped"})]

    def _unneeded(self, number: int, leaving: Collection[int]) -> None:
        key = self.playbook.key(number)
        waiting = [
            self.playbook.key(n)
            for n, step in enumerate(self.playbook.steps, 1)
            if any(key in condition for condition in step.conditions) and n not in leaving and n not in self.history.ended
        ]
        if self.playbook.steps[number - 1].kind == "ask" and waiting:
            why = f"Question {key} can't be left out: {', '.join(waiting)} depend on its answer."
            raise Refused(why, f"opsctl runs resume {self.history.run.id}")

    def again(self, number: int) -> list[Kept]:
        """Do a step once more, planned anew; raises Refused while an effect of it that can't be looked up is unknown."""
        children = self.history.children(number)
        for child in children:
            for step in self.history.ledger.steps(child.id):
                if step.state in ("begun", "unknown") and step.change.telling != "probe":
                    settle = f"Find out, then: opsctl runs settle {child.id} {step.seq} --done|--not-done --reason WHY"
                    raise Refused(f"{step.change.target} was begun and its outcome is unknown; it isn't sent again.", settle)
        return [(AGAIN, {**self._step(number), "former": [child.id for child in children]})]

    def jump(self, number: int) -> list[Kept]:
        """Go on at a step: those before it that haven't ended are skipped, it and those after it that have are done once more."""
        leaving = [n for n in range(1, number) if n not in self.history.ended]
        for other in leaving:
            self._unneeded(other, leaving)
        skipped = [(STEP_ENDED, {**self._step(n), "state": "skipped"}) for n in leaving]
        return skipped + [kept for n in sorted(self.history.ended) if n >= number for kept in self.again(n)]
