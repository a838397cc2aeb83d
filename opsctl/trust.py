"""Whether a file may say what opsctl does: who else could have written it, and which folders a person has trusted.

A folder of the current directory belongs to whoever made the directory. `opsctl config trust` binds a person's trust to the content of
every file in it, so that a changed folder has to be trusted again.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from opsctl import files
from opsctl.errors import ConfigurationError, Refused

MOST_FILES = 1_000
MOST_BYTES = 16_000_000
OTHERS = stat.S_IWGRP | stat.S_IWOTH
TRUST = "Read what is in it, then: opsctl config trust"


def only_ours(path: Path) -> None:
    """Raise Refused when somebody other than this user and root owns the file or may write it, or may put another in its place.

    Whoever may write a folder on the way to it can rename what is in that folder; a folder like /tmp protects what is another's in it.
    """
    for each in _on_the_way(path.absolute()):
        found = each.stat()
        for owner in dict.fromkeys((each.lstat().st_uid, found.st_uid)):
            if owner not in (os.geteuid(), 0):
                raise Refused(
                    f"{each} belongs to {_user(owner)}, who could change what opsctl does: nothing was run.",
                    f"chown -h {_user(os.geteuid())} {each}",
                )
        protects = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & OTHERS and not protects:
            raise Refused(f"Other users may write {each}, and so change what opsctl does: nothing was run.", f"chmod go-w {each}")


def _on_the_way(path: Path) -> Iterator[Path]:
    """A file, every folder above it, and the same of whatever a link among them leads to."""
    for each in (path, *path.parents):
        yield each
        if each.is_symlink():
            yield from _on_the_way(each.parent / each.readlink())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by its path in it; raises ConfigurationError for a link, a device, or too much."""
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for path in _files(folder):
        name = str(path.relative_to(folder))
        found[name] = _read(path, left)
        left -= len(found[name])
        if left < 0 or len(found) > MOST_FILES:
            raise ConfigurationError(f"{folder} holds more than {MOST_FILES} files or {MOST_BYTES:,} bytes.", "Name a smaller folder.")
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders.sort()
        yield from sorted(Path(place, name) for name in (*names, *folders) if name in names or Path(place, name).is_symlink())


def _unreadable(cause: OSError) -> None:
    raise ConfigurationError(f"{cause.filename} can't be read: {cause.strerror}.", "Check its owner and mode.") from cause


def _read(path: Path, most: int) -> bytes:
    try:
        return files.read(path, most, links=False)
    except OSError as cause:
        raise ConfigurationError(f"{path} can't be trusted: {cause.strerror}.", f"Take it out of {path.parent}.") from cause


def digest(held: dict[str, bytes]) -> str:
    """Return what changes with any name or byte of a folder's files."""
    total = hashlib.sha256()
    for name, text in sorted(held.items()):
        total.update(f"{len(os.fsencode(name))} {len(text)}\n".encode() + os.fsencode(name) + text)
    return total.hexdigest()


class Trusted:
    """The folders that a person has trusted, by their real path, in a file that is this user's alone."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def files(self, folder: Path) -> dict[str, bytes] | None:
        """Return the content of a trusted folder; None when nobody trusted the folder as it is now."""
        wanted = self._held().get(str(folder.resolve()))
        if wanted is None:
            return None
        found = content(folder)
        return found if digest(found) == wanted else None

    def add(self, folder: Path, held: dict[str, bytes]) -> None:
        """Trust a folder with this content."""
        known = {**self._held(), str(folder.resolve()): digest(held)}
        self._store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(self._store, json.dumps(known, indent=1).encode(), replaces=lambda _: True)

    def _held(self) -> dict[str, str]:
        if not self._store.exists():
            return {}
        try:
            files.private(self._store)
            held = json.loads(files.read(self._store, links=False))
        except OSError as cause:
            raise ConfigurationError(f"{self._store} can't be used: {cause.strerror}.", f"Look at {self._store}.") from cause
        except ValueError:
            held = None
        if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
            raise ConfigurationError(f"{self._store} is damaged.", f"rm {self._store}, then trust the folders again.")
        return held
