"""Trust in configuration files: who else can write them, and which folders the user has trusted.

A folder in the current directory belongs to whoever made the directory. `opsctl config trust` records the content of every file in the
folder, so that a changed folder must be trusted again.
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
TRUST = "Review its files, then: opsctl config trust"


def only_ours(path: Path) -> None:
    """Raise Refused if anyone but this user and root owns the file, can write it, or can replace it.

    Whoever can write a parent folder can rename its entries, unless the folder is sticky like /tmp.
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
    """A file and all its parent folders, and the same for the targets of symbolic links among them."""
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
    """Return the content of every file in a folder, by relative path. Raises ConfigurationError for a link, a device or too many bytes."""
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for path in _files(folder):
        name = str(path.relative_to(folder))
        found[name] = _read(path, left)
        left -= len(found[name])
        if left < 0 or len(found) > MOST_FILES:
            raise ConfigurationError(f"{folder} contains more than {MOST_FILES} files or {MOST_BYTES:,} bytes.", "Use a smaller folder.")
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
        raise ConfigurationError(f"{path} can't be trusted: {cause.strerror}.", f"Remove it from {path.parent}.") from cause


def digest(held: dict[str, bytes]) -> str:
    """Return the SHA-256 digest of a folder's file names and contents."""
    total = hashlib.sha256()
    for name, text in sorted(held.items()):
        total.update(f"{len(os.fsencode(name))} {len(text)}\n".encode() + os.fsencode(name) + text)
    return total.hexdigest()


class Trusted:
    """The trusted folders by their real path, stored in a private file."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def files(self, folder: Path) -> dict[str, bytes] | None:
        """Return the content of a trusted folder, or None if the folder is not trusted in its present state."""
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
            raise ConfigurationError(f"{self._store} can't be used: {cause.strerror}.", f"Check it: ls -l {self._store}") from cause
        except ValueError:
            held = None
        if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
            raise ConfigurationError(f"{self._store} is damaged.", f"rm {self._store}, then trust the folders again.")
        return held
