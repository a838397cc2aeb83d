"""`opsctl playbook`: list, show, run and check playbooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import local
from opsctl.cli.options import apply_options, run_and_report, split_options
from opsctl.formats.quantities import counted
from opsctl.render.shapes import Check, Text, Verdict
from opsctl.render.tables import terminal_width

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext

playbook = group("playbook")


@playbook.command("list")
@local
def list_(app: AppContext) -> list[dict[str, Any]]:
    """List the playbooks; with -v, also the file of each.

    Examples:
        opsctl playbook list
    """
    from opsctl.playbook.loader import inspect, is_trusted, playbook_files

    rows = []
    for name, path in playbook_files().items():
        loaded, problems = inspect(path)
        found = loaded.playbook if loaded else None
        rows.append(
            {
                "name": name,
                "title": found.title if found else "",
                "steps": len(found.steps) if found else None,
                "questions": sum(s.kind == "ask" for s in found.steps) if found else None,
                "file": str(path),
                "trusted": is_trusted(path),
                "state": f"{counted(len(problems), 'problems')}: opsctl playbook lint {name}" if problems else "ok",
            }
        )
    if app.output == "json" or app.verbose:
        return rows
    return [_brief_row(row) for row in rows]


def _brief_row(row: dict[str, Any]) -> dict[str, Any]:
    """What fits a narrow terminal: without the file, and with `trusted` in the state."""
    state = row["state"] if row["trusted"] or row["state"] != "ok" else "not trusted"
    return {key: row[key] for key in ("name", "title", "steps")} | {"state": state}


@playbook.command()
@click.argument("name")
@local
def show(app: AppContext, name: str) -> Text | dict[str, Any]:
    """Show a playbook as a checklist; with -v, also the notes on its steps.

    Examples:
        opsctl playbook show token-compromise
        opsctl playbook show token-compromise -v
    """
    import msgspec

    from opsctl.playbook.format import format_checklist
    from opsctl.playbook.loader import load

    loaded = load(name)
    if app.output == "json":
        plain: dict[str, Any] = msgspec.to_builtins(loaded.playbook)
        return {"name": loaded.name, "file": str(loaded.path), "digest": loaded.digest, **plain}
    return Text(format_checklist(loaded, terminal_width(), notes=app.verbose))


@playbook.command("run")
@click.argument("name")
@click.argument("words", nargs=-1, metavar="KEY=VALUE...")
@click.option("--assume-answers", is_flag=True, help="Answer questions automatically; sandbox only.")
@apply_options
@local
def run_(app: AppContext, name: str, words: tuple[str, ...], assume_answers: bool, **shared: Any) -> None:
    """Run a playbook: show all its steps, ask once, then execute step by step. Continue a stopped run with `runs resume`.

    Examples:
        opsctl playbook run token-compromise scope=widespread -n
        opsctl playbook run alert-response --incident INC-42
    """
    from opsctl.playbook import parameters, runner

    options, _ = split_options(shared)
    line = parameters.command_line(name, dict(word.split("=", 1) for word in words if "=" in word))
    run_and_report(app, line, options, lambda: runner.run(app, name, words, options, assume=assume_answers))


@playbook.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of playbooks, for editors.")
@local
def lint(app: AppContext, names: tuple[str, ...], schema: bool) -> Verdict | Text:
    """Check playbooks (by default all) against their schema and the commands; list every problem.

    Examples:
        opsctl playbook lint
        opsctl playbook lint token-compromise
    """
    import msgspec

    from opsctl.playbook import loader
    from opsctl.playbook.schema import json_schema

    if schema:
        return Text(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
    paths = [loader.find_file(name, loader.editable_files()) for name in names] or list(loader.editable_files().values())
    checks = []
    for path in paths:
        loaded, problems = loader.inspect(path)
        checks += [Check(f"{path}:{p.line}", False, p.what) for p in problems]
        if loaded and not problems:
            checks.append(Check(str(path), True, counted(len(loaded.playbook.steps), "steps")))
    return Verdict(checks, "Fix each line, then: opsctl playbook lint")
