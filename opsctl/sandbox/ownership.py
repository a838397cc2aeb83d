"""The mark that `up` puts on a sandbox's folder; it is verified before anything is stopped, replaced or deleted."""

from __future__ import annotations

import os
from pathlib import Path

from opsctl import files
from opsctl.errors import Refused

MARK = ".opsctl-sandbox"
BEFORE = {MARK, "lock"}
"""Files that a folder may contain before it is a sandbox: leftovers of a killed `up`."""


def claim(folder: Path) -> None:
    """Mark a folder of this user as a sandbox; the caller holds its lock. Raises Refused for a folder with other files."""
    claimable(folder)
    if not is_marked(folder):
        mark(folder, folder)


def claimable(folder: Path) -> None:
    """Raise Refused unless a folder is missing, empty, or already a sandbox."""
    if folder.exists() and not is_marked(folder):
        if not folder.is_dir() or folder.stat().st_uid != os.geteuid():
            raise Refused(f"{folder} is not a folder of this user. No sandbox was started; nothing was changed.", NEXT)
        if not set(os.listdir(folder)) <= BEFORE:
            raise Refused(f"{folder} contains other files. No sandbox was started there; nothing was changed.", NEXT)


NEXT = "Choose an empty or new folder: OPSCTL_SANDBOX=FOLDER opsctl sandbox up"


def proven(folder: Path) -> None:
    """Raise Refused for a folder with files but without the mark."""
    if not is_marked(folder) and not set(os.listdir(folder)) <= BEFORE:
        told = f"{folder} contains no sandbox of this user. Nothing was stopped or deleted."
        raise Refused(told, "Check OPSCTL_SANDBOX. If an older opsctl started the sandbox, stop it with that opsctl.")


def mark(place: Path, folder: Path) -> None:
    """Mark a directory as part of the sandbox in `folder`."""
    path = place / MARK
    path.unlink(missing_ok=True)
    files.write(path, _words(place, folder))


def is_marked(place: Path, folder: Path | None = None) -> bool:
    """Whether a directory has this user's mark for the sandbox in `folder`; a copied mark is invalid."""
    try:
        files.private(place / MARK)
        return files.read(place / MARK, 10_000, links=False) == _words(place, folder or place)
    except OSError:
        return False


def _words(place: Path, folder: Path) -> bytes:
    info = place.stat()
    return b"opsctl sandbox %d:%d " % (info.st_dev, info.st_ino) + os.fsencode(folder) + b"\n"
