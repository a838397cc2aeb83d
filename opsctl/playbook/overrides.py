"""Skip a step, repeat a step, or continue at another step. The reason is always recorded."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opsctl.errors import ConfigurationError, Refused
from opsctl.playbook import conditions
from opsctl.playbook.history import AGAIN, STEP_ENDED, History

StoredEvent = tuple[str, dict[str, Any]]
"""An event for the ledger: its name, and its detail."""


class Overrides:
    """What an operator may choose when resuming a run. Each method returns the events to write, or raises before any is written."""

    def __init__(self, history: History, reason: str, who: str) -> None:
        self.history, self.playbook = history, history.playbook
        self._why = {"reason": reason, "who": who}

    def events(self, skip: str | None, retry: str | None, jump: str | None) -> list[StoredEvent]:
        """The events for these options; each names a step by its id or number."""
        found: list[StoredEvent] = []
        if skip:
            found += self.skip(self._number(skip))
        if retry:
            found += self.retry(self._number(retry))
        if jump:
            found += self.jump(self._number(jump))
        return found

    def _number(self, key: str) -> int:
        number = self.playbook.number(key)
        if number is None:
            keys = ", ".join(self.playbook.key(n) for n in range(1, len(self.playbook.steps) + 1))
            raise ConfigurationError(f"This playbook has no step {key!r}.", f"Its steps: {keys}")
        return number

    def _step_detail(self, number: int) -> dict[str, Any]:
        return {"step": number, "key": self.playbook.key(number), **self._why}

    def skip(self, number: int) -> list[StoredEvent]:
        """Skip a step. Raises Refused for a step that has ended, and for a question whose answer another step needs."""
        if number in self.history.ended:
            state = self.history.ended[number]["state"]
            raise Refused(f"Step {self.playbook.key(number)} has already ended: {state}.", f"opsctl runs show {self.history.run.id}")
        self._require_unneeded(number, {number})
        return [self._skipped(number)]

    def _skipped(self, number: int) -> StoredEvent:
        step = self.playbook.steps[number - 1]
        if conditions.evaluate(step, self._known()) is False:
            return STEP_ENDED, {**self._step_detail(number), "state": "not needed", "why": f"only when {conditions.describe(step)}"}
        return STEP_ENDED, {**self._step_detail(number), "state": "skipped"}

    def _known(self) -> dict[str, str]:
        """Parameters and answers, for `when`; `""` for every question that won't be asked."""
        known = self.history.known()
        for number, step in enumerate(self.playbook.steps, 1):
            if step.kind == "ask" and conditions.evaluate(step, known) is False:
                known.setdefault(self.playbook.key(number), "")
        return known

    def _require_unneeded(self, number: int, leaving: Collection[int]) -> None:
        """Raise Refused for an open question whose answer decides whether a step outside `leaving` is needed."""
        key, known = self.playbook.key(number), self._known()
        if self.playbook.steps[number - 1].kind != "ask" or key in known:
            return
        waiting = [
            self.playbook.key(n)
            for n, step in enumerate(self.playbook.steps, 1)
            if n not in leaving and n not in self.history.ended and any(key in c for c in step.conditions)
            if conditions.evaluate(step, known) is None
        ]
        if waiting:
            why = f"Question {key} can't be skipped: {', '.join(waiting)} depend on its answer."
            raise Refused(why, f"opsctl runs resume {self.history.run.id}")

    def retry(self, number: int) -> list[StoredEvent]:
        """Repeat a step with a new plan, and the steps that depend on it.

        Raises Refused while the outcome of one of them is unknown and can't be queried.
        """
        return [self._retried(n) for n in self._invalidated_by({number})]

    def _invalidated_by(self, wanted: set[int]) -> list[int]:
        """The steps that are `wanted` again, and the later steps, begun or ended, that must be repeated with them.

        These are the steps that follow one of them, every verify, and the steps that a question's former answer made unnecessary.
        """
        invalid, count = set(wanted), len(self.playbook.steps)
        for n in range(min(wanted, default=count) + 1, count + 1):
            step, state = self.playbook.steps[n - 1], self.history.ended.get(n, {}).get("state")
            follows = self.playbook.number(step.follows) if step.follows else None
            asked = {self.playbook.key(other) for other in invalid}
            left_out = state == "not needed" and any(asked & condition.keys() for condition in step.conditions)
            if (state or self.history.children(n)) and (follows in invalid or step.kind == "verify" or left_out):
                invalid.add(n)
        return sorted(invalid)

    def _retried(self, number: int) -> StoredEvent:
        children = self.history.children(number)
        for child in children:
            for step in self.history.ledger.steps(child.id):
                if step.state in ("begun", "unknown") and step.change.outcome_known_by != "state":
                    settle = f"Find out whether it happened, then: opsctl runs settle {child.id} {step.seq} --done|--not-done --reason WHY"
                    raise Refused(f"{step.change.target} was begun, and its outcome is unknown. It is not sent again.", settle)
        return AGAIN, {**self._step_detail(number), "former": [child.id for child in children]}

    def jump(self, number: int) -> list[StoredEvent]:
        """Continue at a step: earlier steps that haven't ended are skipped; this step and later ones that have ended are repeated."""
        leaving = [n for n in range(1, number) if n not in self.history.ended]
        for other in leaving:
            self._require_unneeded(other, leaving)
        invalid = self._invalidated_by({n for n in self.history.ended if n >= number})
        return [self._skipped(n) for n in leaving] + [self._retried(n) for n in invalid]
