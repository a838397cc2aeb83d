"""What stands between a plan and its first effect: bounds, and a person's yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.engine.options import Options
from opsctl.engine.plan import Plan
from opsctl.errors import DriftError, Refused

if TYPE_CHECKING:
    from opsctl.systems import Systems


def reject_drift(plan: Plan) -> None:
    """Raise DriftError if some change of the plan found the world neither as reviewed nor as wanted; Refused if a guard couldn't look."""
    for planned in plan.changes:
        if planned.state == "moved":
            raise DriftError(f"{planned.change.target}: {planned.why}.", "Look again, then plan anew.")
        if planned.unguarded:
            raise Refused(f"{planned.change.target}: {planned.unguarded}", planned.next)


def limit(read: Systems, options: Options) -> int:
    """How many of anything a command may affect: --max-affected, and never more than is configured."""
    configured = read.config.limits.max_affected
    return configured if options.max_affected is None else min(options.max_affected, configured)


def check_limits(plan: Plan, read: Systems, options: Options) -> None:
    """Raise Refused when the plan affects more of any unit than --max-affected or the configured limit allows."""
    most = limit(read, options)
    for unit, count in plan.impact.items():
        if count > most:
            raise Refused(
                f"It would affect {count:,} {unit}, above the limit of {most:,}.",
                "Narrow it, or raise --max-affected (never above max-affected in the configuration).",
            )


def confirmation_target(plan: Plan, read: Systems) -> str | None:
    """The target whose name must be typed: in a protected environment, that of the gravest irreversible or large change.

    What is large is told by all of the plan: a thousand changes of one user each are.
    """
    if not read.config.protected:
        return None
    large = {unit for unit, count in plan.impact.items() if count >= read.config.limits.large}
    grave = [p for p in plan.pending if p.change.needs_typed_confirmation or not p.reversible or p.unit in large]
    return max(grave, key=lambda p: p.count).change.target if grave else None


def require_approval(plan: Plan, read: Systems, options: Options) -> None:
    """Return once a person has said yes; raises InputRequired when nobody is there to say it, Refused when the answer is no."""
    place = f"{plan.environment} (account {plan.account}, as {plan.caller}, configured by {plan.file})"
    target = confirmation_target(plan, read)
    if target is None:
        if not options.yes and not read.person.agree(f"Apply to {place}?", "Add --yes, or run it in a terminal."):
            raise Refused("Not agreed.", f"When it is right: opsctl {plan.command}")
        return
    given = options.confirm
    if given is None:
        question = f"This can't be taken back or is large. To apply it to {place}, type {target}"
        given = read.person.text(question, f"Add --confirm {target}, or run it in a terminal.")
    if given != target:
        raise Refused(f"{given!r} is not {target!r}.", f"Type exactly: {target}")
