"""config/<environment>.toml, read and checked whole into frozen settings.

An unknown key or a bad value is an error that names the file, the key and what was expected. Credentials are references, never values.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from opsctl.errors import ConfigurationError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(timedelta):
    """A time span, written `90s`, `5m`, `24h` or `7d`."""

    def __str__(self) -> str:
        seconds = int(self.total_seconds())
        unit = next(u for u in "dhms" if seconds % UNITS[u] == 0)
        return f"{seconds // UNITS[unit]}{unit}"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for anything but digits and one of s, m, h, d."""
        match = re.fullmatch(r"(\d+)([smhd])", text.strip())
        if not match:
            raise ValueError(f"expected a duration such as 90s, 5m, 24h or 7d, got {text!r}")
        return cls(seconds=int(match[1]) * UNITS[match[2]])


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the configuration; an unknown key in it is an error."""


class Reference(Section, frozen=True, kw_only=True):
    """Where a credential is: an AWS secret (with the JSON key in it), an environment variable or a file. Exactly one."""

    aws: str | None = None
    key: str | None = None
    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.aws, self.env, self.file)) != 1:
            raise ValueError("expected exactly one of aws, env, file")

    def __str__(self) -> str:
        return f"secret {self.aws}" if self.aws else f"variable {self.env}" if self.env else f"file {self.file}"


class Aws(Section, frozen=True, kw_only=True):
    """The account that this environment is, and how to reach it."""

    account: str
    region: str
    login: str = "aws sso login"
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None


class Limits(Section, frozen=True, kw_only=True):
    """Bounds of a run: `max_affected` refuses, `large` asks to type, `recently` is how far memory reaches."""

    max_affected: int = 100_000
    large: int = 1_000
    recently: Duration = Duration(seconds=120)
    lock_wait: Duration = Duration(seconds=10)
    pool_share: float = 0.8


class SecretSettings(Section, frozen=True, kw_only=True):
    """One secret: where it lives, what proves it, who caches it.

    `kind`: `generic` (opsctl writes it), `managed` (RotateSecret does), or `database` and `redis`, which opsctl refuses with the procedure.
    """

    id: str
    key: str | None = None
    region: str | None = None
    kind: Literal["generic", "managed", "database", "redis"] = "generic"
    consumers: list[str] = []
    signs: str = ""
    generate: str = "hex:32"
    proof: Literal["none", "jwt"] = "none"
    procedure: str = ""
    note: str = ""


class ServiceSettings(Section, frozen=True, kw_only=True):
    """One ECS service; `pool_size` is the database connections that each of its tasks may hold."""

    cluster: str
    service: str
    pool_size: int = 0
    health: str | None = None
    scale_max: int = 100


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """The database: found through AWS by cluster, logged into with `login` to write and `reader` to read."""

    driver: Literal["postgres", "rds-data"] = "postgres"
    cluster: str
    name: str
    login: Reference
    reader: Reference
    tls: bool = True


class RedisSettings(Section, frozen=True, kw_only=True):
    """The cache: found through AWS by its ElastiCache id."""

    cluster: str
    password: Reference | None = None
    tls: bool = True


class SessionSettings(Section, frozen=True, kw_only=True):
    """Where sessions are kept, in the database and in Redis.

    `created_column` tells when a session began; without one, `expires_column` and `lifetime` do. Redis keys' beginning follows from their
    remaining time and `redis_lifetime`. `redis_user_pattern` holds `{user}`. `keep` patterns are never deleted.
    """

    table: str
    id_column: str = "id"
    user_column: str
    created_column: str | None = None
    expires_column: str = "expires_at"
    lifetime: Duration = Duration(days=30)
    users_table: str
    users_id_column: str = "id"
    users_email_column: str = "email"
    last_login_column: str = "last_login_at"
    redis_patterns: list[str] = []
    redis_user_pattern: str = ""
    redis_lifetime: Duration = Duration(minutes=15)
    keep: list[str] = []
    access_ttl: Duration = Duration(minutes=15)
    signing_secret: str | None = None


class Login(Section, frozen=True, kw_only=True):
    """An e-mail and password, both references."""

    email: Reference
    password: Reference


class ApiSettings(Section, frozen=True, kw_only=True):
    """The application's API; `signed_by` names the secret whose rotation makes `token` useless, `login` how a new one is had.

    `revocations` is where the API keeps its marks in Redis: `{who}` becomes `all` or `user:ID`, the value is epoch milliseconds.
    """

    base: str
    token: Reference
    signed_by: str | None = None
    login: Login | None = None
    test: Login | None = None
    revocations: str | None = None


class ChannelSettings(Section, frozen=True, kw_only=True):
    """Where notices go; a channel left out becomes a question to a person."""

    slack: Reference | None = None
    page: Reference | None = None
    page_base: str = "https://events.pagerduty.com"
    status_page: str | None = None
    status_key: Reference | None = None
    status_base: str = "https://api.statuspage.io"


class Contact(Section, frozen=True, kw_only=True):
    """Somebody to call."""

    role: str
    name: str = ""
    phone: str = ""
    email: str = ""
    url: str = ""


class Settings(Section, frozen=True, kw_only=True):
    """What one TOML file says."""

    title: str
    protected: bool = True
    sandbox: bool = False
    aws: Aws
    limits: Limits = Limits()
    secrets: dict[str, SecretSettings] = {}
    services: dict[str, ServiceSettings] = {}
    database: DatabaseSettings | None = None
    redis: RedisSettings | None = None
    sessions: SessionSettings | None = None
    api: ApiSettings | None = None
    channels: ChannelSettings = ChannelSettings()
    alarms: list[str] = []
    people: list[Contact] = []
    links: dict[str, str] = {}
    log_groups: dict[str, str] = {}


class Environment(Struct, frozen=True):
    """One environment's settings, its name, where they came from and their digest."""

    name: str
    path: Path
    digest: str
    settings: Settings = field()

    def need(self, section: str) -> Any:
        """Return a section, or raise ConfigurationError that names the file and the table to add."""
        found = getattr(self.settings, section)
        if found is None:
            raise ConfigurationError(f"{self.path} has no [{section}], which this command needs.", f"Add [{section}] to {self.path}.")
        return found

    def _named(self, section: str, word: str, name: str) -> Any:
        known: dict[str, Any] = getattr(self.settings, section)
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(
                f"{self.name} knows no {word} {name!r}; it knows: {names}.", f"Names are the [{section}.NAME] of {self.path}."
            )
        return known[name]

    def service(self, name: str) -> ServiceSettings:
        """Raises ConfigurationError for a name that the file doesn't have."""
        found: ServiceSettings = self._named("services", "service", name)
        return found

    def secret(self, name: str) -> SecretSettings:
        """Raises ConfigurationError for a name that the file doesn't have."""
        found: SecretSettings = self._named("secrets", "secret", name)
        return found


