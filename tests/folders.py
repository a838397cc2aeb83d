"""Where tests keep their files: in memory, where this machine has room there.

To make and delete a database's files on a disk took longer than all else in a test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free: a database and its template for each worker."""


def _root() -> Path:
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        return MEMORY
    return Path("/tmp")


ROOT = _root()


def short_folder() -> Path:
    """A new folder with a short path: a unix socket's has 107 bytes at most."""
    return Path(tempfile.mkdtemp(prefix="w", dir=ROOT))
