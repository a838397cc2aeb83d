"""The paid download: HubSpot, the functions behind it, and the lease endpoint."""

from __future__ import annotations

from opsctl.settings.values import Reference, Section


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
    """The HubSpot portal that gates downloads; `rate` is the requests that a user may send from one machine in any 10 s.

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
    """The lease endpoint, the secret of its X-Edge-Auth header, and the functions that answer and authorize; `ca` as in [database]."""

    url: str
    ca: str = "system"
    edge_auth: Reference
    function: str
    authorizer: str
