"""Statements by psql, over the database that AWS names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opsctl.changes.raw.aws import aws, learn
from opsctl.changes.raw.values import credential
from opsctl.shell import Command, Either, Equal, Export, File, Must, Program, Statement, Unset, Variable, capture, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.settings import DatabaseSettings, Reference

PASS_FILE = Program(
    "pass_file",
    r"""
import json, os, sys
try:
    login = json.load(sys.stdin)
    user, password = str(login["username"]), str(login["password"])
except (ValueError, KeyError, TypeError):
    sys.exit("the database's login is no JSON with username and password")
for name, text in ("user", user), ("pass", "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"):
    with open(os.path.join(sys.argv[1], name), "w", newline="") as file:
        file.write(text)
""",
)
"""Makes of a login's JSON the files `user` and `pass`, the latter as libpq reads passwords."""


def database(environment: Environment, reference: Reference | None = None, instance: str = "") -> list[Statement]:
    """Find the database as AWS names it, and its login; `instance` is one of the cluster's, by default it is what takes writes."""
    settings: DatabaseSettings = environment.need("database")
    login, one = File("login"), instance or settings.instance
    if one:
        found = aws(environment, "rds", "describe-db-instances", DBInstanceIdentifier=one)
        host, port = "DBInstances[0].Endpoint.Address", "DBInstances[0].Endpoint.Port"
    else:
        found = aws(environment, "rds", "describe-db-clusters", DBClusterIdentifier=settings.cluster)
        host, port = "DBClusters[0].Endpoint", "DBClusters[0].Port"
    reference = reference or settings.login
    whole = type(reference)(aws=reference.aws, region=reference.region, env=reference.env, file=reference.file)
    return [
        Unset(variables=NOWHERE),
        learn("PGHOST", found, host),
        learn("PGPORT", found, port),
        *credential(environment, whole, login),
        run(PASS_FILE, Variable("work"), stdin=login),
        capture("PGUSER", run("cat", stdin=File("user"))),
        *(Export(variable=name, value=Variable(name)) for name in ("PGHOST", "PGPORT", "PGUSER")),
        Export(variable="PGDATABASE", value=settings.name),
        Export(variable="PGPASSFILE", value=File("pass")),
        Export(variable="PGCONNECT_TIMEOUT", value="10"),
        *_proven(settings),
    ]


def _proven(settings: DatabaseSettings) -> list[Statement]:
    """What the server has to prove before it gets the password."""
    from opsctl.adapters import certificates

    tunnel = settings.tunnel_address
    through = [Export(variable="PGHOSTADDR", value=tunnel[0]), Export(variable="PGPORT", value=str(tunnel[1]))] if tunnel else []
    if not settings.tls:
        here = Either(tests=tuple(Equal(one=Variable("PGHOST"), other=name) for name in ("127.0.0.1", "::1", "localhost")))
        refused = "[database] says tls = false, and the database isn't on this machine: its password was not sent."
        return [Must(test=here, otherwise=refused), *through, Export(variable="PGSSLMODE", value="disable")]
    return [
        *through,
        Export(variable="PGSSLMODE", value="verify-full"),
        Export(variable="PGSSLROOTCERT", value=certificates.authorities(settings.ca)),
        Export(variable="PGREQUIREAUTH", value="scram-sha-256"),
    ]


NOWHERE = ("PGSERVICE", "PGSERVICEFILE", "PGPASSWORD", "PGHOSTADDR", "PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGREQUIREAUTH")
"""Variables that would lead psql elsewhere, or have it write otherwise."""


PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def psql(statement: str, names: Mapping[str, str] | None = None, /, **values: str | File) -> Command:
    """A statement by psql, in a transaction of its own.

    `{name}` in it stands for an identifier, where `names` are given, and `%(name)s` for a value, which psql itself binds.
    """
    text = PLACEHOLDER.sub(r":'\1'", statement)
    if names is not None:
        text = " ".join(text.split()).format(**{name: '"' + each.replace('"', '""') + '"' for name, each in names.items()})
    lines = [f"\\set {name} {_set(value)}" for name, value in values.items()]
    options = ("-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-")
    return run("psql", *options, given=[*lines, f"{text};"])


def _set(value: str | File) -> str:
    """A value as psql's own \\set reads it; of a file, what is in it."""
    if isinstance(value, File):
        return f'`cat "$work/{value.name}"`'
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"'{escaped}'"
