"""The configuration file as frozen structs, one for each table. The docstring under a field is its description in docs/reference.md.

Credentials are references, never values.
"""

from __future__ import annotations

import re

from opsctl.settings.application import (
    ApiSettings,
    ChannelSettings,
    DatabaseSettings,
    Login,
    RedisSettings,
    SecretSettings,
    ServiceSettings,
    SessionSettings,
)
from opsctl.settings.backups import SnapshotSettings
from opsctl.settings.downloads import FunctionSettings, HubSpotSettings, LeaseSettings, WafSettings
from opsctl.settings.mail import BounceSettings
from opsctl.settings.security import AccessSettings, ProtectionSettings
from opsctl.settings.values import LONGEST, UNITS, Count, Duration, Reference, Section, Share
from opsctl.settings.watching import AlertSettings, SentrySettings

__all__ = [
    "LONGEST",
    "UNITS",
    "AccessSettings",
    "AlertSettings",
    "ApiSettings",
    "AwsSettings",
    "BounceSettings",
    "ChannelSettings",
    "ContactSettings",
    "Count",
    "DatabaseSettings",
    "Duration",
    "FunctionSettings",
    "HubSpotSettings",
    "LeaseSettings",
    "LimitSettings",
    "Login",
    "ProtectionSettings",
    "RedisSettings",
    "Reference",
    "SecretSettings",
    "Section",
    "SentrySettings",
    "ServiceSettings",
    "SessionSettings",
    "Settings",
    "Share",
    "SnapshotSettings",
    "WafSettings",
]


class AwsSettings(Section, frozen=True, kw_only=True):
    """The AWS account of this environment, and how opsctl logs in to it."""

    account: str
    """The account's 12 digits. opsctl refuses to run in another account."""
    region: str
    """The region of everything that names no region of its own."""
    login: str = "aws sso login"
    """The command that logs in. opsctl shows it when there is no login or the login has expired."""
    ca: str = "system"
    """As `ca` in [database]. AWS_CA_BUNDLE is ignored."""
    kms_keys: list[str] = []
    """ARNs of the customer-managed KMS keys of its secrets and queues; `opsctl permissions` includes them."""
    endpoint: str | None = None
    """The AWS endpoint of a sandbox. Refused for a real account."""
    access_key_id: str | None = None
    """The access key of a sandbox. A real account uses the AWS login of this machine."""
    secret_access_key: str | None = None
    """The secret key of a sandbox."""


class LimitSettings(Section, frozen=True, kw_only=True):
    """How much one run may change, and how long it waits."""

    max_affected: Count = 100_000
    """Refuse a run that affects more users, rows or keys than this, unless --max-affected allows it."""
    large: Count = 1_000
    """From this many on, a protected environment asks for the target's name."""
    recently: Duration = Duration(seconds=120)
    """A change that can't be read back counts as already done for this long; --again repeats it."""
    lock_wait: Duration = Duration(seconds=10)
    """How long to wait for another run's lock before exit code 5."""
    pool_share: Share = 0.8
    """Refuse to scale a service when its tasks could use more than this share of the database's connections."""


class ContactSettings(Section, frozen=True, kw_only=True):
    """Somebody to call in an incident; `opsctl people` lists them."""

    role: str
    """What this contact is responsible for, such as Database Admin."""
    name: str = ""
    """Their name."""
    phone: str = ""
    """Their phone number."""
    email: str = ""
    """Their e-mail address."""
    url: str = ""
    """Where to reach them on the web."""


class Settings(Section, frozen=True, kw_only=True):
    """One environment. Only [aws] must be there; other tables are needed by the commands that use them."""

    title: str
    """The environment's name in plans and questions."""
    protected: bool = True
    """Ask for the target's name before an irreversible or large change."""
    sandbox: bool = False
    """Whether this is a sandbox: every endpoint must then be on this machine."""
    aws: AwsSettings | None = None
    limits: LimitSettings = LimitSettings()
    secrets: dict[str, SecretSettings] = {}
    services: dict[str, ServiceSettings] = {}
    database: DatabaseSettings | None = None
    redis: RedisSettings | None = None
    sessions: SessionSettings | None = None
    api: ApiSettings | None = None
    ghcr: str = "https://ghcr.io"
    """The address of the GitHub container registry."""
    proxy: str | None = None
    """The proxy for HTTPS, http://HOST:PORT, also for AWS. HTTPS_PROXY and similar variables are ignored."""
    waf: dict[str, WafSettings] = {}
    hubspot: HubSpotSettings | None = None
    lease: LeaseSettings | None = None
    functions: dict[str, FunctionSettings] = {}
    channels: ChannelSettings = ChannelSettings()
    bounces: BounceSettings | None = None
    sentry: SentrySettings | None = None
    snapshots: SnapshotSettings = SnapshotSettings()
    access: AccessSettings = AccessSettings()
    protection: ProtectionSettings | None = None
    alarms: list[str] = []
    """The CloudWatch alarms of this environment; none means all of the account's."""
    alerts: AlertSettings = AlertSettings()
    people: list[ContactSettings] = []
    links: dict[str, str] = {}
    """Links that `opsctl status` shows, by name."""
    log_groups: dict[str, str] = {}
    """CloudWatch log groups that `opsctl logs` accepts, by name."""

    def __post_init__(self) -> None:
        if self.proxy is not None and not re.fullmatch(r"https?://[\w.:\[\]-]+", self.proxy):
            raise ValueError(f"expected proxy to be http://HOST:PORT without a credential, got {len(self.proxy)} characters")
