"""Verification of SNS signatures (SNS Developer Guide, "Verifying the signatures of Amazon SNS messages").

The certificate is fetched over HTTPS from SNS's host in the topic's region; its name, dates and key type are checked. The file contains
only that certificate, so that trust comes from the HTTPS connection.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from opsctl.adapters.http.client import Http
from opsctl.errors import Refused, install_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from opsctl.adapters.access import Access

CERTIFICATE = re.compile(
    r"https://(?P<host>sns\.(?P<region>[a-z0-9-]+)\.(?P<suffix>amazonaws\.com(?:\.cn)?))(?P<path>/[\w.-]+\.pem)", re.ASCII
)
LOCAL = re.compile(r"/[\w.-]+\.pem", re.ASCII)
NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED = {"Notification": NOTIFICATION, "SubscriptionConfirmation": CONFIRMATION, "UnsubscribeConfirmation": CONFIRMATION}
"""The signed members in order; missing ones, such as the subject, are skipped."""
MOST_KEPT = 1_000
"""Maximum number of cached keys and errors: SNS has one certificate per region, a forger may send many."""
LARGEST = 65_536


class Unsigned(ValueError):
    """Raised, with the reason, for a message that SNS didn't sign."""


class Envelope(Struct, frozen=True, rename="pascal"):
    """The SNS envelope of a message."""

    type: str
    topic_arn: str = ""
    message: str | None = None
    message_id: str | None = None
    subject: str | None = None
    timestamp: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")
    signature_version: str = ""
    signature: str = ""
    certificate: str = msgspec.field(default="", name="SigningCertURL")


class SnsSignatures:
    """Verifies SNS messages; each certificate is fetched once per process. Thread-safe.

    `endpoint` is AWS's address in the sandbox; `regions` returns the regions that a service of AWS has.
    """

    def __init__(
        self, access: Access, endpoint: str | None, regions: Callable[[str], Collection[str]], now: Callable[[], datetime]
    ) -> None:
        self._access, self._endpoint, self._regions, self._now = access, endpoint, regions, now
        self._keys: dict[str, Any] = {}
        self._lock = threading.Lock()

    def verify(self, found: Envelope) -> None:
        """Raise Unsigned unless SNS signed this message, Refused when the signature can't be verified on this machine."""
        try:
            from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        except ImportError as cause:
            raise Refused(
                "Messages from SNS can't be counted: verifying their signature needs the library cryptography, which is not installed.",
                install_extra("sns"),
            ) from cause
        digest = {"1": hashes.SHA1, "2": hashes.SHA256}.get(found.signature_version)
        if digest is None:
            raise Unsigned("its SignatureVersion is neither 1 nor 2")
        key = self._key(found)
        try:
            key.verify(base64.b64decode(found.signature, validate=True), canonical(found), PKCS1v15(), digest())
        except (InvalidSignature, binascii.Error, ValueError) as cause:
            raise Unsigned("its signature is not valid") from cause
        except UnsupportedAlgorithm as cause:
            raise Refused(
                "This machine's OpenSSL can't verify SHA-1 signatures, which SNS uses unless the topic has SignatureVersion 2.",
                f"aws sns set-topic-attributes --topic-arn {found.topic_arn} --attribute-name SignatureVersion --attribute-value 2",
            ) from cause

    def _key(self, found: Envelope) -> Any:
        with self._lock:
            url = found.certificate
            if url not in self._keys:
                host, path, names = self._where(found)
                if len(self._keys) >= MOST_KEPT:
                    self._keys.clear()
                self._keys[url] = self._fetched(host, path, names)
            key = self._keys[url]
        if isinstance(key, Unsigned):
            raise key
        return key

    def _where(self, found: Envelope) -> tuple[str, str, frozenset[str]]:
        """Host, path and names of an SNS certificate; in a sandbox the host is its AWS endpoint on this machine."""
        if self._access.sandbox and self._endpoint:
            path = found.certificate.removeprefix(self._endpoint.rstrip("/"))
            if path != found.certificate and LOCAL.fullmatch(path):
                return self._endpoint, path, frozenset({"sns.amazonaws.com"})
        match = CERTIFICATE.fullmatch(found.certificate)
        if self._access.sandbox or match is None:
            raise Unsigned("its signing certificate is not from Amazon")
        region, suffix = match["region"], match["suffix"]
        if found.topic_arn.split(":")[3:4] != [region] or region not in self._regions("sns"):
            raise Unsigned("its signing certificate is from another region than its topic")
        # The names that AWS's SDK for Java accepts, and those of a regional certificate.
        regional = {f"sns.{region}.{suffix}", f"sns-signing.{region}.{suffix}", f"sns-{region}.{suffix}"}
        government = {"sns-us-gov-west-1.amazonaws.com"} if region.startswith("us-gov-") else set()
        return f"https://{match['host']}", match["path"], frozenset({"sns.amazonaws.com", *regional, *government})

    def _fetched(self, host: str, path: str, names: frozenset[str]) -> Any:
        """The public key of a certificate; raises Unsigned when SNS has no such certificate."""
        http = Http(host, self._access.read_only, system="Amazon SNS")
        try:
            answer = http.ask("GET", path, accept=(400, 403, 404, 410))
        finally:
            http.close()
        if not answer.is_success:
            return Unsigned("Amazon has no such signing certificate")
        try:
            return public_key(answer.content, names, self._now())
        except Unsigned as no:
            return no


def canonical(found: Envelope) -> bytes:
    """The signed text: each member's name and value on separate lines."""
    values = {
        "Message": found.message,
        "MessageId": found.message_id,
        "Subject": found.subject,
        "SubscribeURL": found.subscribe_url,
        "Timestamp": found.timestamp,
        "Token": found.token,
        "TopicArn": found.topic_arn,
        "Type": found.type,
    }
    names = SIGNED.get(found.type)
    if names is None:
        raise Unsigned("SNS has no message of this type")
    return "".join(f"{name}\n{values[name]}\n" for name in names if values[name] is not None).encode(errors="surrogatepass")


def public_key(pem: bytes, names: frozenset[str], now: datetime) -> Any:
    """The RSA key of SNS's certificate; raises Unsigned when it is not SNS's, not valid now, or unreadable."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        found = x509.load_pem_x509_certificates(pem[:LARGEST])[0]
        key, held = found.public_key(), _names(found)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as cause:
        raise Unsigned("its certificate is unreadable") from cause
    if not held & names:
        raise Unsigned("its certificate is not for SNS")
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise Unsigned("its certificate has expired or is not valid yet")
    if not isinstance(key, RSAPublicKey):
        raise Unsigned("its certificate has no RSA key")
    return key


def _names(certificate: Any) -> set[str]:
    """The DNS names of a certificate, or its common name without any."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return {str(each.value) for each in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
