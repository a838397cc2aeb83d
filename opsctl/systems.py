"""The adapters that commands and changes use: one set that can only read, and one that can write.

An adapter is built, and its SDK imported, on first use. Before the first call the caller's account is verified to be the environment's;
endpoints come from AWS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opsctl.adapters.access import Access
from opsctl.adapters.aws.services import AwsSystems
from opsctl.adapters.base import Adapter, locked_cached_property
from opsctl.config import Environment, state_folder
from opsctl.errors import ExternalError
from opsctl.settings import Reference

if TYPE_CHECKING:
    from opsctl.adapters.aws.session import AwsSession, Caller
    from opsctl.adapters.host.hh import HhClient
    from opsctl.adapters.host.prompt import Prompt
    from opsctl.adapters.host.secret_sources import Secret, SecretSources
    from opsctl.adapters.http.api import Api
    from opsctl.adapters.http.ghcr import Ghcr
    from opsctl.adapters.http.health import Health
    from opsctl.adapters.http.lease import LeaseEndpoint
    from opsctl.adapters.http.notifiers import PagerDuty, Slack, Statuspage
    from opsctl.adapters.http.sentry import Sentry
    from opsctl.adapters.http.webhook import Webhook
    from opsctl.adapters.hubspot.contacts import HubSpot
    from opsctl.adapters.mail.notification_reader import NotificationReader
    from opsctl.adapters.mail.sns_signatures import SnsSignatures
    from opsctl.adapters.redis.client import Redis
    from opsctl.adapters.sql.activity import Backends
    from opsctl.adapters.sql.bounce_queries import BounceQueries
    from opsctl.adapters.sql.bounce_store import BounceStore
    from opsctl.adapters.sql.connector import Connector
    from opsctl.adapters.sql.database import Database
    from opsctl.adapters.sql.sessions import SessionRows
    from opsctl.adapters.sql.users import Users
    from opsctl.protocols import Fingerprint, RunHistory


class Systems(AwsSystems):
    """Every outside system of one environment, read-only or writing.

    `read_twin` is the read-only set of a writing one; it looks up endpoints and credentials.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        writing: bool,
        person: Prompt,
        values: SecretSources,
        history: RunHistory,
        fingerprint: Fingerprint,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        read_twin: Systems | None = None,
    ) -> None:
        self.environment = environment
        self.config = environment.settings
        self.writing = writing
        self.person = person
        self.values = values
        self.history = history
        self.fingerprint = fingerprint
        self.now = now
        self.reader = read_twin or self

    @property
    def access(self) -> Access:
        """What each adapter needs besides its settings."""
        return Access(self.writing, self.config.sandbox, self.resolve, self.config.proxy)

    @locked_cached_property
    def aws(self) -> AwsSession:
        """The AWS session, read-only or writing; raises WrongPlace in another account."""
        from opsctl.adapters.aws.session import AwsSession

        return AwsSession(self.environment.aws, sandbox=self.config.sandbox, writing=self.writing, proxy=self.config.proxy)

    @property
    def caller(self) -> Caller:
        """The caller's identity from AWS; without AWS, this machine's user."""
        from opsctl.adapters.host.machine import caller

        return self.aws.caller if self.config.aws else caller()

    def verify_account(self) -> None:
        """Raise WrongPlace unless the caller is in the environment's account; does nothing without AWS."""
        if self.config.aws:
            self.aws.verify_account()

    @locked_cached_property
    def notifications(self) -> NotificationReader:
        """Reads SES notifications from files and queues."""
        from opsctl.adapters.mail.notification_reader import NotificationReader

        settings, account = self.environment.bounces, self.environment.aws.account
        reader = None if self.reader is self else self.reader.notifications
        return NotificationReader(self.access, settings, account, self.sns_signatures, self.now, reader)

    @locked_cached_property
    def sns_signatures(self) -> SnsSignatures:
        """Verifies SNS signatures; shared by the read-only and the writing set."""
        from opsctl.adapters.mail.sns_signatures import SnsSignatures

        if self.reader is not self:
            return self.reader.sns_signatures
        return SnsSignatures(self.access, self.environment.aws.endpoint, lambda service: self.aws.regions(service), self.now)

    @locked_cached_property
    def bounce_store(self) -> BounceStore:
        """The users by e-mail address, and the counted notifications."""
        from opsctl.adapters.sql.bounce_store import BounceStore

        return BounceStore(self.database, self.environment.bounces, self.now)

    @property
    def bounce_queries(self) -> BounceQueries:
        """Queries on bounced addresses."""
        from opsctl.adapters.sql.bounce_queries import BounceQueries

        return BounceQueries(self.database, self.environment.bounces)

    @locked_cached_property
    def client(self) -> HhClient:
        """The `hh` client's configuration and docker on this machine."""
        from opsctl.adapters.host.hh import HhClient
        from opsctl.adapters.host.machine import Machine

        return HhClient(Machine.found(), writing=self.writing)

    @locked_cached_property
    def _connector(self) -> Connector:
        from opsctl.adapters.sql.connector import Connector

        return Connector(self.access, self.environment.database, self.aws, self.reader.rds)

    @locked_cached_property
    def database(self) -> Database:
        """The application's database, over the configured driver."""
        return self._connector.open()

    @property
    def session_rows(self) -> SessionRows:
        """The table of the application's sessions."""
        from opsctl.adapters.sql.sessions import SessionRows

        return SessionRows(self.database, self.environment.sessions, self._connector.writer)

    @property
    def users(self) -> Users:
        """The application's users."""
        from opsctl.adapters.sql.users import Users

        return Users(self.database, self.environment.sessions, self._connector.writer)

    @locked_cached_property
    def backends(self) -> Backends:
        """The database's backends on each instance."""
        from opsctl.adapters.sql.activity import Backends

        return Backends(self.access, self.environment.database, self._connector.members, self._connector.at)

    def database_at(self, host: str, port: int, arn: str) -> Database:
        """A restored copy of the database at another endpoint; the caller closes it."""
        return self._connector.copy(host, port, arn)

    @locked_cached_property
    def redis(self) -> Redis:
        """The application's Redis."""
        from opsctl.adapters.redis.client import Redis
        from opsctl.adapters.redis.endpoint import RedisEndpoint

        settings = self.environment.redis
        at = RedisEndpoint.of(self.access, settings, self.reader.elasticache.endpoint(settings.cluster))
        return Redis(at, writing=self.writing, db=settings.db)

    @locked_cached_property
    def api(self) -> Api:
        """The application's API."""
        from opsctl.adapters.http.api import Api

        return Api(self.access, self.environment.api, self.person, lambda keys: self.redis.values(keys))

    def health(self, url: str) -> Health:
        """The result of the health check at `url`."""
        from opsctl.adapters.http.health import check_url

        return check_url(self.access, url)

    @locked_cached_property
    def lease(self) -> LeaseEndpoint:
        """HH's lease endpoint."""
        from opsctl.adapters.http.lease import LeaseEndpoint

        return LeaseEndpoint(self.access, self.environment.lease)

    @locked_cached_property
    def hubspot(self) -> HubSpot:
        """The HubSpot portal's contacts."""
        return self._hubspot()

    def hubspot_as(self, token: Secret) -> HubSpot:
        """HubSpot with another token than the configured one."""
        self._verify_place()
        return self._hubspot(token)

    def _hubspot(self, token: Secret | None = None) -> HubSpot:
        from opsctl.adapters.hubspot.contacts import HubSpot
        from opsctl.adapters.hubspot.limiter import limiter

        settings = self.environment.hubspot
        # The limit is per app; each sandbox's stand-in has its own.
        base = hashlib.sha256(settings.base.encode()).hexdigest()[:8]
        limits = limiter(f"hubspot-{settings.portal}-{settings.app_id}-{base}", settings.rate, state_folder() / "limits")
        return HubSpot(self.access, settings, limits, environment=self.environment.name, token=token)

    @locked_cached_property
    def ghcr(self) -> Ghcr:
        """The GitHub container registry."""
        from opsctl.adapters.http.ghcr import Ghcr

        return Ghcr(self.access, self.config.ghcr)

    @locked_cached_property
    def webhook(self) -> Webhook:
        """The webhook that receives HubSpot's events."""
        from opsctl.adapters.http.webhook import Webhook

        return Webhook(self.access, self.environment.hubspot, self.now)

    @locked_cached_property
    def sentry(self) -> Sentry:
        """The application's errors."""
        from opsctl.adapters.http.sentry import Sentry

        return Sentry(self.access, self.environment.sentry)

    @locked_cached_property
    def slack(self) -> Slack:
        """The configured Slack channel."""
        from opsctl.adapters.http.notifiers import Slack

        return Slack(self.access, self.config.channels)

    @locked_cached_property
    def pagerduty(self) -> PagerDuty:
        """The configured PagerDuty service."""
        from opsctl.adapters.http.notifiers import PagerDuty

        return PagerDuty(self.access, self.config.channels, self.environment.name)

    @locked_cached_property
    def statuspage(self) -> Statuspage:
        """The configured status page."""
        from opsctl.adapters.http.notifiers import Statuspage

        return Statuspage(self.access, self.config.channels)

    def refuse_wrong_account(self) -> None:
        """Raise WrongPlace in another account; an AWS error is ignored, so that systems outside of AWS are still queried."""
        with suppress(ExternalError):
            self.verify_account()

    def _verify_place(self) -> None:
        """Raise WrongPlace in another account. A sandbox without AWS has no account and reaches only this machine."""
        if not (self.config.sandbox and self.config.aws and self.config.aws.endpoint is None):
            self.reader.verify_account()

    def resolve(self, reference: Reference) -> Secret:
        """The credential of `reference`, read after the account is verified. Raises ConfigurationError or NotFound."""
        if reference.aws is None:
            self._verify_place()
            return self.values.reference(reference)
        return self.reader.secrets.value(reference.aws, key=reference.key, region=reference.region)

    def shut(self) -> None:
        """Close all connections."""
        for made in list(self.__dict__.values()):
            if isinstance(made, Adapter):
                made.close()
