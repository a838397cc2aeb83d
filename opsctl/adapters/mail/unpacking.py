"""Reads a stream that may be gzip-compressed, up to a limit: a small file can unpack to any size."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from opsctl.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = b"\x1f\x8b"
"""The magic bytes of gzip: RFC 1952."""
LARGEST = 1 << 30
"""Maximum bytes of an unpacked file: about a million notifications."""


def unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """The content of a stream, unpacked if it is gzip-compressed; `name` is for errors.

    Reading raises ConfigurationError for a broken file and for more than LARGEST bytes.
    """
    packed = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    return cast(BinaryIO, io.BufferedReader(_Unpacking(stream, name))) if packed else stream


class _Unpacking(io.RawIOBase):
    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._file, self._name, self._size = gzip.GzipFile(fileobj=stream), name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            part = self._file.read(len(view))
        except (gzip.BadGzipFile, EOFError, zlib.error) as cause:
            raise ConfigurationError(f"{self._name} is a broken gzip file: {cause}.", "Download it again.") from cause
        self._size += len(part)
        if self._size > LARGEST:
            raise ConfigurationError(f"{self._name} unpacks to more than {LARGEST:,} bytes.", "Unpack it, and pass it in parts.")
        view[: len(part)] = part
        return len(part)
