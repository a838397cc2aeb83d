"""How SNS signs what it delivers: each sandbox has its own key, and serves the certificate at its AWS endpoint.

Facts: the members are signed in the order of their names, the signature is RSA with SHA-1 (version 1) or SHA-256 (version 2), and the
certificate's URL is a member of the message (AWS, "Verifying the signatures of Amazon SNS messages").
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

NAME = "sns.amazonaws.com"
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


def new_key() -> str:
    """A private key, in PEM."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Signer:
    """SNS's side of one sandbox: `key` is a private key in PEM, `base` where its certificate is served."""

    def __init__(self, key: str, base: str) -> None:
        self._pem = key
        self._base = base.rstrip("/")

    @cached_property
    def _key(self) -> Any:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        return load_pem_private_key(self._pem.encode(), None)

    @property
    def path(self) -> str:
        """Where the certificate is, at the endpoint."""
        return f"/SimpleNotificationService-{hashlib.md5(self._pem.encode(), usedforsecurity=False).hexdigest()}.pem"

    @cached_property
    def certificate(self) -> bytes:
        """The certificate, in PEM."""
        return certificate(self._key)

    def sign(self, message: Mapping[str, str], version: str = "1") -> dict[str, str]:
        """The message with its signature, and where the certificate is."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

        text = "".join(f"{name}\n{message[name]}\n" for name in SIGNED[message["Type"]] if name in message)
        signature = self._key.sign(text.encode(), PKCS1v15(), hashes.SHA1() if version == "1" else hashes.SHA256())
        told = {"SignatureVersion": version, "Signature": base64.b64encode(signature).decode()}
        return {**message, **told, "SigningCertURL": f"{self._base}{self.path}"}


def certificate(key: Any, name: str = NAME, begin: datetime = BEGIN, end: datetime = END) -> bytes:
    """A certificate for `name` and that key, signed by itself, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), begin, end)
    extension = x509.SubjectAlternativeName([x509.DNSName(name)])
    return built.add_extension(extension, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
