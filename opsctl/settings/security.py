"""Who may do what, and what stands between the service and the internet."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from msgspec import Struct

from opsctl.settings.values import Duration, Section

WINDOWS = (60, 120, 300, 600)
"""The seconds over which WAF can count for a rate-based rule."""

CLOUDFRONT_REGION = "us-east-1"


class AccessSettings(Section, frozen=True, kw_only=True):
    """Who can put things right, and from when on a credential is too old.

    `administrators` are IAM users, or roles as `role/NAME`, who are administrators though no IAM user's policy says so. A key older than
    `key_age`, and a credential that wasn't used for `unused`, are flagged.
    """

    administrators: list[str] = []
    key_age: Duration = Duration(days=90)
    unused: Duration = Duration(days=90)


class WafPlace(Struct, frozen=True):
    """Where web ACLs and address sets are: before a region's resources (None: the environment's), or before CloudFront."""

    scope: Literal["REGIONAL", "CLOUDFRONT"] = "REGIONAL"
    region: str | None = None


class ProtectionSettings(Section, frozen=True, kw_only=True):
    """The web ACL that guards the service, the rules and address sets of it that opsctl keeps, and what Shield may protect.

    `forwarded_header` names the header with the client's address where a CDN stands before the ACL. `resources` are ARNs by name. Nobody
    of `exempt` (CIDRs by what they are) is ever put on the block list.
    """

    acl: str
    scope: Literal["REGIONAL", "CLOUDFRONT"] = "REGIONAL"
    region: str | None = None
    rate_rule: str = "opsctl-rate-limit"
    window: Duration = Duration(minutes=5)
    forwarded_header: str | None = None
    block_rule: str = "opsctl-blocked"
    blocked_v4: str | None = None
    blocked_v6: str | None = None
    resources: dict[str, str] = {}
    exempt: dict[str, list[str]] = {}

    def __post_init__(self) -> None:
        if self.window.total_seconds() not in WINDOWS:
            raise ValueError("expected a window of 1m, 2m, 5m or 10m")
        for cidr in (cidr for cidrs in self.exempt.values() for cidr in cidrs):
            ip_network(cidr)

    @property
    def place(self) -> WafPlace:
        """Where to ask; what stands before CloudFront is all in one region."""
        return WafPlace(self.scope, CLOUDFRONT_REGION if self.scope == "CLOUDFRONT" else self.region)
