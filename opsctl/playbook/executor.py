"""Going through a playbook's steps in order: asking, running, verifying; each step's end is recorded before the next begins."""

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
from opsctl.playbook.history import ANSWERED, STEP_ENDED, STEP_FAILED, came_about
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
    """Drives one playbook's run in this process.

    `bounds` are the impacts that were approved, by step number. `fresh` says that the options' yes and confirmation were given after the
    step now reached was shown, as when a waiting run is taken up: then they count for it, and for no later one.
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
        """Take every step that hasn't ended; raises the error that ends the run here, with the way to take it up again."""
        try:
            for number, step in enumerate(self.playbook.steps, 1):
                if number not in self.history.ended:
                    self._check_stop()
                    self._take_step(number, step)
        except KeyboardInterrupt:
            raise Interrupted("Interrupted; what was done so far is in the ledger.", Retry(run=self.run.id)) from None
        except OpsctlError as error:
            error.next = self._next_hint(error)
            raise

    def _next_hint(self, error: OpsctlError) -> Hint:
        """What to do next: a step's run is resumed through its playbook's; after a cancelling there is nothing to do."""
        if isinstance(error.next, Retry):
            return error.next._replace(run=self.run.id)
        if isinstance(error, Interrupted):
            return Retry(run=self.run.id) if error.next else ""
        return retry_after([error.next], self.run.id)

    def _check_stop(self) -> None:
        wish = self.ledger.stop_requested(self.run.id)
        if wish == "cancel":
            raise Interrupted(f"Run {self.run.id} was cancelled by request.")
        if wish:
            raise Interrupted(f"Run {self.run.id} was paused by request.", Retry())

    def _take_step(self, number: int, step: PlaybookStep) -> None:
        if not conditions.holds(step, self.history.known()):
            self.history.record(STEP_ENDED, number, "not needed", why=f"only when {conditions.describe(step)}")
            return
        self._announce(number, step)
        take: dict[str, Callable[[int, PlaybookStep], None]] = {
            "ask": self._ask,
            "run": self._run,
            "look": self._look,
            "verify": self._verify,
        }
        take[step.kind](number, step)

    def _announce(self, number: int, step: PlaybookStep) -> None:
        heading = " · ".join(x for x in (step.section, step.mark) if x)
        if heading != self._section:
            self._section = heading
            self.reporter.message(f"\n{visible(heading)}")
        name = f" [{step.id}]" if step.id else ""
        # A question that is put to somebody says itself.
        told = "" if step.kind == "ask" and not self.app.person.assume else f" {self.history.text(number)}"
        self.reporter.message(f"Step {number} of {len(self.playbook.steps)}{name}: {step.kind}{visible(told)}")
        if step.note and step.kind == "ask":
            self.reporter.message(f"  {indented(step.note)}")

    def _ask(self, number: int, step: PlaybookStep) -> None:
        """Ask, and keep the answer before anything else is done."""
        person, question = self.app.person, self.history.text(number)
        key, who = self.playbook.key(number), self.app.operator
        if person.assume:
            answer = questions.assumed_answer(step)
            self.reporter.message(f"  answer assumed: {answer.text}")
        else:
            overrides = Overrides(self.history, "", who)
            answer = questions.ask(person, question, step, Retry(), self.reporter.message, lambda: overrides.skip(number))
        detail: dict[str, Any] = {"question": question, "who": who, "assumed": person.assume, **self._lateness(step)}
        if answer.state == "skipped":
            self.history.record(STEP_ENDED, number, "skipped", reason=answer.text, **detail)
        elif answer.state == "failed":
            what = f"{question}{'' if question.endswith('?') else ':'} Answered as failed: {answer.text}."
            self._fail(number, what, Retry("Fix it"), **detail, reason=answer.text)
        elif step.expected and answer.text not in step.expected:
            wanted = " or ".join(step.expected)
            what = f"{question} The answer is {answer.text}; the run continues only with {wanted}. {step.note}".rstrip()
            hint = Retry("" if step.note else "Fix it", options=("", f"--skip {key} --reason WHY"))
            self._fail(number, what, hint, **detail, answer=answer.text)
        else:
            self.history.record(ANSWERED, number, "answered", **detail, answer=answer.text)

    def _lateness(self, step: PlaybookStep) -> dict[str, str]:
        """How long after its time a question was answered, which is said and kept."""
        if (late := self._overdue(step)) <= 0:
            return {}
        self.reporter.message(f"  answered {late} s after the {step.within} it was to be done within")
        return {"overdue": f"{late} s"}

    def _overdue(self, step: PlaybookStep) -> int:
        if not step.within:
            return 0
        due = self.run.opened + Duration.parse(step.within)
        return ceil((self.ledger.now() - due).total_seconds())

    def _run(self, number: int, step: PlaybookStep, state: str = "") -> None:
        """Plan and perform, or take up the child that is there; `state` is what it is recorded as, by default what came of it."""
        parsed = self._parser.given(step, self.parameters)
        options = lines.options(parsed, self.options)
        if number in self.history.anew:
            options = msgspec.structs.replace(options, again=True)
        child = next(iter(self.history.children(number)), None)
        if child is None:
            outcome = self._perform(number, self._plan(step, parsed, options, recall=not state), options)
        elif child.wish == "cancel":
            key = self.playbook.key(number)
            raise Refused(f"Step {key} was cancelled (run {child.id}); it is not taken up again.", self._ways_past(number))
        else:
            outcome = self.engine.resume(child, options)
        if outcome.error:
            raise self._failed(number, outcome, outcome.error)
        self._fresh = False
        child = self.history.children(number)[0]
        self.history.record(STEP_ENDED, number, state or outcome.result, run=child.id, at=came_about(self.ledger, child).isoformat())

    def _plan(self, step: PlaybookStep, parsed: ParsedCommand, options: Options, *, recall: bool) -> Plan:
        """Plan a step's line; one that follows another, or proves, is never satisfied by memory, even where the other was left out."""
        recall = recall and not step.follows
        return self.engine.plan(parsed.text, lines.make(parsed), options, follows=self._follows(step), recall=recall)

    def _follows(self, step: PlaybookStep) -> datetime | None:
        number = self.playbook.number(step.follows) if step.follows else None
        return self.history.moment(number) if number else None

    def _perform(self, number: int, plan: Plan, options: Options) -> Outcome:
        over = self._beyond(number, plan)
        for planned in plan.changes:
            if not planned.pending:
                state = "already done" if planned.state == "done" else planned.state
                self.reporter.message(f"  {state:<12} {visible(planned.change.summary)}")
        if over and not self._fresh:
            options = msgspec.structs.replace(options, yes=False, confirm=None)
        if over:
            self.reporter.message(f"  this is beyond what was shown: {over}")
            self.app.screen.plan(plan)
        return self.engine.perform(plan, options, parent=(self.run.id, number), agreed=not over)

    def _beyond(self, number: int, plan: Plan) -> str:
        """What the step would affect beyond the impact that was approved and a tenth; empty when it stays within."""
        if str(number) not in self._bounds:
            return "it couldn't be planned before" if plan.pending else ""
        shown = self._bounds[str(number)]
        over = {u: n for u, n in plan.impact.items() if n > shown.get(u, 0) + ceil(shown.get(u, 0) * MARGIN)}
        return ", ".join(f"{count:,} {unit} now, {shown.get(unit, 0):,} then" for unit, count in over.items())

    def _failed(self, number: int, outcome: Outcome, error: OpsctlError) -> OpsctlError:
        """The error with the way on: taking the same plan up again would find the same failure, so it is planned anew."""
        if isinstance(error, Interrupted) and self.ledger.run(outcome.run or "").wish == "cancel":
            error.next = self._ways_past(number)
        elif error.result in ("failed", "refused"):
            hint = error.next if isinstance(error.next, Retry) else Retry(error.next)
            first = hint.first or f"opsctl runs show {outcome.run}"
            error.next = Retry(first, options=(f"--retry {self.playbook.key(number)} --reason WHY",))
        return error

    def _ways_past(self, number: int) -> Retry:
        """The ways to go on behind a step whose run was cancelled: plan the step anew, or skip it."""
        key = self.playbook.key(number)
        return Retry(options=(f"--retry {key} --reason WHY", f"--skip {key} --reason WHY"))

    def _look(self, number: int, step: PlaybookStep) -> None:
        """Show what a command sees, and keep it; it proves nothing, so that what can't be seen is said and doesn't stop the run."""
        try:
            found = looking.look(self.app, self._parser.given(step, self.parameters))
        except (ExternalError, ConfigurationError) as cause:
            self.reporter.message(f"  it couldn't be looked at: {visible(cause.what)}")
            self.history.record(STEP_ENDED, number, "unseen", why=cause.what)
            return
        self._show(found)
        missing = "; ".join(looking.unasked_parts(found))
        why = {"why": clean_text(missing)} if missing else {}
        self.history.record(STEP_ENDED, number, "unseen" if looking.is_blind(found) else "seen", found=looking.for_ledger(found), **why)

    def _verify(self, number: int, step: PlaybookStep) -> None:
        """Look, over systems that can only read, and stop unless it is as it must be; a check that is itself an effect is performed."""
        parsed = self._parser.given(step, self.parameters)
        if lines.is_performed(parsed):
            self._run(number, step, "verified")
            return
        try:
            found, wrong = self._verify_by_plan(step, parsed) if lines.is_mutating(parsed) else self._judge(step, parsed)
        except (ExternalError, CheckFailed, LedgerFailed, ConfigurationError) as cause:
            found, wrong = None, [f"it couldn't be asked: {cause.what}"]
        if wrong:
            key = self.playbook.key(number)
            hint = Retry("Fix it", options=(f"--retry {key} --reason WHY", f"--skip {key} --reason WHY"))
            self._fail(number, f"Verification {key} (`{parsed.text}`) found it not so: {'; '.join(wrong)}.", hint, found=found)
        self.history.record(STEP_ENDED, number, "verified", found=found)

    def _fail(self, number: int, what: str, hint: Hint, **detail: Any) -> NoReturn:
        """Keep that a step failed, and raise what ends the run; the step is taken again when the run is resumed."""
        self.history.record(STEP_FAILED, number, "failed", **{"why": clean_text(what), "who": self.app.operator, **detail})
        raise CheckFailed(what, hint)

    def _verify_by_plan(self, step: PlaybookStep, parsed: ParsedCommand) -> tuple[Any, list[str]]:
        """What a changing command would still change; our own memory of it is no proof."""
        plan = self._plan(step, parsed, lines.options(parsed, self.options), recall=False)
        for planned in plan.changes:
            self._report("so" if planned.state == "done" else "not so", planned.change.summary, planned.why)
        return [{"target": p.change.target, "state": p.state, "why": p.why} for p in plan.changes], looking.remaining_changes(plan)

    def _judge(self, step: PlaybookStep, parsed: ParsedCommand) -> tuple[Any, list[str]]:
        seen = looking.prove(self.app, step, parsed)
        if isinstance(seen.found, Verdict):
            for check in seen.found.checks:
                word = {True: "so", False: "not so", None: "couldn't be asked" if check.applies else "not needed"}[check.ok]
                self._report(word, check.name, check.detail)
        else:
            self._show(seen.found)
        return looking.for_ledger(seen.found), seen.wrong

    def _report(self, word: str, what: str, why: str) -> None:
        self.reporter.message(f"  {word:<10} {visible(what)}{': ' if why else ''}{visible(why)}")

    def _show(self, found: Any) -> None:
        """Draw what was seen, unless standard output is to be one JSON object."""
        if isinstance(found, Verdict):
            found = found.checks
        if found is not None and not self.app.screen.json:
            self.app.screen.show(found)
