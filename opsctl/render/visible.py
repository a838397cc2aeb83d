"""What others wrote, made safe to show: a terminal obeys control characters, and a person believes a line of its own."""

from __future__ import annotations

import re

# C0, DEL and C1; the separators that break lines; and what turns the direction of writing round.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LINES = re.compile("\r?\n")


def visible(text: str) -> str:
    """`text` on one line, its control characters written out: `\\x1b`, `\\n`."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def indented(text: str) -> str:
    """As `visible`, with lines kept: each but the first begins with blanks, so that none passes for another row."""
    return "\n    ".join(visible(line.replace("\t", "  ")) for line in LINES.split(text))
