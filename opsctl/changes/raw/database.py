"""Statements for the database that AWS names, with psql or the Data API, as configured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opsctl.changes.raw.aws import aws, learn
from opsctl.changes.raw.values import credential
from opsctl.shell import Assign, Command, Either, Equal, Export, File, Must, Program, Statement, Unset, Variable, capture, joined, run

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
    sys.exit("the database's login is not JSON with username and password")
for name, text in ("user", user), ("pass", "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"):
    with open(os.path.join(sys.argv[1], name), "w", newline="") as file:
        file.write(text)
""",
)
"""Makes of a login's JSON the files `user` and `pass`, the latter as libpq reads passwords."""


def database(environment: Environment, reference: Reference | None = None, instance: str = "") -> list[Statement]:
    """Finds the database and its login in AWS; `instance` is one of the cluster's, by default the writer."""
    settings = environment.database
    login, one = File("login"), instance or settings.instance
    if settings.driver == "rds-data":
        found = aws(environment, "rds", "describe-db-clusters", DBClusterIdentifier=settings.cluster)
        named = (reference or settings.login).aws or ""
        return [learn("resource", found, "DBClusters[0].DBClusterArn"), Assign(variable="login", value=named)]
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
        # A role that sees only some rows gets an error instead of an empty result.
        Export(variable="PGOPTIONS", value="-c row_security=off"),
        *_proven(settings),
    ]


def _proven(settings: DatabaseSettings) -> list[Statement]:
    """What the server has to show before it gets the password."""
    from opsctl import certificates

    tunnel = settings.tunnel_address
    through = [Export(variable="PGHOSTADDR", value=tunnel[0]), Export(variable="PGPORT", value=str(tunnel[1]))] if tunnel else []
    if not settings.tls:
        here = Either(tests=tuple(Equal(one=Variable("PGHOST"), other=name) for name in ("127.0.0.1", "::1", "localhost")))
        refused = "[database] says tls = false, but the database isn't on this machine: its password was not sent."
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


def sql(environment: Environment, statement: str, names: Mapping[str, str] | None = None, /, **values: str | File) -> Command:
    """A statement in its own transaction, with the configured driver. Writes the first value of a result.

    `{name}` in it stands for an identifier, where `names` are given, and `%(name)s` for a value, which psql or the Data API binds.
    """
    text = statement
    if names is not None:
        text = " ".join(text.split()).format(**{name: '"' + each.replace('"', '""') + '"' for name, each in names.items()})
    settings = environment.database
    if settings.driver == "rds-data":
        return _by_data_api(environment, settings, text, values)
    lines = [f"\\set {name} {_set(value)}" for name, value in values.items()]
    options = ("-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-")
    return run("psql", *options, given=[*lines, f"{PLACEHOLDER.sub(NAMED, text)};"])


NAMED = r":'\1'"

DATA_API = Program(
    "execute_statement",
    """
import json, subprocess, sys
region, resource, secret, request, *files = sys.argv[1:]
asked = json.load(sys.stdin)
for file in files:
    name, _, path = file.partition("=")
    with open(path, encoding="utf-8", newline="") as held:
        asked["parameters"].append({"name": name, "value": {"stringValue": held.read()}})
asked.update(resourceArn=resource, secretArn=secret)
with open(request, "w") as file:
    json.dump(asked, file)
words = ["aws", "rds-data", "execute-statement", "--region", region, "--output", "json", "--cli-input-json", f"file://{request}"]
done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(done.returncode)
for record in json.loads(done.stdout or "{}").get("records", [])[:1]:
    print(*[value for field in record[:1] for value in field.values()])
""",
    ("aws",),
)
"""Runs a statement by the Data API; a file may be longer than an argument."""


def _by_data_api(environment: Environment, settings: DatabaseSettings, text: str, values: Mapping[str, str | File]) -> Command:
    parameters = [{"name": name, "value": {"stringValue": value}} for name, value in values.items() if isinstance(value, str)]
    asked = {"database": settings.name, "sql": PLACEHOLDER.sub(r":\1", text), "parameters": parameters}
    files = [joined(f"{name}=", value) for name, value in values.items() if isinstance(value, File)]
    where = (environment.aws.region, Variable("resource"), Variable("login"), File("statement"))
    return run(DATA_API, *where, *files, given=[json.dumps(asked)])


def _set(value: str | File) -> str:
    r"""A value for psql's \set; of a file, its content."""
    if isinstance(value, File):
        return f'`cat "$work/{value.name}"`'
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"'{escaped}'"
