"""The application: its secrets, services, database, cache, sessions, API, and where its notices go."""

from __future__ import annotations

import re
from typing import Literal

from opsctl.settings.values import Count, Duration, Reference, Section, address


class SecretSettings(Section, frozen=True, kw_only=True):
    """One secret: where it is stored, who uses it, and how a new value is made and checked."""

    id: str
    """Its name or ARN in AWS Secrets Manager; for kind `function`, any name."""
    key: str | None = None
    """The member of the JSON object that holds the value; none means that the whole secret is the value."""
    region: str | None = None
    """Its region, if it differs from [aws]."""
    kind: Literal["generic", "managed", "function", "database", "redis"] = "generic"
    """`generic`: opsctl writes it; `managed`: AWS rotates it; `function`: a Lambda variable; others: refused, see procedure."""
    consumers: list[str] = []
    """Services that read the secret at start and must be redeployed after a rotation."""
    signs: str = ""
    """What the secret signs, such as access tokens; shown in the plan."""
    generate: str = "hex:32"
    """How to generate a value: hex:BYTES, base64:BYTES, or none where somebody else issues it."""
    proof: Literal["none", "shape", "jwt", "hubspot", "ghcr"] = "none"
    """How a new value is checked before it is used."""
    caches: list[str] = []
    """Lambda functions that cache the value."""
    cache: Duration = Duration(minutes=5)
    """How long those functions cache it."""
    image: str | None = None
    """The image that a GHCR credential must be able to pull, such as OWNER/IMAGE:TAG."""
    function: str | None = None
    """For kind `function`: the Lambda function."""
    variable: str | None = None
    """For kind `function`: the function's environment variable."""
    store_in: Reference | None = None
    """For kind `function`: the AWS secret that also gets the generated value."""
    procedure: str = ""
    """What a person has to do, where opsctl can't rotate it or can't finish."""
    note: str = ""
    """A sentence for the plan: what the rotation means for users."""


class ServiceSettings(Section, frozen=True, kw_only=True):
    """One ECS service."""

    cluster: str
    """Its ECS cluster."""
    service: str
    """Its name in ECS."""
    pool_size: Count = 0
    """How many database connections each task may hold; 0 means unknown."""
    health: str | None = None
    """The URL of its health check."""
    scale_max: Count = 100
    """The most tasks that `opsctl service scale` accepts."""
    load_balancer: str | None = None
    """Its load balancer as CloudWatch names it: app/NAME/ID."""
    target_group: str | None = None
    """Its target group as CloudWatch names it: targetgroup/NAME/ID."""


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """The PostgreSQL database. Its endpoint is looked up in AWS."""

    driver: Literal["postgres", "rds-data"] = "postgres"
    """`postgres` connects to it; `rds-data` uses the RDS Data API."""
    cluster: str = ""
    """Its RDS cluster. Give cluster or instance, not both."""
    instance: str = ""
    """Its RDS instance, if it is in no cluster."""
    name: str
    """The name of the database in PostgreSQL."""
    login: Reference
    """The login that changes data: a secret with `username` and `password`."""
    reader: Reference
    """The login that only reads; every dry run and check uses it."""
    rescue: Reference | None = None
    """The login that ends queries; give it pg_signal_backend and pg_use_reserved_connections. Default: login."""
    spare_roles: list[str] = []
    """Roles whose queries are never ended."""
    spare_applications: tuple[str, ...] = ("pg_dump", "pg_restore", "pg_basebackup", "pgbackrest", "barman")
    """Queries of applications whose name starts like this are never ended."""
    tls: bool = True
    """Whether to use TLS. May be false only for an endpoint on this machine."""
    ca: str = "system"
    """`system`, or a PEM file of certificate authorities; a relative path starts at this file's folder."""
    tunnel: str | None = None
    """ADDRESS:PORT of a local tunnel to the endpoint, such as 127.0.0.1:5433."""
    max_lag: Duration = Duration(seconds=5)
    """A replica that lags more than this is not promoted."""

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
    """A user of Redis' access control list."""

    user: str
    """The user's name."""
    password: Reference
    """The user's password."""


