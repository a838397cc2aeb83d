"""Connections to the application's database: the configured driver, the endpoint from AWS, the logins in [database]."""

from __future__ import annotations

import atexit
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec import Struct

from opsctl.adapters.base import locked_cached_property
from opsctl.adapters.loopback import require_account, require_loopback
from opsctl.errors import ConfigurationError, ExternalError
from opsctl.redaction import Secret
from opsctl.settings import Reference

if TYPE_CHECKING:
    from opsctl.adapters.access import Access
    from opsctl.adapters.aws.rds import Cluster, Rds
    from opsctl.adapters.aws.session import AwsSession
    from opsctl.adapters.sql.database import Database
    from opsctl.settings import DatabaseSettings

Login = tuple[str, Secret]


class DatabaseInstance(Struct, frozen=True):
    """An instance of the cluster and its endpoint; `insights` is its id in Performance Insights, empty where it is off."""

    id: str
    writer: bool
    host: str
    port: int
    insights: str = ""


class Connector:
    """Opens connections to the application's database, to copies of it and to single instances. The caller closes them.

    `rds` looks up endpoints; it may be a read-only adapter.
    """

    def __init__(self, access: Access, settings: DatabaseSettings, aws: AwsSession, rds: Rds) -> None:
        self._access, self._settings, self._aws, self._rds = access, settings, aws, rds

    def open(self) -> Database:
        """The database, which connects at its first statement. Raises NotFound or WrongPlace when AWS has no endpoint for it."""
        config = self._settings
        if self._by_data_api:
            return self._over_data_api(self._role, None)
        with ThreadPoolExecutor(1, thread_name_prefix="login") as aside:
            login = aside.submit(self.login, self._role)
            host, port = self._rds.endpoint(config.cluster, config.instance)
            return self._over_psycopg(host, port, login.result())

    def copy(self, host: str, port: int, arn: str) -> Database:
        """A copy with the same logins: at this endpoint or, for the Data API, with this ARN."""
        if self._by_data_api:
            return self._over_data_api(self._role, arn)
        return self._over_psycopg(host, port, self.login(self._role))

    def at(self, instance: DatabaseInstance) -> Database:
        """One instance of the cluster; to write, it connects as the rescue role, which may use reserved connections."""
        if self._by_data_api:
            return self._over_data_api(self._rescue_role, self._cluster.arn)
        if not instance.host:
            raise ExternalError(f"AWS returned no endpoint for the instance {instance.id}.", "It may still be starting: opsctl status")
        return self._over_psycopg(instance.host, instance.port, self._rescue_login, anywhere=True)

    def members(self) -> list[DatabaseInstance]:
        """Every instance of the cluster, the writer first, also those that can't be queried."""
        if self._settings.instance:
            alone = self._rds.instance(self._settings.instance)
            return [DatabaseInstance(alone.id, True, alone.endpoint, alone.port, alone.insights)]
        return [DatabaseInstance(m.id, m.writer, m.endpoint, m.port, m.insights) for m in self._cluster.members]

    def writer(self) -> str:
        """The database role that writes."""
        return self.login(self._settings.login)[0]

    def login(self, reference: Reference) -> Login:
        """User and password from a secret that is JSON with `username` and `password`; ConfigurationError when it isn't."""
        held = self._access.resolve(Reference(aws=reference.aws, env=reference.env, file=reference.file)).reveal()
        try:
            found = json.loads(held)
            return str(found["username"]), Secret(str(found["password"]))
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"The database login in {reference} is not JSON with username and password.",
                "Store it as RDS does: JSON with username and password.",
            ) from None

    @property
    def _by_data_api(self) -> bool:
        return self._settings.driver == "rds-data"

    @property
    def _role(self) -> Reference:
        return self._settings.login if self._access.writing else self._settings.reader

    @property
    def _rescue_role(self) -> Reference:
        return (self._access.writing and self._settings.rescue) or self._role

    @locked_cached_property
    def _rescue_login(self) -> Login:
        return self.login(self._rescue_role)

    @locked_cached_property
    def _cluster(self) -> Cluster:
        return self._rds.cluster(self._settings.cluster)

    def _over_psycopg(self, host: str, port: int, login: Login, *, anywhere: bool = False) -> Database:
        """Raises WrongPlace in a sandbox whose database, or the tunnel to it, is not on this machine."""
        from opsctl.adapters.sql.postgres import Postgres, PostgresEndpoint

        config = self._settings
        tunnel = config.tunnel_address
        if self._access.sandbox:
            require_loopback("database", host)
            require_loopback("tunnel to the database", tunnel[0] if tunnel else host)
        endpoint = PostgresEndpoint(host, port, config.name, *login, tls=config.tls, ca=config.ca, tunnel=tunnel, anywhere=anywhere)
        return Postgres(endpoint, writing=self._access.writing)

    def _over_data_api(self, role: Reference, arn: str | None) -> Database:
        """Raises ConfigurationError for a login that isn't a secret in AWS, WrongPlace for a database in another account."""
        from opsctl.adapters.sql.rds_data import RdsData

        if role.aws is None:
            raise ConfigurationError(
                "The driver rds-data in [database] needs a login that is an AWS secret.",
                "Set login and reader in [database] to { aws = ... }.",
            )
        resource, account = arn or self._rds.arn(self._settings.cluster), self._aws.config
        require_account("The database", resource, account.account)
        made = RdsData(
            self._aws.client("rds-data"),
            resource_arn=resource,
            secret_arn=role.aws,
            name=self._settings.name,
            login=account.login,
            writing=self._access.writing,
        )
        atexit.register(made.close)
        return made
