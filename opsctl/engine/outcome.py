"""The outcome of a command: what the terminal and JSON show."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from opsctl.engine.ledger.rows import Result, Step
from opsctl.engine.plan import Plan
from opsctl.errors import OpsctlError

EXIT: dict[Result, int] = {
    "unchanged": 0,
    "changed": 0,
    "partial": 0,
    "would-change": 3,
    "failed": 1,
    "refused": 4,
    "unknown": 6,
    "waiting": 7,
}


class Outcome(Struct, kw_only=True):
    """The result of one command. `error` is the error that ended it early.

    `untouched` is True if it is certain that nothing was changed. `typed` is the command line with its shared options.
    """

    run: str | None
    environment: str
    command: str
    typed: str = ""
    dry_run: bool = False
    result: Result
    changes: list[dict[str, Any]] = []
    plan: Plan | None = None
    error: OpsctlError | None = None
    untouched: bool = False

    @property
    def exit_code(self) -> int:
        """The process's exit code."""
        return self.error.exit_code if self.error else EXIT[self.result]

    def as_json(self) -> dict[str, Any]:
        """The one object that `-o json` prints."""
        return {
            "run": self.run,
            "environment": self.environment,
            "command": self.command,
            "dry_run": self.dry_run,
            "result": self.result,
            "changes": self.changes,
            **({"error": self.error.as_json()} if self.error else {}),
        }


def step_as_json(step: Step) -> dict[str, Any]:
    """One step of a plan or a run as a JSON object. A step that was begun and not verified has the state `unknown`."""
    before, after = step.change.difference()
    return {
        "seq": step.seq,
        "kind": step.change.__struct_config__.tag,
        "target": step.change.target,
        "summary": step.change.summary,
        "state": {"begun": "unknown", "made": "unknown"}.get(step.state, step.state),
        "why": step.why,
        "before": before,
        "after": after,
        "impact": {"count": step.count, "unit": step.unit},
        "reversible": step.reversible,
        "undo": step.undo,
        "evidence": step.evidence or {},
    }


def would(changes: list[Step]) -> Result:
    """The result that a run of the plan would have."""
    if any(planned.pending for planned in changes):
        return "would-change"
    return "partial" if any(planned.state == "skipped" for planned in changes) else "unchanged"


def result(steps: list[Step], error: OpsctlError | None) -> Result:
    """The result of a run, from its steps' states and its error."""
    states = {s.state for s in steps}
    if error:
        if "unknown" in states or error.result == "unknown":
            return "unknown"
        return "partial" if any(s.may_have_effect for s in steps) and error.result in ("refused", "failed") else error.result  # type: ignore[return-value]
    if "skipped" in states:
        return "partial"
    return "changed" if "applied" in states else "unchanged"
