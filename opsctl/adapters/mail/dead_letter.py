"""The dead-letter file: unreadable notifications as JSON lines, 0600, each with the reason and the original message.

After its `Body` is fixed, a line is a valid notification: pass the file to `opsctl bounces process`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from opsctl import files
from opsctl.errors import ConfigurationError, ExternalError

BEGIN = b'{"digest"'
"""The start of a line of this file, also of a truncated or badly edited one."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message: its text in `Body`, or its bytes in `Base64` if it is not UTF-8."""

    digest: str
    reason: str
    at: datetime
    Body: str
    Base64: bytes | None = None


def digest(raw: bytes) -> str:
    """Identifies a message, so that it is written once."""
    return hashlib.sha256(raw).hexdigest()[:32]


class DeadLetterFile:
    """A dead-letter file, created with its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[str] | None = None

    @property
    def known(self) -> set[str]:
        """The digests of the messages in the file, without truncated lines.

        Raises ConfigurationError when it is not a dead-letter file.
        """
        if self._known is None:
            try:
                with self._opened(os.O_RDONLY) as file:
                    self._known = set(self._digests(file))
            except FileNotFoundError:
                self._known = set()
            except OSError as cause:
                raise self._refused(cause) from cause
        return self._known

    def add(self, messages: list[tuple[bytes, str]]) -> int:
        """Append messages with their reasons, durably; returns how many were new."""
        new = {digest(raw): (raw, reason) for raw, reason in messages if digest(raw) not in self.known}
        if not new:
            return 0
        now = datetime.now(UTC)
        lines = [_dead_letter(raw, reason, now) for raw, reason in new.values()]
        try:
            self._append(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        except OSError as cause:
            raise self._refused(cause) from cause
        self.known.update(new)
        return len(new)

    def _refused(self, cause: OSError) -> ExternalError:
        what = f"The unreadable notifications can't be written to {self.path}: {cause.strerror}. They are still where they were."
        return ExternalError(what, "Choose another file with --aside.")

    def _append(self, text: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._opened(os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            file.write((b"\n" if torn else b"") + text)
            file.flush()
            os.fsync(descriptor)
        if not size:
            files.sync_folder(self.path.parent)

    @contextmanager
    def _opened(self, flags: int) -> Iterator[BinaryIO]:
        """The open file, created with 0600; links and pipes are refused."""
        try:
            descriptor = files.append_only(self.path, flags)
        except (files.Unfit, IsADirectoryError) as cause:
            raise self._foreign(str(cause.strerror)) from cause
        try:
            with os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "r+b", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)

    def _digests(self, lines: Iterable[bytes]) -> Iterator[str]:
        for line in lines:
            try:
                yield msgspec.json.decode(line, type=DeadLetter).digest
            except (msgspec.MsgspecError, UnicodeError):
                if line.strip() and not BEGIN.startswith(line[: len(BEGIN)]):
                    raise self._foreign("it contains something else") from None

    def _foreign(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"The unreadable notifications can't be written to {self.path}: {why}.", "Choose another file with --aside."
        )


def _dead_letter(raw: bytes, reason: str, now: datetime) -> DeadLetter:
    try:
        return DeadLetter(digest(raw), reason, now, raw.decode())
    except UnicodeDecodeError:
        return DeadLetter(digest(raw), reason, now, raw.decode(errors="replace"), raw)
