"""What others wrote, made safe to show: a terminal obeys control characters, and a person believes a line of its own."""

from __future__ import annotations

import re

from opsctl.redaction import visible as visible

LINES = re.compile("\r?\n")


def indented(text: str) -> str:
    """As `visible`, with lines kept: each but the first begins with blanks, so that none passes for another row."""
    return "\n    ".join(visible(line.replace("\t", "  ")) for line in LINES.split(text))
