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
    """Who administers the account, and when a credential is too old."""

    administrators: list[str] = []
    """IAM users, or roles as role/NAME, that are administrators though no policy of an IAM user says so."""
    key_age: Duration = Duration(days=90)
    """An access key older than this is flagged."""
    unused: Duration = Duration(days=90)
    """A credential that was not used for this long is flagged."""


class WafPlace(Struct, frozen=True):
    """The scope and region of web ACLs and IP sets; None is the environment's region."""

    scope: Literal["REGIONAL", "CLOUDFRONT"] = "REGIONAL"
    region: str | None = None


class ProtectionSettings(Section, frozen=True, kw_only=True):
    """The web ACL that protects the service. [protection.resources] names what Shield may protect."""

    acl: str
    """The web ACL's name."""
    scope: Literal["REGIONAL", "CLOUDFRONT"] = "REGIONAL"
    """What the web ACL protects: resources of a region, or CloudFront."""
    region: str | None = None
    """Its region, if it differs from [aws]."""
    rate_rule: str = "opsctl-rate-limit"
    """The name of the rate-based rule that opsctl adds and changes."""
    window: Duration = Duration(minutes=5)
    """The time over which that rule counts: 1m, 2m, 5m or 10m."""
    forwarded_header: str | None = None
    """The header with the client's address, if a CDN is in front of the web ACL."""
    block_rule: str = "opsctl-blocked"
    """The name of the rule that blocks addresses."""
    blocked_v4: str | None = None
    """The IP set of blocked IPv4 addresses."""
    blocked_v6: str | None = None
    """The IP set of blocked IPv6 addresses."""
    resources: dict[str, str] = {}
    """ARNs that Shield may protect, by name."""
    exempt: dict[str, list[str]] = {}
    """Addresses (CIDR) that are never blocked, by name."""

    def __post_init__(self) -> None:
        if self.window.total_seconds() not in WINDOWS:
            raise ValueError("expected a window of 1m, 2m, 5m or 10m")
        for cidr in (cidr for cidrs in self.exempt.values() for cidr in cidrs):
            ip_network(cidr)

    @property
    def place(self) -> WafPlace:
        """Where to ask; what stands before CloudFront is all in one region."""
        return WafPlace(self.scope, CLOUDFRONT_REGION if self.scope == "CLOUDFRONT" else self.region)
