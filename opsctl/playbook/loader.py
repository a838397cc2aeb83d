"""Find playbook files, and load one. All its problems are reported at once."""

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
    """A playbook with its name, its file, the file's digest, and the parser of its lines.

    `trusted` is False when the file may come from somebody else and its current content was not trusted with `config trust`.
    """

    name: str
    path: Path
    digest: str
    playbook: Playbook
    parser: StepParser
    trusted: bool = True


LOCAL_FOLDER = Path("playbooks")
"""Playbooks of the current directory, whose author is unknown."""


def folders() -> list[Path]:
    """The folders of playbooks in order of precedence: the user's, the system's, the shipped ones. A trusted local folder comes first."""
    known = [*(folder / "playbooks" for folder in config.folders()), shipped("playbooks")]
    if not config.is_foreign(LOCAL_FOLDER, "playbooks"):
        return known
    return [LOCAL_FOLDER, *known] if _trusted_here() else [*known, LOCAL_FOLDER]


def _trusted_here() -> bool:
    return config.trusted().files(LOCAL_FOLDER) is not None


def playbook_files() -> dict[str, Path]:
    """The name and file of every playbook; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def editable_files() -> dict[str, Path]:
    """The same for authors: files of the current folder come first, trusted or not."""
    return dict(sorted({**playbook_files(), **{path.stem: path for path in LOCAL_FOLDER.glob("*.yaml")}}.items()))


def is_trusted(path: Path) -> bool:
    """Whether a playbook may run outside a sandbox; a local one must be trusted first."""
    return path.parent != LOCAL_FOLDER or _trusted_here()


def find_file(name: str, known: dict[str, Path] | None = None) -> Path:
    """The file of playbook `name`. Raises ConfigurationError that lists the available playbooks."""
    known = playbook_files() if known is None else known
    if name not in known:
        raise ConfigurationError(
            f"There is no playbook {name!r} in {', '.join(str(f) for f in folders())}.",
            f"Playbooks: {', '.join(known) or 'none'}.",
        )
    return known[name]


def load(name: str) -> Loaded:
    """Load playbook `name` and check it. Raises ConfigurationError with all its problems."""
    path = find_file(name)
    if path.parent not in (LOCAL_FOLDER, shipped("playbooks")):
        only_ours(path)
    loaded, problems = inspect(path)
    if loaded is None or problems:
        listed = "; ".join(f"line {p.line}: {p.what}" for p in problems)
        raise ConfigurationError(f"{path} is not a valid playbook: {listed}", "See every problem: opsctl playbook lint")
    return msgspec.structs.replace(loaded, trusted=is_trusted(path))


def inspect(path: Path) -> tuple[Loaded | None, list[Problem]]:
    """Read a playbook and list its problems; the playbook is None when the file can't be parsed."""
    try:
        raw = files.read(path)
        source = YamlSource(raw.decode(), path.name)
    except OSError as cause:
        return None, [Problem(line=1, what=f"the file can't be read: {cause.strerror}")]
    except UnicodeDecodeError:
        return None, [Problem(line=1, what="the file isn't UTF-8 text")]
    except ConfigurationError as cause:
        return None, [Problem(line=_line_number(cause.what), what=cause.what)]
    playbook, problems = convert(source)
    if playbook is None:
        return None, problems
    loaded = Loaded(name=path.stem, path=path, digest=hashlib.sha256(raw).hexdigest(), playbook=playbook, parser=StepParser())
    return loaded, [*problems, *lint(playbook, source, loaded.parser)]


def _line_number(text: str) -> int:
    found = re.search(r"(?:line |:)(\d+)", text)
    return int(found[1]) if found else 1


def convert(source: YamlSource) -> tuple[Playbook | None, list[Problem]]:
    """Convert plain values to a playbook. Each step is checked on its own, so one bad step doesn't hide another."""
    raw, problems = source.value, []
    given = raw.get("steps") if isinstance(raw, dict) else None
    if isinstance(given, list):
        for index, item in enumerate(given):
            _, wrong = _convert(PlaybookStep, item, source, f"$.steps[{index}]")
            problems += wrong
        placeholder = {"ask": "nothing"}
        raw = {**raw, "steps": given if not problems else [placeholder] * len(given)}
    playbook, wrong = _convert(Playbook, raw, source, "$")
    problems += wrong
    return (None, problems) if problems else (playbook, [])


def _convert(kind: type[Any], value: Any, source: YamlSource, path: str) -> tuple[Any, list[Problem]]:
    try:
        return msgspec.convert(value, kind), []
    except msgspec.ValidationError as cause:
        what, _, where = str(cause).partition(" - at ")
        inner = where.strip("`").removeprefix("$").replace("[...]", "")
        key = inner.lstrip(".")
        return None, [Problem(line=source.line(path + inner), what=f"{key}: {what}" if key else what)]
