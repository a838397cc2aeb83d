"""The Redis endpoint, and the check of its certificate before the password is sent."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from opsctl import certificates
from opsctl.adapters.loopback import loopback_address, require_loopback
from opsctl.errors import ConfigurationError, WrongPlace

if TYPE_CHECKING:
    from opsctl.adapters.access import Access
    from opsctl.redaction import Secret
    from opsctl.settings import RedisSettings


class TlsConnection(redis.SSLConnection):
    """Connects to `address` and accepts only a certificate of `ca` for `host`; OpenSSL's variables are ignored."""

    def __init__(self, *, ca: str = certificates.SYSTEM, address: tuple[str, int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ca, self._address = ca, address or (self.host, self.port)

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self._address, self.socket_connect_timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secure = certificates.context(self._ca).wrap_socket(plain, server_hostname=self.host)
            secure.settimeout(self.socket_timeout)
        except BaseException:
            plain.close()
            raise
        return secure


@dataclass(frozen=True)
class RedisEndpoint:
    """The endpoint from AWS and how to connect to it; `tunnel` is the local address of a tunnel to it."""

    host: str
    port: int
    password: Secret | None = None
    tls: bool = True
    ca: str = certificates.SYSTEM
    tunnel: tuple[str, int] | None = None
    user: str | None = None

    @classmethod
    def of(cls, access: Access, settings: RedisSettings, at: tuple[str, int]) -> RedisEndpoint:
        """The endpoint `at` with the settings of [redis]; raises WrongPlace in a sandbox when it is not on this machine."""
        host, port = at
        tunnel = settings.tunnel_address
        if access.sandbox:
            require_loopback("Redis", host)
            require_loopback("tunnel to Redis", tunnel[0] if tunnel else host)
        user, reference = settings.login(writing=access.writing)
        password = access.resolve(reference) if reference else None
        return cls(host, port, password, settings.tls, settings.ca, tunnel, user)

    def arguments(self, host: str, port: int) -> dict[str, Any]:
        """The arguments of a connection to the endpoint, or to another node of its cluster.

        Raises WrongPlace when the password would be sent unencrypted to another machine, or to a node outside of the endpoint's domain.
        """
        secret = self.password.reveal() if self.password else None
        login = {"username": self.user, "password": secret}
        if not self.tls:
            address = loopback_address(host)
            if secret is not None and (address is None or self.tunnel):
                what = f"Redis at {host} is not on this machine, but [redis] has tls = false; the password was not sent."
                raise WrongPlace(what, "Remove tls = false from [redis].")
            return {"host": address or host, "port": port, **login}
        if (host, port) == (self.host, self.port):
            return {"host": host, "port": port, **login, "ca": self.ca, "address": self.tunnel or (host, port)}
        if self.tunnel:
            what = f"Redis is a cluster of several nodes, but the tunnel leads to {self.host} only."
            raise ConfigurationError(what, "Run opsctl where it can reach all nodes, and remove tunnel from [redis].")
        if host.partition(".")[2] != self.host.partition(".")[2]:
            what = f"Redis at {self.host} names a node in another domain, {host}; nothing was sent there."
            raise WrongPlace(what, "Check the cluster's nodes in AWS.")
        return {"host": host, "port": port, **login, "ca": self.ca, "address": (host, port)}
