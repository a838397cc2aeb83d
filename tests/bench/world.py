"""A sandbox of the bench's own, without waits, in a folder that goes when it is over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from opsctl.sandbox import lifecycle, postgres, valkey, world_file


@contextmanager
def world() -> Iterator[Path]:
    """Bring it up, point this process and its children at it, and take it down."""
    # Short, because a unix socket's path lies in it.
    folder = Path(tempfile.mkdtemp(prefix="ob"))
    try:
        lifecycle.up(folder, tempo=0)
        for name in lifecycle.UNSET:
            os.environ.pop(name, None)
        nobodys = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        os.environ.update(lifecycle.exports(folder) | nobodys | {"XDG_STATE_HOME": str(folder / "state"), "OPSCTL_TEMPO": "0"})
        yield folder
    finally:
        lifecycle.down(folder)
        shutil.rmtree(folder, ignore_errors=True)


def superuser(folder: Path, database: str = "postgres") -> psycopg.Connection[TupleRow]:
    """The sandbox's own connection to its PostgreSQL, in autocommit mode."""
    facts = world_file.facts(folder)
    return postgres.connect(int(facts["pg_port"]), facts["pg_superuser_password"], database=database)


def keys(folder: Path) -> valkey.Client:
    """The sandbox's own connection to its Valkey, patient enough for filling it."""
    facts = world_file.facts(folder)
    return valkey.connect(int(facts["redis_port"]), facts["redis_password"], 120.0)
