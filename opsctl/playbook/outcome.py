"""The outcome of a playbook's run, read from the ledger: the changes of every step, and each step's state."""

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

NOT_DONE = ("skipped", "unseen")
"""The states of a step that ended without being done."""
JSON_FIELDS = ("answer", "who", "assumed", "overdue", "why", "reason", "found", "run", "recorded")


class PlaybookOutcome(Outcome, kw_only=True):
    """The outcome of all steps. Each change names its `step`; `steps` has the state of each step."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The process's exit code. A skipped step, or a look that failed, makes the run partly done."""
        return super().exit_code or (1 if self.not_done else 0)

    @property
    def not_done(self) -> list[str]:
        """The steps that were skipped or could not be read, each with the reason."""
        return [
            f"{s['step']} ({s['text']}): {s['state']}, {s.get('reason') or s.get('why', '')}" for s in self.steps if s["state"] in NOT_DONE
        ]

    def as_json(self) -> dict[str, Any]:
        """The object that `-o json` prints."""
        return {**super().as_json(), "steps": self.steps}


def from_ledger(ledger: Ledger, run: Run, history: History, result: Result, error: OpsctlError | None) -> PlaybookOutcome:
    """The outcome of a run in the ledger."""
    return PlaybookOutcome(
        run=run.id,
        environment=run.environment,
        command=run.command,
        result=result,
        changes=_changes(ledger, run, history),
        error=error,
        steps=[_step_as_json(history, number) for number in range(1, len(history.playbook.steps) + 1)],
    )


def _changes(ledger: Ledger, run: Run, history: History) -> list[dict[str, Any]]:
    """The changes of every step's runs, in the order of the steps; a retried step's earlier runs are included."""
    oldest_first = ledger.children(run.id)[::-1]
    children = sorted(oldest_first, key=lambda child: child.item or 0)
    return [
        {**engines.step_as_json(step), "step": history.playbook.key(child.item or 1)}
        for child in children
        for step in ledger.steps(child.id)
    ]


def _step_as_json(history: History, number: int) -> dict[str, Any]:
    step, detail = history.playbook.steps[number - 1], history.ended.get(number) or history.failed.get(number, {})
    state = detail.get("state") or ("begun" if history.children(number) else "pending")
    entry = {"step": history.playbook.key(number), "kind": step.kind, "text": history.text(number), "state": state}
    return entry | {name: detail[name] for name in JSON_FIELDS if name in detail}


def may_have_effect(ledger: Ledger, run: Run) -> bool:
    """Whether a step of a playbook's run changed, or may have changed, something."""
    return any(step.may_have_effect for child in ledger.children(run.id) for step in ledger.steps(child.id))


def result(ledger: Ledger, run: Run, history: History, error: OpsctlError | None) -> Result:
    """The result of a playbook's run."""
    states = {str(detail["state"]) for detail in history.ended.values()}
    steps = [step for child in ledger.children(run.id) for step in ledger.steps(child.id)]
    if error:
        return "partial" if any(step.may_have_effect for step in steps) and error.result in ("refused", "failed") else error.result  # type: ignore[return-value]
    if states & {"partial", *NOT_DONE}:
        return "partial"
    return "changed" if any(step.state == "applied" for step in steps) else "unchanged"


def dry_run_outcome(preview: Preview, environment: str) -> PlaybookOutcome:
    """The outcome of a dry run."""
    error = preview.error
    would = engines.would([planned for previewed in preview.steps if previewed.plan for planned in previewed.plan.changes])
    return PlaybookOutcome(
        run=None,
        environment=environment,
        command=preview.command,
        dry_run=True,
        result=error.result if error else "would-change" if any(previewed.wrong for previewed in preview.steps) else would,  # type: ignore[arg-type]
        changes=preview.changes,
        error=error,
        steps=[
            {
                "step": previewed.key,
                "kind": previewed.kind,
                "text": previewed.text,
                "state": previewed.state,
                "impact": previewed.plan.impact if previewed.plan else {},
                **({"bound": previewed.bound} if previewed.bound else {}),
                **({"wrong": previewed.wrong} if previewed.wrong else {}),
                **({"unasked": previewed.unasked} if previewed.unasked else {}),
                **({"error": previewed.error.what} if previewed.error else {}),
            }
            for previewed in preview.steps
        ],
    )
