"""Errors say what to do next in a hint; here it becomes the line to type."""

from __future__ import annotations

from opsctl.errors import Hint


def next_line(hint: Hint) -> str:
    """What to do next, as it is shown behind `next:` and in JSON: with the run's id when there is a run to resume."""
    if isinstance(hint, str) or not hint.run:
        return str(hint)
    resume = f"opsctl runs resume {hint.run}"
    line = "; or: ".join(f"{resume} {option}".rstrip() for option in hint.options) or resume
    return f"{hint.first.rstrip('.')}; then: {line}" if hint.first else line
