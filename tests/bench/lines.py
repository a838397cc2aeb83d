"""Some of opsctl's own command lines, one after another in one process, as a playbook's runner takes them: `-m tests.bench.lines LINE...`."""

from __future__ import annotations

import gc
import sys
from typing import Any

from opsctl import cli
from opsctl.changing import split
from opsctl.engine.options import Options
from opsctl.invocation import Invocation


def main(lines: list[str]) -> None:
    """Run each line over one set of systems; a changing one is planned when it is reached, applied and proven."""
    gc.enable()
    with Invocation(name="sandbox") as invocation:
        for line in lines:
            parsed = cli.Parsed(line, {})
            if isinstance(parsed.command.role, cli.changes):
                _change(invocation, parsed)
            else:
                invocation.show(parsed.command.role.function(invocation.read, **parsed.params))


def _change(invocation: Invocation, parsed: cli.Parsed) -> None:
    _, own = split(parsed.params)

    def make(systems: Any) -> Any:
        return parsed.command.role.function(systems, **own)

    options = Options(yes=True, again=True)
    engine = invocation.engine
    outcome = engine.perform(engine.plan(parsed.text, make, options), options)
    if outcome.result != "changed":
        raise SystemExit(f"{parsed.text}: {outcome.result}: {outcome.error}")


if __name__ == "__main__":
    main(sys.argv[1:])
