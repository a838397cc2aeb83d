"""Servers that pretend, and certificates for them: what a thief would put in place of a real one."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opsctl.files import readable

SSL_REQUEST = struct.pack("!II", 8, 80877103)


class Authority:
    """A certificate authority in a folder: `ca` is its certificate's file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(_pem(self._signed(self._name, self._key, authority=True)))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """A certificate for `names` (DNS names or addresses), and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate, private = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        certificate.write_bytes(_pem(self._signed(subject, key, names)))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        private.chmod(0o600)
        return certificate, private

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...] = (), *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Pretender:
    """A server on 127.0.0.1 that keeps what it hears: `heard`, in clear text, over TLS or not."""

    def __init__(self, talk: Callable[[socket.socket, Pretender], None], pair: tuple[Path, Path] | None = None) -> None:
        self.heard = b""
        self.connections = 0
        self._talk = talk
        self._context = None
        if pair is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*pair)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def listen(self, connection: socket.socket) -> bytes:
        """What comes next; empty at the end."""
        got = connection.recv(65_536)
        self.heard += got
        return got

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """The same connection over TLS, where a certificate is there."""
        assert self._context is not None
        return self._context.wrap_socket(connection, server_side=True)

    @contextmanager
    def running(self) -> Iterator[Pretender]:
        """Serve meanwhile."""
        threads = [threading.Thread(target=self._serve, daemon=True)]
        threads[0].start()
        try:
            yield self
        finally:
            # A blocked accept() is woken by a shutdown, not by a close alone.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            threads[0].join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(10)
            with suppress(OSError):
                self._talk(connection, self)
            connection.close()


def postgres(*, tls: bool, ask: bytes) -> Callable[[socket.socket, Pretender], None]:
    """A PostgreSQL that asks for a login with the message `ask`, over TLS or without."""

    def talk(connection: socket.socket, server: Pretender) -> None:
        first = server.listen(connection)
        if first == SSL_REQUEST:
            connection.sendall(b"S" if tls else b"N")
            if tls:
                connection = server.secure(connection)
            first = server.listen(connection)
        if first:
            connection.sendall(ask)
            while server.listen(connection):
                pass

    return talk


CLEARTEXT = b"R" + struct.pack("!II", 8, 3)
MD5 = b"R" + struct.pack("!II", 12, 5) + b"salt"
NO_PASSWORD = b"R" + struct.pack("!II", 8, 0) + b"Z" + struct.pack("!I", 5) + b"I"


def redis(*, tls: bool) -> Callable[[socket.socket, Pretender], None]:
    """A Redis that says OK to everything, and what time it is."""

    def talk(connection: socket.socket, server: Pretender) -> None:
        if tls:
            connection = server.secure(connection)
        while got := server.listen(connection):
            connection.sendall(b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n" if b"TIME" in got else b"+OK\r\n")

    return talk


def web(*, tls: bool, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") -> Callable[[socket.socket, Pretender], None]:
    """A web server that gives the same answer to everything."""

    def talk(connection: socket.socket, server: Pretender) -> None:
        if tls:
            connection = server.secure(connection)
        while server.listen(connection):
            connection.sendall(answer)

    return talk


def relay(port: int) -> Callable[[socket.socket, Pretender], None]:
    """A PostgreSQL that takes TLS connections alone: TLS ends here, and the real server is at `port`."""

    def talk(connection: socket.socket, server: Pretender) -> None:
        if server.listen(connection) != SSL_REQUEST:
            return
        connection.sendall(b"S")
        secured = server.secure(connection)
        with socket.create_connection(("127.0.0.1", port)) as real:
            while True:
                ready = [secured] if secured.pending() else readable([secured, real], None)
                for source, to in ((secured, real), (real, secured)):
                    if source in ready:
                        if not (passing := source.recv(65_536)):
                            return
                        to.sendall(passing)

    return talk
