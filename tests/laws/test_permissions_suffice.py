"""A command does its work with exactly the rights in Postgres and Redis that `opsctl permissions` prints for it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from commands import lines
from psycopg import sql
from scenarios import Rehearsed, rehearsed
from test_permissions import VIEWS
from world import World

from opsctl.commands.permissions import of
from opsctl.sandbox import postgres

pytestmark = pytest.mark.exhaustive

DATABASE = "safawinet"
SECRETS = {"opsctl_reader": "database-reader", "opsctl_writer": "database", "opsctl_rescue": "database-rescue"}
"""The secret that each printed role logs in with."""
EXACT = {role: role.replace("opsctl", "exact") for role in SECRETS}
"""Roles of our own, which have what is printed and nothing else."""
REACHED = ("postgres", "redis")
PASSWORD = 'password = { aws = "safawinet/prod/redis", key = "password" }'
"""The line of the configuration by which everybody logs in to Redis."""


def reaches(words: str) -> bool:
    """Whether a command needs Postgres or Redis."""
    return any(need.startswith(REACHED) for side in of(words) for need in side)


@pytest.fixture
def superuser(world: World) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the application's database that may do anything, and takes our roles away again."""
    port, password = int(world.facts["pg_port"]), world.facts["pg_superuser_password"]
    with postgres.connect(port, password, database=DATABASE) as connection:
        forget(connection)
        yield connection
    # A failover has ended the connection.
    with postgres.connect(port, password, database=DATABASE) as connection:
        forget(connection)
        connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(sql.Identifier(DATABASE)))
    for name in ("opsctl-reader", "opsctl-writer"):
        world.cache().acl_deluser(name)


def forget(connection: psycopg.Connection[Any]) -> None:
    for role in EXACT.values():
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def restrict(world: World, superuser: psycopg.Connection[Any], words: str) -> None:
    """Have the logins to Postgres and Redis be roles and users with the printed rights alone."""
    superuser.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
    superuser.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO safawinet, opsctl_reader").format(sql.Identifier(DATABASE)))
    for role, secret in SECRETS.items():
        superuser.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'exact'").format(sql.Identifier(EXACT[role])))
        login = json.dumps({"username": EXACT[role], "password": "exact"})
        world.aws("secretsmanager").put_secret_value(SecretId=f"safawinet/prod/{secret}", SecretString=login)
    file = world.config / "sandbox.toml"
    text = file.read_text()
    assert PASSWORD in text
    reader = PASSWORD.replace("password", 'reader = { user = "opsctl-reader", password', 1) + " }"
    file.write_text(text.replace(PASSWORD, f'user = "opsctl-writer"\n{PASSWORD}\n{reader}'))
    for line in world.opsctl("permissions", *words.split(), "--format", "grants", check=0).out.splitlines():
        if line.startswith("GRANT"):
            superuser.execute(re.sub(r"opsctl_(reader|writer|rescue)", r"exact_\1", line).encode())
        if found := re.fullmatch(r"-- Redis: (ACL SETUSER .*)", line):
            filled = [word.replace(">PASSWORD", f">{world.facts['redis_password']}") for word in shlex.split(found[1])]
            world.cache().execute_command(*filled)


@pytest.mark.parametrize("words", [words for words in VIEWS if reaches(words)])
def test_a_command_that_looks_needs_no_more(world: World, superuser: psycopg.Connection[Any], words: str) -> None:
    restrict(world, superuser, words)
    for line in VIEWS[words]:
        found = world.opsctl("-o", "json", *shlex.split(line))
        said = f"{found.out}\n{found.err}".lower()
        assert not any(word in said for word in ("denied", "permission", "no_perm", "can't see")), str(found)


@pytest.mark.parametrize(
    ("words", "scenario"), [pytest.param(*each, id=each[1].line.replace("/", ":")) for each in rehearsed() if reaches(each[0])]
)
def test_a_change_needs_no_more(world: World, superuser: psycopg.Connection[Any], words: str, scenario: Any) -> None:
    it = Rehearsed(scenario, world, sessions=False)
    restrict(world, superuser, words)
    it.dry(check=3)
    done = it.run(check=0).json
    assert "denied" not in json.dumps(done).lower()
    assert scenario.so(world)
    if scenario.reversible:
        it.say("runs", "undo", done["run"], "-y", check=0)


@pytest.mark.parametrize("need", ["postgres:sessions.delete", "redis:sessions.unlink"])
def test_without_a_need_the_command_is_denied(world: World, superuser: psycopg.Connection[Any], need: str) -> None:
    """The proof above can fail: what is printed for a command that only looks doesn't log anybody out."""
    it = Rehearsed(next(s for words, s in rehearsed() if words == "logout all"), world, sessions=False)
    assert need in of("logout all").write
    restrict(world, superuser, "sessions list")
    assert it.run().code != 0
    assert lines()["sessions list"].kind == "read-only"
