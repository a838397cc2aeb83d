"""What can't be read is kept aside: a file of JSON lines, 0600, each with the reason and the message as it came.

A line is read as a notification again once its `Body` is mended, so that the file itself can be given to `opsctl bounces process`.
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
"""How a line of ours begins, also one that a kill cut short or whose mending went wrong."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `Body` is its text; of one that is no UTF-8, `Base64` has the bytes."""

    digest: str
    reason: str
    at: datetime
    Body: str
    Base64: bytes | None = None


def digest(raw: bytes) -> str:
    """Names a message, so that the same one is kept once."""
    return hashlib.sha256(raw).hexdigest()[:32]


class DeadLetterFile:
    """One such file; it is made with its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[str] | None = None

    @property
    def known(self) -> set[str]:
        """The digests of what the file has already; a line that a kill cut short is none.

        Raises ConfigurationError for what is no file, or holds something else.
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
        """Keep messages, each with its reason, and return how many weren't there yet; on the disk when this returns."""
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
        """The file, 0600 where it is made; never a link, nor waiting for a pipe's other end."""
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
