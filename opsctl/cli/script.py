"""A plan as a shell script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.shell import Comment, Message, Script

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.engine.plan import Plan
    from opsctl.shell import Statement


def statements(plan: Plan, environment: Environment) -> list[Statement]:
    """The statements of a script that makes a plan's pending changes, in their order."""
    found: list[Statement] = []
    for planned in plan.pending:
        found += [Comment(line=f"{planned.seq}. {planned.change.summary}"), *planned.change.as_shell(environment)]
    return found


def script(environment: Environment, command: str, statements: list[Statement]) -> Script:
    """One script for all of a command's statements."""
    last = Message(
        line="Done. Nothing was verified by opsctl, and its ledger knows nothing of it." if statements else "There is nothing to do."
    )
    aws, title = environment.settings.aws, f"opsctl {command}, in the environment {environment.name}"
    account, endpoint = (aws.account, aws.endpoint) if aws else ("", None)
    ca = aws.ca if aws and aws.ca != "system" else None
    return Script(title=title, statements=(*statements, last), account=account, endpoint=endpoint, proxy=environment.settings.proxy, ca=ca)
