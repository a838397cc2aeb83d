"""Who may do what, and what stands between the service and the internet."""

from __future__ import annotations

from opsctl.settings.values import Duration, Section


class AccessSettings(Section, frozen=True, kw_only=True):
    """Who can put things right, and from when on a credential is too old.

    `administrators` are IAM users, or roles as `role/NAME`, who are administrators though no IAM user's policy says so. A key older than
    `key_age`, and a credential that wasn't used for `unused`, are flagged.
    """

    administrators: list[str] = []
    key_age: Duration = Duration(days=90)
    unused: Duration = Duration(days=90)


class ProtectionSettings(Section, frozen=True, kw_only=True):
    """The web ACL that guards the service, and the rules of it that opsctl keeps."""

    acl: str
    region: str | None = None
