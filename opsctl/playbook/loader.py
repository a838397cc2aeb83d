"""Finding playbooks, and reading one with everything that is wrong with it told at once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from opsctl import config, files
from opsctl.config import shipped
from opsctl.errors import ConfigurationError
from opsctl.playbook.lines import StepParser
from opsctl.playbook.lint import lint
from opsctl.playbook.schema import Playbook, PlaybookStep
from opsctl.playbook.source import Problem, YamlSource
from opsctl.trust import only_ours


class Loaded(Struct, frozen=True, kw_only=True):
    """A playbook, its name, the file it came from, that file's digest and the parser of its lines.

    `trusted` is False where others could have written the file, and no person has trusted it as it is.
    """

    name: str
    path: Path
    digest: str
    playbook: Playbook
    parser: StepParser
    trusted: bool = True


HERE = Path("playbooks")
"""The folder of the current directory: whoever made that directory wrote it."""


def folders() -> list[Path]:
    """Where playbooks are looked for, best first: the user's, the system's, the shipped ones; here before them only once it is trusted."""
    known = [*(folder / "playbooks" for folder in config.folders()), shipped("playbooks")]
    if not config.is_foreign(HERE, "playbooks"):
        return known
    return [HERE, *known] if _trusted_here() else [*known, HERE]


def _trusted_here() -> bool:
    return config.trusted().files(HERE) is not None


def names() -> dict[str, Path]:
    """Every playbook's name and file; a name found twice is the first folder's."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def written() -> dict[str, Path]:
    """The same for who writes them: the files of the current folder come first, trusted or not."""
    return dict(sorted({**names(), **{path.stem: path for path in HERE.glob("*.yaml")}}.items()))


def trusted(path: Path) -> bool:
    """Tell whether a playbook may run anywhere; one of the current folder that nobody has trusted runs in a sandbox alone."""
    return path.parent != HERE or _trusted_here()


def find(name: str, known: dict[str, Path] | None = None) -> Path:
    """The file of playbook `name`; raises ConfigurationError that lists the playbooks there are."""
    known = names() if known is None else known
    if name not in known:
        raise ConfigurationError(
            f"There is no playbook {name!r} in {', '.join(str(f) for f in folders())}.",
            f"Playbooks: {', '.join(known) or 'none'}.",
        )
    return known[name]


def load(name: str) -> Loaded:
    """Read playbook `name` and check it against the command tree; raises ConfigurationError that tells all its problems."""
    path = find(name)
    if path.parent not in (HERE, shipped("playbooks")):
        only_ours(path)
    loaded, problems = inspect(path)
    if loaded is None or problems:
        told = "; ".join(f"line {p.line}: {p.what}" for p in problems)
        raise ConfigurationError(f"{path} is no sound playbook: {told}", "See each on its line: opsctl playbook lint")
    return msgspec.structs.replace(loaded, trusted=trusted(path))


def inspect(path: Path) -> tuple[Loaded | None, list[Problem]]:
    """Read a playbook and find everything that is wrong with it; None when it can't be read as one at all."""
    try:
        raw = files.read(path)
        source = YamlSource(raw.decode(), path.name)
    except OSError as cause:
        return None, [Problem(line=1, what=f"it can't be read: {cause.strerror}")]
    except UnicodeDecodeError:
        return None, [Problem(line=1, what="it isn't UTF-8 text")]
    except ConfigurationError as cause:
        return None, [Problem(line=_line(cause.what), what=cause.what)]
    playbook, problems = convert(source)
    if playbook is None:
        return None, problems
    loaded = Loaded(name=path.stem, path=path, digest=hashlib.sha256(raw).hexdigest(), playbook=playbook, parser=StepParser())
    return loaded, [*problems, *lint(playbook, source, loaded.parser)]


def _line(text: str) -> int:
    found = re.search(r"(?:line |:)(\d+)", text)
    return int(found[1]) if found else 1


def convert(source: YamlSource) -> tuple[Playbook | None, list[Problem]]:
    """Turn plain values into a playbook, each step on its own, so that one bad step doesn't hide the next."""
    raw, problems = source.value, []
    given = raw.get("steps") if isinstance(raw, dict) else None
    if isinstance(given, list):
        for index, item in enumerate(given):
            _, wrong = _as(PlaybookStep, item, source, f"$.steps[{index}]")
            problems += wrong
        good = {"ask": "nothing"}
        raw = {**raw, "steps": given if not problems else [good] * len(given)}
    playbook, wrong = _as(Playbook, raw, source, "$")
    problems += wrong
    return (None, problems) if problems else (playbook, [])


def _as(kind: type[Any], value: Any, source: YamlSource, path: str) -> tuple[Any, list[Problem]]:
    try:
        return msgspec.convert(value, kind), []
    except msgspec.ValidationError as cause:
        what, _, where = str(cause).partition(" - at ")
        inner = where.strip("`").removeprefix("$").replace("[...]", "")
        key = inner.lstrip(".")
        return None, [Problem(line=source.line(path + inner), what=f"{key}: {what}" if key else what)]
