"""What came of a playbook's run, read from the ledger: every child's changes, and each step's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from opsctl.engine import outcome as engines
from opsctl.engine.outcome import Outcome

if TYPE_CHECKING:
    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.engine.ledger.rows import Result, Run
    from opsctl.errors import OpsctlError
    from opsctl.playbook.history import History
    from opsctl.playbook.preview import Preview

LEFT = ("skipped", "unseen")
"""The states of a step that has ended and wasn't done."""
SHOWN = ("answer", "who", "assumed", "overdue", "why", "reason", "found", "run", "recorded")


class PlaybookOutcome(Outcome, kw_only=True):
    """The outcome of all steps together; each change says its `step`, and `steps` says how each step stands."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The process's exit code: a step that was left out, or a look that saw nothing, makes it partly done."""
        return super().exit_code or (1 if self.left else 0)

    @property
    def left(self) -> list[str]:
        """The steps that were skipped or couldn't be looked at, each with the reason."""
        return [f"{s['step']} ({s['text']}): {s['state']}, {s.get('reason') or s.get('why', '')}" for s in self.steps if s["state"] in LEFT]

    def as_json(self) -> dict[str, Any]:
        """The one object that `-o json` prints."""
        return {**super().as_json(), "steps": self.steps}


def from_ledger(ledger: Ledger, run: Run, history: History, word: Result, error: OpsctlError | None) -> PlaybookOutcome:
    """The outcome of a run that is in the ledger."""
    return PlaybookOutcome(
        run=run.id,
        environment=run.environment,
        command=run.command,
        result=word,
        changes=_changes(ledger, run, history),
        error=error,
        steps=[_step(history, number) for number in range(1, len(history.playbook.steps) + 1)],
    )


def _changes(ledger: Ledger, run: Run, history: History) -> list[dict[str, Any]]:
    """Every change that some step's run holds, in the order of the steps; those of a retried step's former run too."""
    oldest_first = ledger.children(run.id)[::-1]
    children = sorted(oldest_first, key=lambda child: child.item or 0)
    return [
        {**engines.step_as_json(step), "step": history.playbook.key(child.item or 1)}
        for child in children
        for step in ledger.steps(child.id)
    ]


def _step(history: History, number: int) -> dict[str, Any]:
    step, detail = history.playbook.steps[number - 1], history.ended.get(number) or history.failed.get(number, {})
    state = detail.get("state") or ("begun" if history.children(number) else "pending")
    told = {"step": history.playbook.key(number), "kind": step.kind, "text": history.text(number), "state": state}
    return told | {name: detail[name] for name in SHOWN if name in detail}


def may_have_effect(ledger: Ledger, run: Run) -> bool:
    """Whether a step of a playbook's run changed something, or may have."""
    return any(step.may_have_effect for child in ledger.children(run.id) for step in ledger.steps(child.id))


def result(ledger: Ledger, run: Run, history: History, error: OpsctlError | None) -> Result:
    """Sum up a playbook's run in one word."""
    states = {str(detail["state"]) for detail in history.ended.values()}
    steps = [step for child in ledger.children(run.id) for step in ledger.steps(child.id)]
    if error:
        return "partial" if any(step.may_have_effect for step in steps) and error.result in ("refused", "failed") else error.result  # type: ignore[return-value]
    if states & {"partial", *LEFT}:
        return "partial"
    return "changed" if any(step.state == "applied" for step in steps) else "unchanged"


def dry_run_outcome(preview: Preview, environment: str) -> PlaybookOutcome:
    """The outcome of a dry run."""
    error = preview.error
    would = engines.would([planned for look in preview.steps if look.plan for planned in look.plan.changes])
    return PlaybookOutcome(
        run=None,
        environment=environment,
        command=preview.command,
        dry_run=True,
        result=error.result if error else "would-change" if any(look.wrong for look in preview.steps) else would,  # type: ignore[arg-type]
        changes=preview.changes,
        error=error,
        steps=[
            {
                "step": look.key,
                "kind": look.kind,
                "text": look.text,
                "state": look.state,
                "impact": look.plan.impact if look.plan else {},
                **({"bound": look.bound} if look.bound else {}),
                **({"wrong": look.wrong} if look.wrong else {}),
                **({"unasked": look.unasked} if look.unasked else {}),
                **({"error": look.error.what} if look.error else {}),
            }
            for look in preview.steps
        ],
    )