def folders() -> list[Path]:
    """Where configuration is looked for when neither --config nor OPSCTL_CONFIG says, best first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path("config"), home / "opsctl", Path("/etc/opsctl"), shipped("config")]


def shipped(name: str) -> Path:
    """The shipped `config` or `playbooks`: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name


def find(name: str, folder: str | None = None) -> Path:
    """The file of environment `name`; raises ConfigurationError that lists the environments there are."""
    places = [Path(folder)] if folder else folders()
    for place in places:
        if (path := place / f"{name}.toml").is_file() and re.fullmatch(r"[\w-]+", name):
            return path
    known = sorted({p.stem for place in places for p in place.glob("*.toml") if p.stem != "schedules"})
    where = ", ".join(str(p) for p in places)
    raise ConfigurationError(
        f"There is no environment {name!r}: no {name}.toml in {where}.",
        f"Environments: {', '.join(known) or 'none'}. Choose one with --env or OPSCTL_ENV.",
    )


def load(name: str, folder: str | None = None) -> Environment:
    """Read and check environment `name`; raises ConfigurationError for all that is wrong with it."""
    path = find(name, folder)
    try:
        text = path.read_bytes()
        raw = tomllib.loads(text.decode())
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be read: {cause.strerror}.", "Check its owner and mode.") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise ConfigurationError(f"{path} is not TOML: {cause}.", "Mend that line.") from cause
    digest = hashlib.sha256(text).hexdigest()
    if raw.get("sandbox") is True:
        raw = fill(raw, world())
    try:
        settings = msgspec.convert(raw, Settings, dec_hook=_decode)
    except msgspec.ValidationError as cause:
        raise ConfigurationError(f"{path}: {_where(str(cause))}", "Mend that key; nothing was run.") from cause
    return Environment(name, path, digest, settings)


def _decode(kind: type, value: Any) -> Any:
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"expected a duration such as 90s, 5m, 24h or 7d, got {value!r}")


def _where(text: str) -> str:
    """`Expected X - at `$.a.b`` -> `a.b: Expected X`: the key first."""
    what, _, where = text.partition(" - at ")
    return f"{where.strip('`').removeprefix('$.')}: {what}" if where else what


def state_folder() -> Path:
    """Where opsctl keeps its ledger and the sandbox its world."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "opsctl"


def world() -> dict[str, str]:
    """The facts of the running sandbox; raises ConfigurationError when there is none."""
    path = Path(os.environ.get("OPSCTL_SANDBOX") or state_folder() / "sandbox") / "world.json"
    try:
        held = json.loads(path.read_bytes())
        facts: dict[str, str] = held["facts"] if held["ready"] else {}
    except (OSError, ValueError, KeyError) as cause:
        raise ConfigurationError("The sandbox is not running.", "Start it: opsctl sandbox up") from cause
    if not facts:
        raise ConfigurationError("The sandbox is down.", "Start it: opsctl sandbox up")
    return facts


def fill(value: Any, facts: dict[str, str]) -> Any:
    """Replace every string `world:KEY` by that fact of the sandbox."""
    if isinstance(value, dict):
        return {k: fill(v, facts) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, facts) for v in value]
    if isinstance(value, str) and value.startswith("world:"):
        key = value.removeprefix("world:")
        if key not in facts:
            raise ConfigurationError(f"The running sandbox has no {key!r}.", "Renew it: opsctl sandbox up")
        return facts[key]
    return value
