"""An environment: which file it is read from, and its settings.

`opsctl.settings` has the keys of a file, `opsctl.settings.parse` checks them. Credentials are references, never values.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, field

from opsctl import files
from opsctl.errors import ConfigurationError, Refused
from opsctl.settings import FunctionSettings, Reference, SecretSettings, ServiceSettings, Settings
from opsctl.settings.parse import InvalidSettings, Tables, parse
from opsctl.trust import TRUST, Trusted, only_ours

T = TypeVar("T")
DEEPEST = 256
"""Maximum number of parts of a dotted key."""


class ConfigFile(NamedTuple):
    """A configuration file and its content; `trusted` is false when other users could have written it and it was not trusted since."""

    path: Path
    text: bytes
    trusted: bool = True


class Required(Generic[T]):
    """A table of the configuration; raises ConfigurationError when the file doesn't have it."""

    def __init__(self, of: Callable[[Settings], T | None]) -> None:
        self._of = of

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, environment: Environment, owner: type | None = None) -> T:
        """The table's settings."""
        if (found := self._of(environment.settings)) is not None:
            return found
        what = f"This command needs [{self._name}], which {environment.path} does not have."
        raise ConfigurationError(what, f"Add [{self._name}] to {environment.path}, or choose another environment with --env.")


class Environment(Struct, frozen=True):
    """One environment: its name, its file with digest, and its settings.

    An optional table is an attribute (`environment.redis`); an entry of a table of named tables has a method.
    """

    name: str
    path: Path
    digest: str
    settings: Settings = field()

    aws = Required(lambda settings: settings.aws)
    database = Required(lambda settings: settings.database)
    redis = Required(lambda settings: settings.redis)
    sessions = Required(lambda settings: settings.sessions)
    api = Required(lambda settings: settings.api)
    hubspot = Required(lambda settings: settings.hubspot)
    lease = Required(lambda settings: settings.lease)
    bounces = Required(lambda settings: settings.bounces)
    sentry = Required(lambda settings: settings.sentry)
    protection = Required(lambda settings: settings.protection)

    def require(self, *tables: str) -> None:
        """Raise ConfigurationError unless the file has these tables."""
        for table in tables:
            getattr(self, table)

    def _entry(self, section: str, word: str, known: Mapping[str, T], name: str) -> T:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(
                f"There is no {word} {name!r} in {self.name}. Known: {names}.",
                f"Choose one of these, or add [{section}.NAME] to {self.path}.",
            )
        return known[name]

    def service(self, name: str) -> ServiceSettings:
        """Raises ConfigurationError for a name that the file doesn't have."""
        return self._entry("services", "service", self.settings.services, name)

    def function(self, name: str) -> FunctionSettings:
        """Raises ConfigurationError for a name that the file doesn't have."""
        return self._entry("functions", "function", self.settings.functions, name)

    def secret(self, name: str) -> SecretSettings:
        """Raises ConfigurationError for a name that the file doesn't have."""
        return self._entry("secrets", "secret", self.settings.secrets, name)


HERE = Path("config")
"""The folder in the current directory, which may belong to somebody else."""


def folders() -> list[Path]:
    """The user's and the system's configuration folders, searched without --config and OPSCTL_CONFIG."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "opsctl", Path("/etc/opsctl")]


def trusted() -> Trusted:
    """The trusted folders."""
    return Trusted(state_folder() / "trusted.json")


def is_foreign(folder: Path, name: str) -> bool:
    """Whether `folder` exists in the current directory and is not the shipped `name`."""
    return folder.is_dir() and not (shipped(name).is_dir() and folder.samefile(shipped(name)))


def shipped(name: str) -> Path:
    """The shipped `config` or `playbooks` folder, or RUNBOOK.md: in the wheel, or next to the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / name
    return inside if inside.exists() else package.parent / name


def find(name: str, folder: str | None = None) -> ConfigFile:
    """Read the file of environment `name`; raises ConfigurationError with the known environments, or Refused for an untrusted file.

    `./config` comes first if it is trusted. If not, it is used last, and only for a sandbox.
    """
    file = f"{name}.toml" if re.fullmatch(r"[\w-]+", name) else "no file has this name"
    here = HERE if not folder and is_foreign(HERE, "config") else None
    if here and (here / file).is_file() and (held := trusted().files(here)) is not None:
        return ConfigFile(here / file, held[file])
    for place in [Path(folder)] if folder else folders():
        if (path := place / file).is_file():
            return _private_file(path)
    if here and (path := here / file).is_file():
        what = f"{path} is in the current folder, which is not trusted in its present state; nothing was run."
        return _sandbox_only(path, Refused(what, TRUST))
    if not folder and (path := shipped("config") / file).is_file():
        return ConfigFile(path, _bytes(path))
    where = ", ".join(map(str, places(folder)))
    raise ConfigurationError(
        f"There is no environment {name!r}: no {name}.toml in {where}.",
        f"Environments: {', '.join(names(folder)) or 'none'}. Choose one with --env or OPSCTL_ENV.",
    )


def places(folder: str | None = None) -> list[Path]:
    """The folders that may contain an environment's file."""
    return [Path(folder)] if folder else [HERE, *folders(), shipped("config")]


def names(folder: str | None = None) -> list[str]:
    """The names of the known environments."""
    return sorted({path.stem for place in places(folder) for path in place.glob("*.toml") if path.stem != "schedules"})


