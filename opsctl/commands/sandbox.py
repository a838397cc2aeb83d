"""`opsctl sandbox`: the rehearsal world on this machine."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import local
from opsctl.config import state_folder
from opsctl.errors import ConfigurationError, install_extra
from opsctl.render.shapes import Text

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext

KINDS = ["sleeping", "waiting", "stubborn"]
ACTIONS = ["slow", "fail", "throttle", "refuse", "drop", "timeout-after-effect"]

sandbox = group("sandbox")


def folder() -> Path:
    """Where the world of this shell is kept."""
    return Path(os.environ.get("OPSCTL_SANDBOX") or state_folder() / "sandbox")


def lifecycle() -> Any:
    """The sandbox's own code, which needs the extra `sandbox`; raises ConfigurationError without it."""
    try:
        from opsctl.sandbox import lifecycle
    except ModuleNotFoundError as cause:
        raise ConfigurationError(f"The sandbox needs {cause.name}, which isn't installed.", install_extra("sandbox")) from cause
    return lifecycle


@sandbox.command()
@click.option("--tempo", type=click.FloatRange(0, 100), help="How long rollouts and failovers take: 1 is a few seconds, 0 none.")
@click.option("--users", type=click.IntRange(10), help="How many users (10,000).")
@click.option("--sessions", type=click.IntRange(10), help="How many refresh sessions (50,000).")
@local
def up(app: AppContext, tempo: float | None, users: int | None, sessions: int | None) -> dict[str, Any]:
    """Start the sandbox, or restart the parts that died.

    Examples:
        opsctl sandbox up
        opsctl sandbox up --tempo 0 --users 1000
    """
    facts = lifecycle().up(folder(), tempo, users, sessions, app.reporter.message)
    return {"aws": facts["aws"], "api": facts["api"], "next": 'eval "$(opsctl sandbox env)"'}


@sandbox.command()
@local
def down(app: AppContext) -> None:
    """Stop the sandbox and all its processes.

    Examples:
        opsctl sandbox down
    """
    lifecycle().down(folder(), app.reporter.message)


@sandbox.command()
@local
def status(app: AppContext) -> list[dict[str, Any]]:
    """Show which parts of the sandbox run, and where.

    Examples:
        opsctl sandbox status
    """
    return [{"part": p.part, "state": p.state, "pid": p.pid, "address": p.address} for p in lifecycle().status(folder())]


@sandbox.command()
@local
def env(app: AppContext) -> Text:
    """Print shell exports that point any client at the sandbox: eval "$(opsctl sandbox env)".

    Examples:
        opsctl sandbox env
    """
    exports: dict[str, str] = lifecycle().exports(folder())
    lines = [f"unset {' '.join(lifecycle().UNSET)}"]
    return Text("\n".join(lines + [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]), raw=True)


@sandbox.command()
@local
def reset(app: AppContext) -> None:
    """Restore the seeded data and remove every fault.

    Examples:
        opsctl sandbox reset
    """
    lifecycle().reset(folder())
    app.reporter.message("The seeded data is back.")


@sandbox.group()
def fault() -> None:
    """Simulate failures: slow, failing or throttled calls, lost answers, crashes."""


@fault.command("set")
@click.argument("part")
@click.argument("operation")
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--seconds", type=click.FloatRange(0), default=0.0, help="How long the call waits.")
@click.option("--status", type=click.IntRange(400, 599), default=None, help="The HTTP status to answer with, instead of the action's own.")
@click.option("--times", type=click.IntRange(0), default=1, show_default=True, help="For how many calls; 0 for all.")
@local
def set_(app: AppContext, part: str, operation: str, action: str, seconds: float, status: int | None, times: int) -> None:
    """Set a fault on calls: `aws ecs.UpdateService timeout-after-effect`, `api "POST /v1/auth/*" slow`.

    Examples:
        opsctl sandbox fault set aws ecs.UpdateService timeout-after-effect
        opsctl sandbox fault set api 'POST /v1/auth/*' slow --seconds 5
    """
    from opsctl.sandbox.faults import Rule

    lifecycle().set_fault(folder(), Rule(part, operation, action, seconds, status or 0, times))
    app.reporter.message(f"{operation} of {part} will {action}.")


@fault.command("list")
@local
def list_(app: AppContext) -> list[dict[str, Any]]:
    """List the faults that are set.

    Examples:
        opsctl sandbox fault list
    """
    import dataclasses

    return [dataclasses.asdict(rule) for rule in lifecycle().faults(folder())]


@fault.command()
@local
def clear(app: AppContext) -> None:
    """Remove every fault.

    Examples:
        opsctl sandbox fault clear
    """
    lifecycle().clear_faults(folder())
    app.reporter.message("No fault is set.")


@fault.command()
@click.argument("service")
@local
def rollout(app: AppContext, service: str) -> None:
    """Make the next rollout of an ECS service fail and roll back.

    Examples:
        opsctl sandbox fault rollout api
    """
    lifecycle().fail_next_rollout(folder(), service)
    app.reporter.message(f"The next rollout of {service} will fail.")


@fault.command()
@click.option("--count", type=click.IntRange(1, 50), default=1, show_default=True, help="How many queries.")
@click.option(
    "--kind", type=click.Choice(KINDS), default="sleeping", show_default=True, help="What the queries do; a stubborn one ignores a cancel."
)
@local
def queries(app: AppContext, count: int, kind: str) -> None:
    """Make the application run long queries until they are ended or the faults are cleared.

    Examples:
        opsctl sandbox fault queries --count 3 --kind stubborn
    """
    running = lifecycle().run_queries(folder(), count, kind)
    app.reporter.message(f"{running} {kind} queries run; see them: opsctl database activity")


@fault.command()
@click.option("--count", type=click.IntRange(1, 1_000), help="How many connections; by default all that an application can get.")
@local
def connections(app: AppContext, count: int | None) -> None:
    """Make the application take database connections until the faults are cleared.

    Examples:
        opsctl sandbox fault connections --count 80
    """
    taken = lifecycle().take_connections(folder(), count or 0)
    app.reporter.message(f"It took {taken} connections; see them: opsctl database connections")


@fault.command()
@click.argument("metric")
@click.argument("value", type=float)
@click.option(
    "--minutes", type=click.IntRange(0, 180), default=15, show_default=True, help="For how many minutes the metric has had this value."
)
@local
def figure(app: AppContext, metric: str, value: float, minutes: int) -> None:
    """Make CloudWatch report a value for a metric until the faults are cleared.

    Examples:
        opsctl sandbox fault figure TargetResponseTime 6.4
    """
    lifecycle().force_figure(folder(), metric, value, minutes)
    app.reporter.message(f"{metric} has been {value:g} for {minutes} min; take it back: opsctl sandbox fault clear")


@fault.command()
@local
def snapshot(app: AppContext) -> None:
    """Make the next snapshot of the database fail half way.

    Examples:
        opsctl sandbox fault snapshot
    """
    lifecycle().fail_next_snapshot(folder())
    app.reporter.message("The next snapshot will fail.")


@fault.command()
@click.argument("part")
@local
def crash(app: AppContext, part: str) -> None:
    """Kill a part of the sandbox, as a crash would: postgres, valkey or server.

    Examples:
        opsctl sandbox fault crash valkey
    """
    killed = lifecycle().crash(folder(), part)
    app.reporter.message(f"Killed {killed} process(es) of {part}; mend it: opsctl sandbox up")
