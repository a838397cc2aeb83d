"""What a configuration file may say: one frozen struct a table. An unknown key or a bad value is an error.

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
    "Aws",
    "BounceSettings",
    "ChannelSettings",
    "Contact",
    "Count",
    "DatabaseSettings",
    "Duration",
    "FunctionSettings",
    "HubSpotSettings",
    "LeaseSettings",
    "Limits",
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


class Aws(Section, frozen=True, kw_only=True):
    """The account that this environment is, and how to reach it; `ca` as in [database], in place of AWS_CA_BUNDLE.

    `kms_keys` are the ARNs of the customer-managed keys that encrypt its secrets and queues; `opsctl permissions` asks for their use.
    """

    account: str
    region: str
    login: str = "aws sso login"
    ca: str = "system"
    kms_keys: list[str] = []
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


class Contact(Section, frozen=True, kw_only=True):
    """Somebody to call."""

    role: str
    name: str = ""
    phone: str = ""
    email: str = ""
    url: str = ""


class Settings(Section, frozen=True, kw_only=True):
    """What one TOML file says; every file has [aws], only this machine itself (`config.local`) does without.

    `proxy` (`http://HOST:PORT`) is what HTTPS goes through, to AWS too; HTTPS_PROXY and its like don't count.
    """

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
    proxy: str | None = None
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
    alerts: AlertSettings = AlertSettings()
    people: list[Contact] = []
    links: dict[str, str] = {}
    log_groups: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.proxy is not None and not re.fullmatch(r"https?://[\w.:\[\]-]+", self.proxy):
            raise ValueError(f"expected proxy to be http://HOST:PORT without a credential, got {len(self.proxy)} characters")
