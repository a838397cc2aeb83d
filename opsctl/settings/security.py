"""Who may do what, and what stands between the service and the internet."""

from __future__ import annotations

from opsctl.settings.values import Section


class AccessSettings(Section, frozen=True, kw_only=True):
    """Who is an administrator, and what else has to be rotated when somebody's access is revoked."""

    administrators: list[str] = []


class ProtectionSettings(Section, frozen=True, kw_only=True):
    """The web ACL that guards the service, and the rules of it that opsctl keeps."""

    acl: str
    region: str | None = None
