"""The certificate authorities that verify a server.

`ca` is the setting: `system`, or the path of a PEM file. Variables such as SSL_CERT_FILE are ignored.
"""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from opsctl.errors import ConfigurationError, Untrusted
from opsctl.trust import only_ours

if TYPE_CHECKING:
    from ssl import SSLContext

SYSTEM = "system"
# The operating system's own stores: Debian, Red Hat, SUSE, and Alpine, the BSDs and macOS.
STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
RDS_BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"


@functools.cache
def authorities(ca: str = SYSTEM) -> str:
    """The path of the PEM file of trusted authorities.

    Raises ConfigurationError for an unusable file, Refused for a file that other users can write.
    """
    path = Path(ca) if ca != SYSTEM else _system_store()
    if ca != SYSTEM and path.is_file():
        only_ours(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ssl.SSLError) as cause:
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else "it contains no certificate (PEM)"
        raise ConfigurationError(
            f"The certificate authorities in {path} can't be used: {why}.", "Correct `ca` in the configuration."
        ) from cause
    return str(path)


@functools.cache
def context(ca: str = SYSTEM) -> SSLContext:
    """A TLS context that accepts only certificates of these authorities, for the host name."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(authorities(ca))
    return made


def distrusted(cause: BaseException | None) -> str | None:
    """OpenSSL's reason for rejecting the server, if that is behind `cause`; None where the connection only closed."""
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return getattr(cause, "verify_message", "") or cause.reason or "it does not speak TLS"
        cause = cause.__cause__ or cause.__context__
    return None


def untrusted(system: str, where: str, said: str, next: str) -> Untrusted:
    """The error for a server with an invalid certificate; no credential was sent to it."""
    return Untrusted(
        f"The certificate of {system} at {where} is not valid: {said.rstrip('.')}. No credential was sent.",
        f"Check which server answers there. {next}",
    )


def _system_store() -> Path:
    import certifi

    return Path(next((store for store in STORES if Path(store).is_file()), certifi.where()))
