"""SQL text without its literals.

Strings, numbers and comments may contain personal data or secrets. Ambiguous text is hidden too: PostgreSQL cuts long
queries off, and a backslash before a quote means one thing or another, as the server is set (PostgreSQL documentation, 4.1 Lexical
Structure).
"""

from __future__ import annotations

import re

HIDDEN = "?"
CUT = "..."
LONGEST = 120

TOKEN = re.compile(
    r"""
      (?P<quoted>"(?:[^"]|"")*")
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z))
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?P<inside>(?:[^']|'')*)(?P<closed>'?))
    | (?P<word>[^\W\d][\w$]*)
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<parameter>\$\d+)
    | (?P<number>(?:\d|\.\d)[\w.]*(?:(?<=[eE])[+-][\w.]+)?)
    | (?P<open>")
    """,
    re.VERBOSE | re.DOTALL,
)


def redact_literals(text: str) -> str:
    """SQL on one line, `?` for every literal, without comments; `...` from the first ambiguous position on."""
    shown: list[str] = []
    place = 0
    while found := TOKEN.search(text, place):
        shown.append(text[place : found.start()])
        place = found.end()
        if found["quoted"] or found["word"] or found["parameter"]:
            shown.append(found[0])
        elif found["line"] or found["block"]:
            shown.append(" ")
            place = _after_comment(text, place) if found["block"] else place
        else:
            shown.append(HIDDEN)
            if found["open"] or _unsure(found):
                shown.append(CUT)
                break
    else:
        shown.append(text[place:])
    return " ".join("".join(shown).split())


def brief(text: str, longest: int = LONGEST) -> str:
    """As `redact_literals`, with at most `longest` characters."""
    shown = redact_literals(text)
    return shown if len(shown) <= longest else shown[: longest - len(CUT)] + CUT


def _unsure(found: re.Match[str]) -> bool:
    """Whether this string literal may end elsewhere."""
    return found["string"] is not None and ("\\'" in found["inside"] or (found["inside"].endswith("\\") and bool(found["closed"])))


def _after_comment(text: str, place: int) -> int:
    """The end of a block comment that started before `place`; comments nest."""
    depth = 1
    for found in re.compile(r"/\*|\*/").finditer(text, place):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return len(text)
