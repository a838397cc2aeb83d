"""Each data server's own directory: in the sandbox's folder, or in a short one in the temporary folder.

A unix socket's path has 107 bytes at most (103 on macOS), and the user that the server becomes must be able to get
there; where one is not so, the folder holds a link to a private short directory instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from opsctl.sandbox import ownership

LONGEST_SOCKET_PATH = 103
PREFIX = "opsctl-"


def home(folder: Path, part: str) -> Path:
    """The real path of a part's directory, which may not exist yet."""
    return (folder / part).resolve()


def reachable(place: Path, user: int) -> bool:
    """Whether a user (a uid) without special rights surely gets into a directory."""
    places = (place, *place.parents)
    return all(above.stat().st_uid == user or above.stat().st_mode & 0o001 for above in places)


def make(folder: Path, part: str, socket_name: str, owner: int) -> Path:
    """Make the part's directory (0700, its owner a uid) where it isn't there or isn't usable, and return it."""
    link = folder / part
    too_long = len(os.fsencode(link / socket_name)) > LONGEST_SOCKET_PATH
    elsewhere = too_long or not reachable(folder, owner)
    ours = not link.is_symlink() or is_ours(link, folder)
    if link.is_dir() and link.is_symlink() == elsewhere and link.stat().st_uid == owner and ours:
        return link.resolve()
    remove(folder, part)
    if elsewhere:
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        ownership.mark(place, folder)
        link.symlink_to(place)
    else:
        link.mkdir(mode=0o700)
    directory = link.resolve()
    if owner != os.geteuid():
        os.chown(directory, owner, owner)
    return directory


def is_ours(link: Path, folder: Path) -> bool:
    """Whether a link leads to a directory that was made for the sandbox in `folder`."""
    place = link.resolve()
    return place.parent == Path("/tmp").resolve() and place.name.startswith(PREFIX) and ownership.is_marked(place, folder)


def remove(folder: Path, part: str) -> None:
    """Remove a part's directory: in the folder itself, or where `make` has put it; what another link leads to stays."""
    link = folder / part
    if not link.is_symlink() or is_ours(link, folder):
        shutil.rmtree(link.resolve(), ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