class RedisSettings(Section, frozen=True, kw_only=True):
    """The Redis or Valkey cache. Its endpoint is looked up in AWS."""

    cluster: str
    """Its ElastiCache replication group or cluster."""
    db: Count = 0
    """The number of the database that the application uses."""
    user: str | None = None
    """The user that changes keys. Default: Redis' default user."""
    password: Reference | None = None
    """That user's password."""
    reader: RedisLogin | None = None
    tls: bool = True
    """Whether to use TLS. May be false only for an endpoint on this machine."""
    ca: str = "system"
    """`system`, or a PEM file of certificate authorities; a relative path starts at this file's folder."""
    tunnel: str | None = None
    """ADDRESS:PORT of a local tunnel to the endpoint, such as 127.0.0.1:5433."""

    def __post_init__(self) -> None:
        address(self.tunnel)
        if self.user and self.password is None:
            raise ValueError("expected a password for user")

    def login(self, *, writing: bool) -> tuple[str | None, Reference | None]:
        """The user, None for the default one, and the password of what writes or only reads."""
        return (self.reader.user, self.reader.password) if self.reader and not writing else (self.user, self.password)

    @property
    def tunnel_address(self) -> tuple[str, int] | None:
        """Where the tunnel begins, if there is one."""
        return address(self.tunnel)


class SessionSettings(Section, frozen=True, kw_only=True):
    """Where sessions and users are stored, in the database and in Redis."""

    table: str
    """The table of sessions."""
    id_column: str = "id"
    """Its primary key."""
    user_column: str
    """Its column with the user's id."""
    created_column: str | None = None
    """Its column with the time a session began. Without one: expires-column minus lifetime."""
    expires_column: str = "expires_at"
    """Its column with the time a session expires."""
    lifetime: Duration = Duration(days=30)
    """How long a session lasts."""
    users_table: str
    """The table of users."""
    users_id_column: str = "id"
    """Its primary key."""
    users_email_column: str = "email"
    """Its column with the e-mail address."""
    last_login_column: str = "last_login_at"
    """Its column with the time of the last login."""
    redis_patterns: list[str] = []
    """Patterns of the Redis keys that are sessions, such as session:*."""
    redis_user_pattern: str = ""
    """The pattern of one user's keys: {user} once, with no * directly next to it."""
    redis_lifetime: Duration = Duration(minutes=15)
    """How long a key lives; its start is computed from its remaining time."""
    keep: list[str] = []
    """Patterns of Redis keys that are never deleted."""
    access_ttl: Duration = Duration(minutes=15)
    """How long an access token stays valid after its session was deleted."""
    signing_secret: str | None = None
    """The [secrets.NAME] that signs access tokens."""

    def __post_init__(self) -> None:
        if not all(self.redis_patterns):
            raise ValueError("expected no empty pattern in redis-patterns: it matches no key")
        pattern = self.redis_user_pattern
        beside = re.search(r"[*?\]]\{user\}|\{user\}[*?\[]", pattern)
        if self.redis_patterns and (pattern.count("{user}") != 1 or beside):
            raise ValueError(f"expected {{user}} once in redis-user-pattern, with no *, ? or [] next to it, got {pattern!r}")


class Login(Section, frozen=True, kw_only=True):
    """An account of the application."""

    email: Reference
    """Its e-mail address."""
    password: Reference
    """Its password."""


class ApiSettings(Section, frozen=True, kw_only=True):
    """The application's API. [api.login] gets a new administrator's token; [api.test] is the account of `opsctl auth verify`."""

    base: str
    """Its address, such as https://api.example.com."""
    token: Reference
    """The administrator's token."""
    signed_by: str | None = None
    """The [secrets.NAME] that signs that token: rotating it makes the token invalid."""
    login: Login | None = None
    test: Login | None = None
    revocations: str | None = None
    """The Redis key of a revocation, {who} in place of `all` or `user:ID`; its value is epoch milliseconds."""
    ca: str = "system"
    """`system`, or a PEM file of certificate authorities; a relative path starts at this file's folder."""
    staging: str | None = None
    """The address of the staging API; `opsctl status` shows its health too."""

    def __post_init__(self) -> None:
        if self.revocations is not None and self.revocations.count("{who}") != 1:
            raise ValueError(f"expected {{who}} once in revocations, got {self.revocations!r}")


class ChannelSettings(Section, frozen=True, kw_only=True):
    """Where notices are sent. For a channel that is missing, opsctl asks a person to send the notice."""

    slack: Reference | None = None
    """The Slack webhook's URL."""
    page: Reference | None = None
    """The PagerDuty integration's routing key."""
    page_base: str = "https://events.pagerduty.com"
    """The address of PagerDuty's Events API."""
    status_page: str | None = None
    """The id of the page on Statuspage."""
    status_key: Reference | None = None
    """The Statuspage API key."""
    status_base: str = "https://api.statuspage.io"
    """The address of Statuspage's API."""
