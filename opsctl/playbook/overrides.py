"""Leaving the order of a playbook's steps: skipping one, doing one once more, or going on at another; always with a reason that is kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opsctl.errors import ConfigurationError, Refused
from opsctl.playbook import conditions
from opsctl.playbook.history import AGAIN, STEP_ENDED, History

StoredEvent = tuple[str, dict[str, Any]]
"""An event to write: what happened, and its detail."""


class Overrides:
    """What a person may ask when a run is taken up; each returns the events to write, or raises before any is written."""

    def __init__(self, history: History, reason: str, who: str) -> None:
        self.history, self.playbook = history, history.playbook
        self._why = {"reason": reason, "who": who}

    def asked(self, skip: str | None, retry: str | None, jump: str | None) -> list[StoredEvent]:
        """The events of everything that was asked, each step named by its id or number."""
        found: list[StoredEvent] = []
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

    def skip(self, number: int) -> list[StoredEvent]:
        """Go on without a step; raises Refused for one that has ended, and for a question on whose answer others wait."""
        if number in self.history.ended:
            state = self.history.ended[number]["state"]
            raise Refused(f"Step {self.playbook.key(number)} has ended: {state}.", f"opsctl runs show {self.history.run.id}")
        self._require_unneeded(number, {number})
        return [self._skipped(number)]

    def _skipped(self, number: int) -> StoredEvent:
        step = self.playbook.steps[number - 1]
        if conditions.holds(step, self._known()) is False:
            return STEP_ENDED, {**self._step(number), "state": "not needed", "why": f"only when {conditions.describe(step)}"}
        return STEP_ENDED, {**self._step(number), "state": "skipped"}

    def _known(self) -> dict[str, str]:
        """What is known for `when`, with every question that won't be asked answered by nothing."""
        known = self.history.known()
        for number, step in enumerate(self.playbook.steps, 1):
            if step.kind == "ask" and conditions.holds(step, known) is False:
                known.setdefault(self.playbook.key(number), "")
        return known

    def _require_unneeded(self, number: int, leaving: Collection[int]) -> None:
        """Raise Refused for a question that is still to be asked while it decides whether others, which aren't left out, are needed."""
        key, known = self.playbook.key(number), self._known()
        if self.playbook.steps[number - 1].kind != "ask" or key in known:
            return
        waiting = [
            self.playbook.key(n)
            for n, step in enumerate(self.playbook.steps, 1)
            if n not in leaving and n not in self.history.ended and any(key in c for c in step.conditions)
            if conditions.holds(step, known) is None
        ]
        if waiting:
            why = f"Question {key} can't be left out: {', '.join(waiting)} depend on its answer."
            raise Refused(why, f"opsctl runs resume {self.history.run.id}")

    def again(self, number: int) -> list[StoredEvent]:
        """Do a step once more, planned anew, and with it what rests on what it did.

        Raises Refused while an effect of one of them that can't be looked up is unknown.
        """
        return [self._retried(n) for n in self._invalidated({number})]

    def _invalidated(self, wanted: set[int]) -> list[int]:
        """The steps that are `wanted` once more, and the later ones, begun or ended, that are void with them.

        Those that follow one of them; every proof; and, of a question, what its former answer left out.
        """
        void, count = set(wanted), len(self.playbook.steps)
        for n in range(min(wanted, default=count) + 1, count + 1):
            step, state = self.playbook.steps[n - 1], self.history.ended.get(n, {}).get("state")
            follows = self.playbook.number(step.follows) if step.follows else None
            asked = {self.playbook.key(other) for other in void}
            left_out = state == "not needed" and any(asked & condition.keys() for condition in step.conditions)
            if (state or self.history.children(n)) and (follows in void or step.kind == "verify" or left_out):
                void.add(n)
        return sorted(void)

    def _retried(self, number: int) -> StoredEvent:
        children = self.history.children(number)
        for child in children:
            for step in self.history.ledger.steps(child.id):
                if step.state in ("begun", "unknown") and step.change.outcome_known_by != "state":
                    settle = f"Find out, then: opsctl runs settle {child.id} {step.seq} --done|--not-done --reason WHY"
                    raise Refused(f"{step.change.target} was begun and its outcome is unknown; it isn't sent again.", settle)
        return AGAIN, {**self._step(number), "former": [child.id for child in children]}

    def jump(self, number: int) -> list[StoredEvent]:
        """Go on at a step: those before it that haven't ended are skipped, it and those after it that have are done once more."""
        leaving = [n for n in range(1, number) if n not in self.history.ended]
        for other in leaving:
            self._require_unneeded(other, leaving)
        void = self._invalidated({n for n in self.history.ended if n >= number})
        return [self._skipped(n) for n in leaving] + [self._retried(n) for n in void]