def _private_file(path: Path) -> ConfigFile:
    """A file of the user's or the system's folder, or of --config; one that others can write is untrusted."""
    try:
        if not path.parent.samefile(shipped("config")):
            only_ours(path)
    except Refused as foreign:
        return _sandbox_only(path, foreign)
    return ConfigFile(path, _bytes(path))


def _sandbox_only(path: Path, otherwise: Refused) -> ConfigFile:
    """An untrusted file; raises `otherwise` unless it is for a sandbox."""
    text = _bytes(path)
    if _parsed(path, text).get("sandbox") is not True:
        raise otherwise
    return ConfigFile(path, text, trusted=False)


def _bytes(path: Path) -> bytes:
    try:
        return files.read(path)
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", "Check its owner and mode.") from cause


def _parsed(path: Path, text: bytes) -> Tables:
    try:
        return _tables(text.decode())
    except ValueError as cause:
        raise ConfigurationError(f"{path} is not TOML: {cause}.", "Correct that line.") from cause


def load(name: str, folder: str | None = None) -> Environment:
    """Environment `name`; raises ConfigurationError with every error of its file, and with every key that is not filled in."""
    path, text, trusted = find(name, folder)
    raw = _parsed(path, text)
    digest = hashlib.sha256(text).hexdigest()
    if raw.get("sandbox") is True:
        raw = fill(raw, world())
    _resolve_ca(raw, path)
    try:
        settings = parse(raw)
    except InvalidSettings as cause:
        first, *more = cause.errors
        what = f"{path} has {len(cause.errors)} errors; nothing was run." if more else f"{path}: {first}; nothing was run."
        raise ConfigurationError(what, _correct(path), details=cause.errors if more else ()) from None
    if not trusted:
        _no_reach(path, settings)
    return Environment(name, path, digest, settings)


def _correct(path: Path) -> str:
    """The hint for a file with errors; a shipped file has to be copied first."""
    if path.parent != shipped("config"):
        return f"Correct {path}. All keys: docs/reference.md."
    mine = folders()[0] / path.name
    return f"mkdir -p {mine.parent}; cp {path} {mine}; then fill in these keys there, and delete the tables that you don't use."


def _tables(text: str) -> Tables:
    """The content of a TOML file; raises ValueError for invalid TOML and for too deep nesting."""
    # The parser's time grows with the square of the number of parts of a dotted key.
    deep = any(piece.count(".") > DEEPEST for piece in re.split("[=,\n]", text))
    try:
        if not deep:
            return tomllib.loads(text)
    except RecursionError:
        pass
    raise ValueError("it is nested too deeply")


def _no_reach(path: Path, settings: Settings) -> None:
    """Raise Refused when an untrusted file refers to a file or a variable of this user as a credential."""
    for key, reference in _references("", settings):
        if reference.aws is None:
            raise Refused(f"{path}: {key} refers to {reference}. A file that others could have written may not use it.", TRUST)


def _references(key: str, value: object) -> Iterator[tuple[str, Reference]]:
    """Every reference to a credential, with its key."""
    if isinstance(value, Reference):
        yield key, value
    elif isinstance(value, Struct):
        for each in msgspec.structs.fields(value):
            yield from _references(f"{key}.{each.encode_name}".removeprefix("."), getattr(value, each.name))
    elif isinstance(value, dict):
        for name, held in value.items():
            yield from _references(f"{key}.{name}", held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from _references(key, held)


def local() -> Environment:
    """The environment of commands that need none: nothing is configured, no outside system can be reached."""
    return Environment("local", Path("this machine"), "", Settings(title="this machine", protected=False))


def _resolve_ca(raw: Tables, path: Path) -> None:
    """Resolve each relative `ca` from the file's folder."""
    for table in raw.values():
        if isinstance(table, dict) and isinstance(table.get("ca"), str) and table["ca"] != "system":
            table["ca"] = str(path.parent.resolve() / Path(table["ca"]).expanduser())


def state_folder() -> Path:
    """The folder of the ledger and of the sandbox's state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "opsctl"


def world() -> dict[str, str]:
    """The facts of the running sandbox; raises ConfigurationError when there is none."""
    path = Path(os.environ.get("OPSCTL_SANDBOX") or state_folder() / "sandbox") / "world.json"
    try:
        held = json.loads(files.read(path))
        facts: dict[str, str] = held["facts"] if held["ready"] else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise ConfigurationError("The sandbox is not running.", "Start it: opsctl sandbox up") from cause
    if not facts:
        raise ConfigurationError("The sandbox is down.", "Start it: opsctl sandbox up")
    return facts


def fill(table: Tables, facts: Mapping[str, str]) -> Tables:
    """Replace every value `world:KEY` and prefix `world:KEY/` with that fact of the sandbox."""
    return {key: _filled(value, facts) for key, value in table.items()}


def _filled(value: object, facts: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return fill(value, facts)
    if isinstance(value, list):
        return [_filled(each, facts) for each in value]
    if isinstance(value, str) and value.startswith("world:"):
        key, slash, path = value.removeprefix("world:").partition("/")
        if key not in facts:
            raise ConfigurationError(f"The running sandbox has no value {key!r}.", "Restart the sandbox: opsctl sandbox up")
        return facts[key] + slash + path
    return value
