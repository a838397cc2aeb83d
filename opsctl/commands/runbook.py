"""`opsctl runbook`: the shipped RUNBOOK.md in a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from opsctl.cli.app import root_command
from opsctl.cli.command import local, offline
from opsctl.errors import ConfigurationError

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext
    from opsctl.render.shapes import Text

ANCHOR = re.compile(r'<a id="([^"]+)"></a>\n?')
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
SYMPTOM = re.compile(r"^\| (.+) \| \[.+\]\(#(.+)\) \|$", re.MULTILINE)


class Procedure(NamedTuple):
    """One section of the runbook: its heading, its anchors, and its text in Markdown."""

    heading: str
    anchors: tuple[str, ...]
    text: str


@root_command("runbook")
@click.argument("topic", nargs=-1, metavar="[TOPIC]")
@offline
@local
def runbook(app: AppContext, topic: tuple[str, ...]) -> Text | list[dict[str, Any]] | dict[str, Any]:
    """Show what to do in an incident: all symptoms, or the procedure for a topic, playbook or command.

    Examples:
        opsctl runbook
        opsctl runbook token-compromise
        opsctl runbook database failover
    """
    from opsctl.config import shipped
    from opsctl.render.shapes import Text

    content = shipped("RUNBOOK.md").read_text(encoding="utf-8")
    procedures = split_procedures(content)
    if not topic:
        return symptoms(content, procedures)
    found = find_procedure(procedures, " ".join(topic))
    if app.output == "json":
        return {"heading": found.heading, "anchors": list(found.anchors), "text": found.text}
    return Text(plain_text(found))


def split_procedures(content: str) -> list[Procedure]:
    """Every section of the runbook that has a heading of the second level; its first anchor is the heading's own."""
    found = []
    for section in content.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        anchors = (slug(heading), *ANCHOR.findall(body))
        found.append(Procedure(heading, tuple(dict.fromkeys(anchors)), ANCHOR.sub("", body).strip()))
    return found


def symptoms(content: str, procedures: list[Procedure]) -> list[dict[str, Any]]:
    """A row for each symptom, with the line that shows its procedure."""
    names = {anchor: procedure.anchors[0] for procedure in procedures for anchor in procedure.anchors}
    return [
        {"what has happened": what, "read": f"opsctl runbook {names[anchor]}"}
        for what, anchor in SYMPTOM.findall(content.partition("\n## ")[0])
    ]


def find_procedure(procedures: list[Procedure], topic: str) -> Procedure:
    """The procedure that a topic names; raises ConfigurationError with the nearest ones."""
    import difflib

    wanted = slug(topic)
    anchors = {anchor: each for each in procedures for anchor in each.anchors}
    for name in (f"playbook-{wanted}", wanted):
        if name in anchors:
            return anchors[name]
    words = set(wanted.split("-"))
    matches = [each for each in procedures if words <= set(each.anchors[0].split("-"))]
    if len(matches) == 1:
        return matches[0]
    by_name = {slug(name).removeprefix("playbook-"): each for name, each in anchors.items()}
    near = matches or [by_name[name] for name in difflib.get_close_matches(wanted, by_name, 4, 0.4)]
    similar = [each for each in procedures if words & set(each.anchors[0].split("-"))]
    lines = dict.fromkeys(f"opsctl runbook {each.anchors[0]}" for each in [*near, *similar])
    what = f"{len(matches)} procedures match {topic!r}." if matches else f"The runbook has no procedure {topic!r}."
    raise ConfigurationError(what, "All symptoms: opsctl runbook", details=[*lines][:6])


def plain_text(procedure: Procedure) -> str:
    """A procedure without the marks of Markdown; what to type is indented, and what belongs to an incident keeps its words."""
    lines, code = [procedure.heading, "=" * len(procedure.heading), ""], False
    for line in procedure.text.splitlines():
        if line.startswith("```"):
            code = not code
        elif code:
            lines.append(f"    {line}" if line else "")
        elif not re.fullmatch(r"\|[-| ]+\|", line):
            lines.append(LINK.sub(_reference, line).replace("**", "").replace("`", ""))
    return "\n".join(lines)


def _reference(link: re.Match[str]) -> str:
    target = link[2]
    return f"{link[1]} (opsctl runbook {target[1:].removeprefix('playbook-')})" if target.startswith("#") else f"{link[1]} ({target})"


def slug(text: str) -> str:
    """A heading or topic as an anchor: `Token compromise` is `token-compromise`."""
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
