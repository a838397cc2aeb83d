"""Standard input stored in a file (0600, named after its digest) for as long as a run may need it again.

The file is removed when the process ends, unless the run is unfinished and may be resumed; then after a week.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from msgspec import Struct

from opsctl import files
from opsctl.config import state_folder
from opsctl.errors import ConfigurationError, DriftError, ExternalError, InputRequired, Retry

STDIN = "-"
CHUNK = 1 << 20
WEEK = 7 * 86_400


class PinnedContent(Struct, frozen=True):
    """A pinned content: `source` is a path, or `-` for standard input; `digest` its SHA-256, `size` its bytes."""

    source: str
    digest: str
    size: int


class Spool:
    """Opens pinned contents, files and standard input."""

    def __init__(self) -> None:
        self._kept: dict[str, bool] = {}

    def pin(self, source: str) -> PinnedContent:
        """Read a source and pin its content; a pipe is read once and stored.

        Raises ConfigurationError for an unreadable file, InputRequired for missing standard input.
        """
        if source != STDIN:
            try:
                with files.opened(Path(source), pipes=True) as file:
                    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return PinnedContent(os.path.abspath(source), *_digested(file))
                    return self._take_in(file)
            except OSError as cause:
                raise ConfigurationError(f"{source} can't be read: {cause.strerror}.", "Check its owner and mode.") from cause
        if sys.stdin is None or sys.stdin.isatty():
            raise InputRequired(
                "The notifications are expected on standard input, which is a terminal or closed.", "Pipe them in, or give a file."
            )
        return self._take_in(sys.stdin.buffer)

    @contextmanager
    def opened(self, pinned: PinnedContent) -> Iterator[BinaryIO]:
        """The pinned content, opened at its start.

        Raises DriftError when it has changed or is missing, InputRequired when it must be piped in again.
        """
        path = self._path(pinned)
        with ExitStack() as stack:
            try:
                file = stack.enter_context(files.opened(path))
            except OSError as cause:
                raise _moved(
                    pinned.source, "it no longer exists" if isinstance(cause, FileNotFoundError) else str(cause.strerror)
                ) from cause
            if _digested(file) != (pinned.digest, pinned.size):
                raise _moved(pinned.source, "its content has changed")
            file.seek(0)
            yield file

    def keep(self, digest: str, *, until_resumed: bool) -> None:
        """Record that a content is in use (for a resume) or done; other files are not touched."""
        if digest in self._kept:
            self._kept[digest] = until_resumed

    def close(self) -> None:
        """Remove stored contents that no run needs."""
        for digest, wanted in self._kept.items():
            if not wanted:
                _spooled(digest).unlink(missing_ok=True)

    def _path(self, pinned: PinnedContent) -> Path:
        if pinned.source != STDIN:
            return Path(pinned.source)
        path = _spooled(pinned.digest)
        if not path.exists():
            again = self._reread()
            if again is None:
                raise InputRequired(
                    "The notifications came from standard input, which is empty now.",
                    Retry("Pass the notifications again on standard input", options=("< FILE",)),
                )
            if again.digest != pinned.digest:
                raise _moved(STDIN, "its content has changed")
        self._kept.setdefault(pinned.digest, True)
        return path

    def _reread(self) -> PinnedContent | None:
        """Standard input, if it is not empty."""
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            return None
        found = self._take_in(sys.stdin.buffer)
        return found if found.size else None

    def _take_in(self, stream: BinaryIO) -> PinnedContent:
        folder = state_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _forget_old(folder)
            with tempfile.NamedTemporaryFile(dir=folder, prefix="spool-", delete=False) as file:
                digest, size = _digested(stream, file.file)
            os.replace(file.name, _spooled(digest))
        except OSError as cause:
            raise ExternalError(f"Standard input can't be stored in {folder}: {cause.strerror}.", "Free space on its disk.") from cause
        self._kept[digest] = False
        return PinnedContent(STDIN, digest, size)


def _spooled(digest: str) -> Path:
    return state_folder() / f"spool-{digest[:32]}"


def _forget_old(folder: Path) -> None:
    for path in folder.glob("spool-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > WEEK:
                path.unlink()


def _digested(stream: BinaryIO, copy: IO[bytes] | None = None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if copy is not None:
            copy.write(chunk)
    return digest.hexdigest(), size


def _moved(source: str, why: str) -> DriftError:
    name = "standard input" if source == STDIN else source
    return DriftError(f"{name} has changed since the plan: {why}.", "Check it, then make a new plan.")
