"""Safe file access: reads only regular files of bounded size; writes only new, private files and follows no link.

Each refusal is an OSError whose `strerror` is the reason, so that callers report it like an error of the system.
"""

from __future__ import annotations

import errno
import os
import selectors
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar


class HasFileno(Protocol):
    """An open file, pipe or socket."""

    def fileno(self) -> int:
        """Return its number."""


File = TypeVar("File", bound=HasFileno | int)

LARGEST = 1 << 20
"""Bytes that a file of configuration, a playbook, a query or a seal may have at most."""
LARGEST_LIST = 256 << 20
"""Bytes that a list of users or a saved plan may have at most: some millions of lines."""
KINDS = {
    stat.S_ISDIR: "a directory",
    stat.S_ISLNK: "a link",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
}


class Unfit(OSError):
    """Raised for a file that the system would open but opsctl refuses."""


@contextmanager
def opened(path: Path, *, pipes: bool = False, links: bool = True) -> Iterator[BinaryIO]:
    """Open a regular file for reading. With `pipes`, also a pipe such as a shell's `<(command)`; without `links`, no symbolic link.

    Raises OSError for anything else, before reading from it.
    """
    # Opening a device may have effects, and opening a pipe waits for its writer: check before opening, and again afterwards.
    _regular(path.stat() if links else path.lstat(), pipes=pipes)
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if links else os.O_NOFOLLOW) | (0 if pipes else os.O_NONBLOCK))
    with os.fdopen(number, "rb") as file:
        _regular(os.fstat(number), pipes=pipes)
        yield file


def read(path: Path, limit: int = LARGEST, *, pipes: bool = False, links: bool = True) -> bytes:
    """Return the content of a file that `opened` accepts. Raises OSError if it has more than `limit` bytes."""
    with opened(path, pipes=pipes, links=links) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise Unfit(errno.EFBIG, f"it has more than {limit:,} bytes")
    return content


def write(path: Path, content: bytes, *, replaces: Callable[[bytes], bool] | None = None) -> None:
    """Write a new file atomically, with mode 0600.

    Raises OSError if the path exists, unless it is a regular file of this user without other hard links whose content `replaces` accepts.
    """
    with suppress(FileNotFoundError):
        _replaceable(path, path.lstat(), replaces)
    fresh = _beside(path, content)
    try:
        if replaces:
            os.replace(fresh, path)
        else:
            _name_new(fresh, path)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()
    sync_folder(path.parent)


def append_only(path: Path, flags: int) -> int:
    """Open a regular file of this user for appending and return its descriptor. A new file gets mode 0600."""
    with suppress(FileNotFoundError):
        _regular(path.lstat())
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    try:
        _regular(os.fstat(number))
        _ours(os.fstat(number))
    except OSError:
        os.close(number)
        raise
    return number


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that the name of a new file survives a power failure."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def kind(info: os.stat_result) -> str:
    """The type of a file that is not regular, with its article; empty for a regular file."""
    return next((name for is_so, name in KINDS.items() if is_so(info.st_mode)), "")


def private(path: Path) -> None:
    """Raise OSError unless the path is missing or is a regular file that only this user owns, reads and writes."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    _regular(info)
    _ours(info)
    if info.st_mode & 0o077:
        raise Unfit(errno.EPERM, f"its mode {stat.S_IMODE(info.st_mode):04o} lets other users in")


def _regular(info: os.stat_result, *, pipes: bool = False) -> None:
    if (found := kind(info)) and not (pipes and stat.S_ISFIFO(info.st_mode)):
        told = f"it is {found}, not a regular file"
        raise IsADirectoryError(errno.EISDIR, told) if stat.S_ISDIR(info.st_mode) else Unfit(errno.EINVAL, told)


def _ours(info: os.stat_result) -> None:
    if info.st_uid != os.geteuid():
        raise Unfit(errno.EPERM, f"it belongs to another user (uid {info.st_uid})")
    if info.st_nlink != 1:
        raise Unfit(errno.EMLINK, f"it has {info.st_nlink} names (hard links)")


def _replaceable(path: Path, info: os.stat_result, replaces: Callable[[bytes], bool] | None) -> None:
    _regular(info)
    if replaces is None:
        raise Unfit(errno.EEXIST, "there is a file already")
    _ours(info)
    if not replaces(read(path, LARGEST_LIST, links=False)):
        raise Unfit(errno.EEXIST, "there is a file already, and it holds something else")


def _beside(path: Path, content: bytes) -> Path:
    """A new file in the folder of `path`, with the content flushed to the disk."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
    fresh = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(number)
    except BaseException:
        fresh.unlink()
        raise
    return fresh


def _name_new(fresh: Path, path: Path) -> None:
    """Give a file its final name; raises OSError if the name exists. Renames on file systems without hard links."""
    try:
        os.link(fresh, path, follow_symlinks=False)
    except FileExistsError:
        raise Unfit(errno.EEXIST, "there is a file already") from None
    except OSError as cause:
        if cause.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.replace(fresh, path)


def readable(files: Sequence[File], timeout: float | None = 0.0) -> list[File]:
    """Return those of `files` that can be read within `timeout` seconds; None waits without end.

    select(2) refuses a file whose number is 1,024 or more; poll(2) takes any.
    """
    with selectors.PollSelector() as waiting:
        for file in files:
            waiting.register(file, selectors.EVENT_READ, file)
        return [key.data for key, _ in waiting.select(timeout)]
