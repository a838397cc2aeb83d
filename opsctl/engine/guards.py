"""The guards that a plan passes before its first effect: drift, limits and approval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.contract import Failed, Pending
from opsctl.engine.options import Options
from opsctl.engine.plan import Plan
from opsctl.errors import DriftError, Refused
from opsctl.formats.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Collection

    from opsctl.engine.ledger.rows import Step
    from opsctl.systems import Systems

IMPACT_TOLERANCE = 1.1


def reject_drift(plan: Plan) -> None:
    """Raise DriftError if a target is neither as reviewed nor as wanted, Refused if a safety check could not be made."""
    for planned in plan.changes:
        if planned.state == "moved":
            raise DriftError(f"{planned.change.target}: {planned.why}.", "Check it, then make a new plan.")
        if planned.unguarded:
            raise Refused(f"{planned.change.target}: {planned.unguarded}", planned.next)


def require_reviewed(step: Step, found: Pending | Failed, limit: int, unreviewed: Collection[int]) -> None:
    """Raise Refused or DriftError for a change that wasn't reviewed, has grown since the review, or is above the limit."""
    if step.seq in unreviewed:
        raise DriftError(f"{step.change.target}: it was done when the plan was reviewed; now it would be changed.", "Make a new plan.")
    if isinstance(found, Pending) and found.unguarded:
        raise Refused(f"{step.change.target}: {found.unguarded}", found.next)
    if step.count and found.count > step.count * IMPACT_TOLERANCE and step.begun is None:
        grown = f"{step.change.target}: it would now affect {found.count:,} {found.unit}; {step.count:,} were reviewed."
        raise DriftError(grown, "Make a new plan.")
    if found.count > limit:
        beyond = f"{step.change.target}: it would affect {found.count:,} {found.unit}, above the limit of {limit:,}."
        raise Refused(beyond, "Narrow the command, or raise --max-affected (at most max-affected in the configuration).")


def limit(read: Systems, options: Options) -> int:
    """The most that a command may affect of any unit: --max-affected, but never more than the configuration allows."""
    configured = read.config.limits.max_affected
    return configured if options.max_affected is None else min(options.max_affected, configured)


def check_limits(plan: Plan, read: Systems, options: Options) -> None:
    """Raise Refused when the plan affects more of any unit than --max-affected or the configured limit allows."""
    most = limit(read, options)
    for unit, count in plan.impact.items():
        if count > most:
            raise Refused(
                f"The plan would affect {counted(count, unit)}, above the limit of {most:,}.",
                "Narrow the command, or raise --max-affected (at most max-affected in the configuration).",
            )


def confirmation_target(plan: Plan, read: Systems) -> str | None:
    """The target whose name must be typed to confirm: in a protected environment, that of the largest irreversible or large change.

    Changes are large if all changes of the plan together are: a thousand changes of one user each count as large.
    """
    if not read.config.protected:
        return None
    large = {unit for unit, count in plan.impact.items() if count >= read.config.limits.large}
    risky = [p for p in plan.pending if p.change.needs_typed_confirmation or not p.reversible or p.unit in large]
    return max(risky, key=lambda p: p.count).change.target if risky else None


def require_approval(plan: Plan, read: Systems, options: Options) -> None:
    """Ask for approval of the plan. Raises Refused if the answer is no, InputRequired if there is no terminal to ask on."""
    place = f"{plan.environment} (account {plan.account}, as {plan.caller}, configured by {plan.file})"
    target = confirmation_target(plan, read)
    if target is None:
        again = " again, even if it was done recently," if options.again else ""
        if not options.yes and not read.person.agree(f"Apply{again} to {place}?", "Add --yes, or run the command in a terminal."):
            raise Refused("Not approved.", f"To try again: opsctl {options.typed(plan.command)}")
        return
    given = options.confirm
    if given is None:
        question = f"This change can't be undone, or is large. To apply it to {place}, type {target}"
        given = read.person.text(question, f"Add --confirm {target}, or run the command in a terminal.")
    if given != target:
        raise Refused(f"{given!r} is not {target!r}.", f"Type exactly: {target}")
