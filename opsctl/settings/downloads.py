"""The paid download: HubSpot, the functions behind it, and the lease endpoint."""

from __future__ import annotations

from msgspec.structs import force_setattr

from opsctl.settings.values import Reference, Section


class FunctionSettings(Section, frozen=True, kw_only=True):
    """One Lambda function."""

    name: str
    """Its name in Lambda."""
    region: str | None = None
    """Its region, if it differs from [aws]."""
    alias: str | None = None
    """The alias that its callers use. Default: $LATEST."""
    log_group: str = ""
    """Its CloudWatch log group. Default: /aws/lambda/NAME."""

    def __post_init__(self) -> None:
        if not self.log_group:
            force_setattr(self, "log_group", f"/aws/lambda/{self.name}")


class WafSettings(Section, frozen=True, kw_only=True):
    """A web ACL whose rate limiting `opsctl status` shows."""

    acl: str
    """The web ACL's name."""
    rule: str = "ALL"
    """The metric name of one rule, or ALL."""
    region: str | None = None
    """Its region, if it differs from [aws]."""


class HubSpotSettings(Section, frozen=True, kw_only=True):
    """The HubSpot portal that controls downloads."""

    base: str = "https://api.hubapi.com"
    """The address of HubSpot's API."""
    contacts: str = "/crm/v3/objects/contacts"
    """The path of the contacts API."""
    portal: int
    """The portal's number. opsctl refuses a token of another portal."""
    token: Reference
    """The private app's access token."""
    rate: int = 190
    """How many requests one user sends from one machine in 10 seconds."""
    enabled: str = "download_enabled"
    """The contact property that allows downloads."""
    requested: str = "download_requested"
    """The contact property that requests a download token."""
    minted: str = "download_token"
    """The contact property that holds the download token."""
    webhook: str | None = None
    """The URL that receives HubSpot's events."""
    app_secret: Reference | None = None
    """The app's client secret, which signs those events."""
    app_id: int = 0
    """The app's number in those events; 0 means unknown."""
    subscription_id: int = 0
    """The subscription's number in those events; 0 means unknown."""


class LeaseSettings(Section, frozen=True, kw_only=True):
    """The endpoint that gives out download leases."""

    url: str
    """Its URL."""
    ca: str = "system"
    """`system`, or a PEM file of certificate authorities; a relative path starts at this file's folder."""
    edge_auth: Reference
    """The secret that is sent in the X-Edge-Auth header."""
    function: str
    """The [functions.NAME] that answers."""
    authorizer: str
    """The [functions.NAME] that checks X-Edge-Auth."""
