"""The application: its secrets, services, database, cache, sessions, API, and where its notices go."""

from __future__ import annotations

import re
from typing import Literal

from opsctl.settings.values import Count, Duration, Reference, Section, address


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
    """One ECS service; `pool_size` is the database connections that each of its tasks may hold, `health` its health check's URL.

    `load_balancer` (`app/NAME/ID`) and `target_group` (`targetgroup/NAME/ID`) are what CloudWatch calls what stands before it.
    """

    cluster: str
    service: str
    pool_size: Count = 0
    health: str | None = None
    scale_max: Count = 100
    load_balancer: str | None = None
    target_group: str | None = None


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """The database: found through AWS by `cluster`, or by `instance` where it is in none; `login` writes, `reader` reads.

    `rescue` logs in to end queries, also when no other connection is left: its role has pg_signal_backend and pg_use_reserved_connections;
    without it `login` does. Queries of `spare_roles`, and of applications whose name begins as one of `spare_applications`, are spared.
    A reader that lags behind by more than `max_lag` doesn't become the writer. `ca` is the file of the authorities whose certificates
    count, or `system`; `tunnel` is the ADDRESS:PORT where a tunnel to the endpoint begins. `tls` may be false on this machine only.
    """

    driver: Literal["postgres", "rds-data"] = "postgres"
    cluster: str = ""
    instance: str = ""
    name: str
    login: Reference
    reader: Reference
    rescue: Reference | None = None
    spare_roles: list[str] = []
    spare_applications: tuple[str, ...] = ("pg_dump", "pg_restore", "pg_basebackup", "pgbackrest", "barman")
    tls: bool = True
    ca: str = "system"
    tunnel: str | None = None
    max_lag: Duration = Duration(seconds=5)

    def __post_init__(self) -> None:
        if bool(self.cluster) == bool(self.instance):
            raise ValueError("expected exactly one of cluster, instance")
        if self.driver == "rds-data" and self.instance:
            raise ValueError("expected a cluster with the driver rds-data: an instance has no Data API")
        address(self.tunnel)

    @property
    def tunnel_address(self) -> tuple[str, int] | None:
        """Where the tunnel begins, if there is one."""
        return address(self.tunnel)


class RedisLogin(Section, frozen=True, kw_only=True):
    """A user of Redis' ACL, and its password."""

    user: str
    password: Reference


class RedisSettings(Section, frozen=True, kw_only=True):
    """The cache: found through AWS by its ElastiCache id; `tls`, `ca` and `tunnel` as in [database].

    `db` is the number of the database that the application uses. `user` writes, by default Redis' own default user; `reader` reads, or
    else `user` does.
    """

    cluster: str
    db: Count = 0
    user: str | None = None
    password: Reference | None = None
    reader: RedisLogin | None = None
    tls: bool = True
    ca: str = "system"
    tunnel: str | None = None

    def __post_init__(self) -> None:
        address(self.tunnel)
        if self.user and self.password is None:
            raise ValueError("expected a password beside user")

    def login(self, *, writing: bool) -> tuple[str | None, Reference | None]:
        """The user, None for the default one, and the password of what writes or only reads."""
        return (self.reader.user, self.reader.password) if self.reader and not writing else (self.user, self.password)

    @property
    def tunnel_address(self) -> tuple[str, int] | None:
        """Where the tunnel begins, if there is one."""
        return address(self.tunnel)


class SessionSettings(Section, frozen=True, kw_only=True):
    """Where sessions are kept, in the database and in Redis.

    `created_column` tells when a session began; without one, `expires_column` and `lifetime` do. Redis keys' beginning follows from their
    remaining time and `redis_lifetime`. `redis_user_pattern` holds `{user}` once, which is found only where no `*` is beside it. `keep`
    patterns are never deleted.
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

    def __post_init__(self) -> None:
        if not all(self.redis_patterns):
            raise ValueError("expected no empty pattern in redis-patterns: it matches no key")
        pattern = self.redis_user_pattern
        beside = re.search(r"[*?\]]\{user\}|\{user\}[*?\[]", pattern)
        if self.redis_patterns and (pattern.count("{user}") != 1 or beside):
            raise ValueError(f"expected redis-user-pattern to hold {{user}} once, with no * beside it (nor ? or []), got {pattern!r}")


class Login(Section, frozen=True, kw_only=True):
    """An e-mail and password, both references."""

    email: Reference
    password: Reference


class ApiSettings(Section, frozen=True, kw_only=True):
    """The application's API; `ca` is as in [database]. `signed_by` names the secret whose rotation makes `token` useless, `login` how a
    new one is had.

    `revocations` is where the API keeps its marks in Redis: `{who}` becomes `all` or `user:ID`, the value is epoch milliseconds.
    `staging` is the base of the API's staging, whose health is shown too.
    """

    base: str
    token: Reference
    signed_by: str | None = None
    login: Login | None = None
    test: Login | None = None
    revocations: str | None = None
    ca: str = "system"
    staging: str | None = None

    def __post_init__(self) -> None:
        if self.revocations is not None and self.revocations.count("{who}") != 1:
            raise ValueError(f"expected revocations to hold {{who}} once, got {self.revocations!r}")


class ChannelSettings(Section, frozen=True, kw_only=True):
    """Where notices go; a channel left out becomes a question to a person."""

    slack: Reference | None = None
    page: Reference | None = None
    page_base: str = "https://events.pagerduty.com"
    status_page: str | None = None
    status_key: Reference | None = None
    status_base: str = "https://api.statuspage.io"
