"""A run as it is listed and shown: who ran what, when and why, each step with before and after, and the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsctl.render.shapes import EventRecord, Page, StepRecord

if TYPE_CHECKING:
    from opsctl.engine.ledger.ledger import Ledger
    from opsctl.engine.ledger.rows import Event, Run, Step


def run_row(run: Run, active: set[str]) -> dict[str, Any]:
    """A run as a row of `runs list`; `active` are the ids of runs that a process works on."""
    state = "running" if run.id in active else "cancelled" if run.wish == "cancel" else run.result or "interrupted"
    return {
        "run": run.id,
        "environment": run.environment,
        "opened": run.opened,
        "state": state,
        "command": run.details.get("typed", run.command),
        "operator": run.operator,
        "incident": run.incident,
        "reason": run.reason,
    }


def run_page(ledger: Ledger, run: Run) -> Page:
    """A run with all its steps and events, those of a playbook's commands among them, and what each undo of it did."""
    ended = {"closed": run.closed, "account": run.account, "caller": run.caller, "version": run.version}
    family = [run, *reversed(ledger.children(run.id))]
    steps = [_step_record(each, step) for each in family for step in ledger.steps(each.id)]
    events = sorted((_event_record(event) for each in family for event in ledger.events(each.id)), key=lambda event: event.at)
    return Page([("Run", {**run_row(run, ledger.locks.active_runs()), **ended}), ("Steps", steps), ("Events", events)])


def _step_record(run: Run, step: Step) -> StepRecord:
    before, after = step.change.difference()
    return StepRecord(
        run=run.id,
        step=step.seq,
        state=step.state,
        what=step.change.summary,
        before=before,
        after=after,
        affects=step.count,
        unit=step.unit,
        why=step.why,
        evidence=step.evidence or {},
        undo=step.undo,
    )


def _event_record(event: Event) -> EventRecord:
    return EventRecord(at=event.at, run=event.run, event=event.what, step=event.seq, detail=event.detail)
