"""Execute a playbook's steps in order: ask, run, look, verify. Each step's end is recorded before the next step begins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from opsctl.errors import (
    CheckFailed,
    ConfigurationError,
    ExternalError,
    Hint,
    Interrupted,
    LedgerFailed,
    OpsctlError,
    Refused,
    Retry,
    retry_after,
)
from opsctl.playbook import conditions, lines, looking, questions
from opsctl.playbook.history import ANSWERED, STEP_ENDED, STEP_FAILED, run_completed_at
from opsctl.playbook.overrides import Overrides
from opsctl.redaction import clean_text
from opsctl.render.shapes import Verdict
from opsctl.render.visible import indented, visible
from opsctl.settings import Duration

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.cli.parsed import ParsedCommand
    from opsctl.engine.ledger.rows import Run
    from opsctl.engine.options import Options
    from opsctl.engine.outcome import Outcome
    from opsctl.engine.plan import Plan
    from opsctl.playbook.history import History
    from opsctl.playbook.lines import StepParser
    from opsctl.playbook.schema import PlaybookStep

MARGIN = 0.1


class Executor:
    """Executes one playbook's run in this process.

    `bounds` holds the approved impact of each step, by its number. `fresh` is true when a run is resumed: then --yes and --confirm were
    given after the next step was shown, so they apply to that step, and to no later one.
    """

    def __init__(
        self,
        app: AppContext,
        run: Run,
        parser: StepParser,
        history: History,
        options: Options,
        bounds: dict[str, dict[str, int]],
        *,
        fresh: bool = False,
    ) -> None:
        self.app, self.run, self.history, self.options = app, run, history, options
        self.engine, self.ledger, self.reporter = app.engine, app.engine.ledger, app.reporter
        self.playbook, self.parameters = history.playbook, dict(run.details["parameters"])
        self._parser, self._bounds, self._fresh, self._section = parser, bounds, fresh, ""

    def execute(self) -> None:
        """Execute every step that hasn't ended. Raises the error that stops the run, with a hint how to resume it."""
        try:
            for number, step in enumerate(self.playbook.steps, 1):
                if number not in self.history.ended:
                    self._check_stop()
                    self._execute_step(number, step)
        except KeyboardInterrupt:
            raise Interrupted("Interrupted; what was done so far is in the ledger.", Retry(run=self.run.id)) from None
        except OpsctlError as error:
            error.next = self._next_hint(error)
            raise

    def _next_hint(self, error: OpsctlError) -> Hint:
        """What to type next. A step's run is resumed through the playbook's run; a cancelled run has no next step."""
        if isinstance(error.next, Retry):
            return error.next._replace(run=self.run.id)
        if isinstance(error, Interrupted):
            return Retry(run=self.run.id) if error.next else ""
        return retry_after([error.next], self.run.id)

    def _check_stop(self) -> None:
        requested = self.ledger.stop_requested(self.run.id)
        if requested == "cancel":
            raise Interrupted(f"Run {self.run.id} was cancelled by request.")
        if requested:
            raise Interrupted(f"Run {self.run.id} was paused by request.", Retry())

    def _execute_step(self, number: int, step: PlaybookStep) -> None:
        if not conditions.evaluate(step, self.history.known()):
            self.history.record(STEP_ENDED, number, "not needed", why=f"only when {conditions.describe(step)}")
            return
        self._announce(number, step)
        handlers: dict[str, Callable[[int, PlaybookStep], None]] = {
            "ask": self._ask,
            "run": self._run,
            "look": self._look,
            "verify": self._verify,
        }
        handlers[step.kind](number, step)

    def _announce(self, number: int, step: PlaybookStep) -> None:
        heading = " · ".join(x for x in (step.section, step.mark) if x)
        if heading != self._section:
            self._section = heading
            self.reporter.message(f"\n{visible(heading)}")
        name = f" [{step.id}]" if step.id else ""
        # The prompt shows the question.
        text = "" if step.kind == "ask" and not self.app.person.assume else f" {self.history.text(number)}"
        self.reporter.message(f"Step {number} of {len(self.playbook.steps)}{name}: {step.kind}{visible(text)}")
        if step.note and step.kind == "ask":
            self.reporter.message(f"  {indented(step.note)}")

    def _ask(self, number: int, step: PlaybookStep) -> None:
        """Ask a question, and record the answer before anything else happens."""
        person, question = self.app.person, self.history.text(number)
        key, who = self.playbook.key(number), self.app.operator
        if person.assume:
            answer = questions.assumed_answer(step)
            self.reporter.message(f"  assumed answer: {answer.text}")
        else:
            overrides = Overrides(self.history, "", who)
            answer = questions.ask(person, question, step, Retry(), self.reporter.message, lambda: overrides.skip(number))
        detail: dict[str, Any] = {"question": question, "who": who, "assumed": person.assume, **self._overdue_detail(step)}
        if answer.state == "skipped":
            self.history.record(STEP_ENDED, number, "skipped", reason=answer.text, **detail)
        elif answer.state == "failed":
            what = f"{question}{'' if question.endswith('?') else ':'} Marked as failed: {answer.text}."
            self._fail(number, what, Retry("Fix it"), **detail, reason=answer.text)
        elif step.expected and answer.text not in step.expected:
            wanted = " or ".join(step.expected)
            what = f"{question} The answer is {answer.text}; the run continues only with {wanted}. {step.note}".rstrip()
            hint = Retry("" if step.note else "Fix it", options=("", f"--skip {key} --reason WHY"))
            self._fail(number, what, hint, **detail, answer=answer.text)
        else:
            self.history.record(ANSWERED, number, "answered", **detail, answer=answer.text)

    def _overdue_detail(self, step: PlaybookStep) -> dict[str, str]:
        """By how much the answer was late; it is shown and recorded."""
        if (late := self._overdue(step)) <= 0:
            return {}
        self.reporter.message(f"  answered {late} s late (it was due within {step.within})")
        return {"overdue": f"{late} s"}

    def _overdue(self, step: PlaybookStep) -> int:
        if not step.within:
            return 0
        due = self.run.opened + Duration.parse(step.within)
        return ceil((self.ledger.now() - due).total_seconds())

    def _run(self, number: int, step: PlaybookStep, state: str = "") -> None:
        """Plan and apply a step, or resume its run. `state` is what to record; by default the run's result."""
        parsed = self._parser.given(step, self.parameters)
        options = lines.options(parsed, self.options)
        if number in self.history.retrying:
            options = msgspec.structs.replace(options, again=True)
        child = next(iter(self.history.children(number)), None)
        if child is None:
            outcome = self._perform(number, self._plan(step, parsed, options, recall=not state), options)
        elif child.wish == "cancel":
            key = self.playbook.key(number)
            raise Refused(f"Step {key} was cancelled (run {child.id}); it can't be resumed.", self._retry_or_skip(number))
        else:
            outcome = self.engine.resume(child, options)
        if outcome.error:
            raise self._with_retry_hint(number, outcome, outcome.error)
        self._fresh = False
        child = self.history.children(number)[0]
        self.history.record(STEP_ENDED, number, state or outcome.result, run=child.id, at=run_completed_at(self.ledger, child).isoformat())

    def _plan(self, step: PlaybookStep, parsed: ParsedCommand, options: Options, *, recall: bool) -> Plan:
        """Plan a step's command. The ledger alone never makes a verify, or a step that follows another, count as done."""
        recall = recall and not step.follows
        return self.engine.plan(parsed.text, lines.make(parsed), options, follows=self._follow_time(step), recall=recall)

    def _follow_time(self, step: PlaybookStep) -> datetime | None:
        number = self.playbook.number(step.follows) if step.follows else None
        return self.history.completed_at(number) if number else None

    def _perform(self, number: int, plan: Plan, options: Options) -> Outcome:
        excess = self._excess_impact(number, plan)
        for planned in plan.changes:
            if not planned.pending:
                state = "already done" if planned.state == "done" else planned.state
                self.reporter.message(f"  {state:<12} {visible(planned.change.summary)}")
        if excess and not self._fresh:
            options = msgspec.structs.replace(options, yes=False, confirm=None)
        if excess:
            self.reporter.message(f"  more than the approved plan: {excess}")
            self.app.screen.plan(plan)
        return self.engine.perform(plan, options, parent=(self.run.id, number), agreed=not excess)

    def _excess_impact(self, number: int, plan: Plan) -> str:
        """What the step would affect beyond the approved impact plus a tenth; empty when it stays within."""
        if str(number) not in self._bounds:
            return "this step could not be planned before" if plan.pending else ""
        shown = self._bounds[str(number)]
        excess = {u: n for u, n in plan.impact.items() if n > shown.get(u, 0) + ceil(shown.get(u, 0) * MARGIN)}
        return ", ".join(f"{count:,} {unit} now, {shown.get(unit, 0):,} approved" for unit, count in excess.items())

    def _with_retry_hint(self, number: int, outcome: Outcome, error: OpsctlError) -> OpsctlError:
        """The error with a hint to retry the step: resuming the same plan would fail in the same way, so the step is planned again."""
        if isinstance(error, Interrupted) and self.ledger.run(outcome.run or "").wish == "cancel":
            error.next = self._retry_or_skip(number)
        elif error.result in ("failed", "refused"):
            hint = error.next if isinstance(error.next, Retry) else Retry(error.next)
            first = hint.first or f"opsctl runs show {outcome.run}"
            error.next = Retry(first, options=(f"--retry {self.playbook.key(number)} --reason WHY",))
        return error

    def _retry_or_skip(self, number: int) -> Retry:
        """The hint after a step's run was cancelled: plan the step again, or skip it."""
        key = self.playbook.key(number)
        return Retry(options=(f"--retry {key} --reason WHY", f"--skip {key} --reason WHY"))

    def _look(self, number: int, step: PlaybookStep) -> None:
        """Show what a command returns, and record it. A look verifies nothing, so a failed query is reported and doesn't stop the run."""
        try:
            found = looking.read(self.app, self._parser.given(step, self.parameters))
        except (ExternalError, ConfigurationError) as cause:
            self.reporter.message(f"  could not be read: {visible(cause.what)}")
            self.history.record(STEP_ENDED, number, "unseen", why=cause.what)
            return
        self._print(found)
        missing = "; ".join(looking.failed_sources(found))
        why = {"why": clean_text(missing)} if missing else {}
        self.history.record(STEP_ENDED, number, "unseen" if looking.is_blind(found) else "seen", found=looking.for_ledger(found), **why)

    def _verify(self, number: int, step: PlaybookStep) -> None:
        """Verify with read-only clients; a failure stops the run. A check with an effect of its own is run as a change."""
        parsed = self._parser.given(step, self.parameters)
        if lines.is_performed(parsed):
            self._run(number, step, "verified")
            return
        try:
            found, wrong = self._verify_by_plan(step, parsed) if lines.is_mutating(parsed) else self._verify_by_reading(step, parsed)
        except (ExternalError, CheckFailed, LedgerFailed, ConfigurationError) as cause:
            found, wrong = None, [f"it could not be queried: {cause.what}"]
        if wrong:
            key = self.playbook.key(number)
            hint = Retry("Fix it", options=(f"--retry {key} --reason WHY", f"--skip {key} --reason WHY"))
            self._fail(number, f"Check {key} failed: {'; '.join(wrong)}.", hint, found=found)
        self.history.record(STEP_ENDED, number, "verified", found=found)

    def _fail(self, number: int, what: str, hint: Hint, **detail: Any) -> NoReturn:
        """Record that a step failed, and raise the error that stops the run. Resuming the run repeats the step."""
        self.history.record(STEP_FAILED, number, "failed", **{"why": clean_text(what), "who": self.app.operator, **detail})
        raise CheckFailed(what, hint)

    def _verify_by_plan(self, step: PlaybookStep, parsed: ParsedCommand) -> tuple[Any, list[str]]:
        """What a changing command would still change. Only the outside system is asked; the ledger is not evidence."""
        plan = self._plan(step, parsed, lines.options(parsed, self.options), recall=False)
        for planned in plan.changes:
            self._report("passed" if planned.state == "done" else "failed", planned.change.summary, planned.why)
        return [{"target": p.change.target, "state": p.state, "why": p.why} for p in plan.changes], looking.remaining_changes(plan)

    def _verify_by_reading(self, step: PlaybookStep, parsed: ParsedCommand) -> tuple[Any, list[str]]:
        seen = looking.verify(self.app, step, parsed)
        if isinstance(seen.found, Verdict):
            for check in seen.found.checks:
                word = {True: "passed", False: "failed", None: "unknown" if check.applies else "not needed"}[check.ok]
                self._report(word, check.name, check.detail)
        else:
            self._print(seen.found)
        return looking.for_ledger(seen.found), seen.wrong

    def _report(self, word: str, what: str, why: str) -> None:
        self.reporter.message(f"  {word:<10} {visible(what)}{': ' if why else ''}{visible(why)}")

    def _print(self, found: Any) -> None:
        """Print a result, unless standard output must be one JSON object."""
        if isinstance(found, Verdict):
            found = found.checks
        if found is not None and not self.app.screen.json:
            self.app.screen.show(found)
