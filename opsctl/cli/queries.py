"""config/queries/NAME.txt: CloudWatch Logs Insights queries, each with a heading of `# key: value` lines.

`title` describes the query, `functions` and `log-groups` are names from the configuration, `plot` is the column to draw in a terminal.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from opsctl import files
from opsctl.config import Environment, shipped
from opsctl.errors import ConfigurationError

HEADING = re.compile(r"#\s*([\w-]+):\s*(.*)")


class LogQuery(Struct, frozen=True):
    """A query and its log groups."""

    name: str
    title: str
    text: str
    groups: list[tuple[str, str | None]]
    plot: str | None


def folders(environment: Environment) -> list[Path]:
    """The folders of queries: beside the environment's file, then the shipped one."""
    return [environment.path.parent / "queries", shipped("config") / "queries"]


def load(environment: Environment, name: str) -> LogQuery:
    """Read a query. Raises ConfigurationError if it is unknown, empty, or names something that isn't configured."""
    known = {path.stem: path for folder in reversed(folders(environment)) for path in folder.glob("*.txt")}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(f"Unknown query {name!r}. Known queries: {names}.", f"Queries are files in {folders(environment)[0]}.")
    lines = _text(known[name]).splitlines()
    heading = {match[1]: match[2] for line in lines if (match := HEADING.fullmatch(line.strip()))}
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    functions = [environment.function(each) for each in heading.get("functions", "").split()]
    groups = [(function.log_group, function.region) for function in functions]
    groups += [group(environment, each) for each in heading.get("log-groups", "").split()]
    if not text:
        raise ConfigurationError(f"{known[name]} has no query in it.", "Write one below its heading.")
    if not groups:
        raise ConfigurationError(f"{known[name]} names no log group.", "Add a line: # functions: NAME, or # log-groups: NAME")
    return LogQuery(name, heading.get("title", name), text, groups, heading.get("plot"))


def _text(path: Path) -> str:
    try:
        return files.read(path).decode()
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", "A query is a file in UTF-8.") from cause
    except UnicodeDecodeError as cause:
        raise ConfigurationError(f"{path} can't be read as text: {cause}.", "A query is a file in UTF-8.") from cause


def group(environment: Environment, name: str) -> tuple[str, str | None]:
    """The log group and region with this name in the configuration. A name that begins with a slash is a log group itself."""
    settings = environment.settings
    if name in settings.functions:
        return settings.functions[name].log_group, settings.functions[name].region
    regions = {function.log_group: function.region for function in settings.functions.values()}
    found = settings.log_groups.get(name, name if name.startswith("/") else None)
    if found is None:
        names = ", ".join(sorted({*settings.functions, *settings.log_groups})) or "none"
        raise ConfigurationError(
            f"Unknown log group {name!r} in {environment.name}. Known groups: {names}.", "A group's full name works too."
        )
    return found, regions.get(found)
