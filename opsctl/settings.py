"""What a configuration file may say: one frozen struct a table. An unknown key or a bad value is an error.

Credentials are references, never values.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 36_500 * UNITS["d"]

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Duration(timedelta):
    """A time span, written `90s`, `5m`, `24h` or `7d`."""

    def __str__(self) -> str:
        seconds = int(self.total_seconds())
        unit = next(u for u in "dhms" if seconds % UNITS[u] == 0)
        return f"{seconds // UNITS[unit]}{unit}"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for anything but digits and one of s, m, h, d, and beyond a hundred years."""
        match = re.fullmatch(r"([0-9]{1,10})([smhd])", text.strip())
        if not match or (seconds := int(match[1]) * UNITS[match[2]]) > LONGEST:
            raise ValueError(f"expected a duration such as 90s, 5m, 24h or 7d, at most 36500d, got {text!r}")
        return cls(seconds=seconds)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the configuration; an unknown key in it is an error."""


class Reference(Section, frozen=True, kw_only=True):
    """Where a credential is: an AWS secret (with the JSON key in it), an environment variable or a file. Exactly one."""

    aws: str | None = None
    key: str | None = None
    region: str | None = None
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

    max_affected: Count = 100_000
    large: Count = 1_000
    recently: Duration = Duration(seconds=120)
    lock_wait: Duration = Duration(seconds=10)
    pool_share: Share = 0.8


class SecretSettings(Section, frozen=True, kw_only=True):
    """One secret: where it lives, what proves it, who caches it.

    `kind`: `generic` (opsctl writes it), `managed` (RotateSecret does), `function` (a Lambda's environment variable), or `database` and
    `redis`, which opsctl refuses with the procedure. `caches` are the functions that keep the value for `cache`. `image` is what a GHCR
    credential must be able to pull. A `function` secret's generated value is put into `store_in` too, where the installer learns it.
    """

    id: str
    key: str | None = None
    region: str | None = None
    kind: Literal["generic", "managed", "function", "database", "redis"] = "generic"
    consumers: list[str] = []
    signs: str = ""
    generate: str = "hex:32"
    proof: Literal["none", "shape", "jwt", "hubspot", "ghcr"] = "none"
    caches: list[str] = []
    cache: Duration = Duration(minutes=5)
    image: str | None = None
    function: str | None = None
    variable: str | None = None
    store_in: Reference | None = None
    procedure: str = ""
    note: str = ""


class ServiceSettings(Section, frozen=True, kw_only=True):
    """One ECS service; `pool_size` is the database connections that each of its tasks may hold."""

    cluster: str
    service: str
    pool_size: Count = 0
    health: str | None = None
    scale_max: Count = 100


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


class FunctionSettings(Section, frozen=True, kw_only=True):
    """One Lambda function; `alias` is what its callers use, where that isn't $LATEST."""

    name: str
    region: str | None = None
    alias: str | None = None
    log_group: str


class WafSettings(Section, frozen=True, kw_only=True):
    """A web ACL whose rate limiting is worth a look; `rule` is the metric name of one rule, ALL for all of them."""

    acl: str
    rule: str = "ALL"
    region: str | None = None


class HubSpotSettings(Section, frozen=True, kw_only=True):
    """The HubSpot portal that gates downloads; `rate` is the requests that may be sent in any 10 s.

    `enabled`, `requested` and `minted` are the contact properties that allow downloads, ask for a token and hold it.
    """

    base: str = "https://api.hubapi.com"
    contacts: str = "/crm/v3/objects/contacts"
    portal: int
    token: Reference
    rate: int = 190
    enabled: str = "download_enabled"
    requested: str = "download_requested"
    minted: str = "download_token"
    webhook: str | None = None
    app_secret: Reference | None = None
    app_id: int = 0
    subscription_id: int = 0


class LeaseSettings(Section, frozen=True, kw_only=True):
    """The lease endpoint, the secret of its X-Edge-Auth header, and the functions that answer and authorize."""

    url: str
    edge_auth: Reference
    function: str
    authorizer: str


class Contact(Section, frozen=True, kw_only=True):
    """Somebody to call."""

    role: str
    name: str = ""
    phone: str = ""
    email: str = ""
    url: str = ""


class Settings(Section, frozen=True, kw_only=True):
    """What one TOML file says; every file has [aws], only this machine itself (`config.local`) does without."""

    title: str
    protected: bool = True
    sandbox: bool = False
    aws: Aws | None = None
    limits: Limits = Limits()
    secrets: dict[str, SecretSettings] = {}
    services: dict[str, ServiceSettings] = {}
    database: DatabaseSettings | None = None
    redis: RedisSettings | None = None
    sessions: SessionSettings | None = None
    api: ApiSettings | None = None
    ghcr: str = "https://ghcr.io"
    waf: dict[str, WafSettings] = {}
    hubspot: HubSpotSettings | None = None
    lease: LeaseSettings | None = None
    functions: dict[str, FunctionSettings] = {}
    channels: ChannelSettings = ChannelSettings()
    alarms: list[str] = []
    people: list[Contact] = []
    links: dict[str, str] = {}
    log_groups: dict[str, str] = {}
