"""A running sandbox as the tests hold it: put back, hurt, configured, and compared as a whole."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import botocore.session
import psycopg
import redis
from botocore.config import Config
from folders import short_folder
from terminal import Result, Terminal, warm

from opsctl.adapters.aws import session
from opsctl.changes import find_kind
from opsctl.engine.ledger import verify as chains
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.sandbox import lifecycle
from opsctl.sandbox.faults import Rule

ROOT = Path(lifecycle.__file__).parents[2]
CLUSTER = "safawinet-prod"
SERVICES = {"api": "safawinet-api-prod", "worker": "safawinet-worker-prod"}
MODELS = ("sts", "ecs", "secretsmanager", "rds", "rds-data", "elasticache", "application-autoscaling", "ecr", "cloudwatch", "logs", "sqs")
REGIONS = ("us-east-1", "us-west-2")
TABLES = ("users", "refresh_sessions", "ses_notifications")
ABLE = ("password_enabled", "access_key_1_active", "access_key_2_active")
DOWNLOADS = ["download_enabled", "download_requested", "download_token"]
GUARDIAN = """
import shutil, sys
from pathlib import Path
from opsctl.sandbox import lifecycle
sys.stdin.read()
lifecycle.down(Path(sys.argv[1]))
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""

Snapshot = dict[str, Any]

# What any command might change: (service, operation, key of the answer, region).
LOOKS = [
    ("rds", "describe_db_clusters", "DBClusters", REGIONS[0]),
    ("rds", "describe_db_instances", "DBInstances", REGIONS[0]),
    ("rds", "describe_events", "Events", REGIONS[0]),
    ("rds", "describe_db_cluster_snapshots", "DBClusterSnapshots", REGIONS[0]),
    ("rds", "describe_db_snapshots", "DBSnapshots", REGIONS[0]),
    ("cloudwatch", "describe_alarms", "MetricAlarms", REGIONS[0]),
    ("lambda", "list_functions", "Functions", REGIONS[1]),
    ("sqs", "list_queues", "QueueUrls", REGIONS[0]),
]

# A group's digest is a sum, so that the order of the keys doesn't matter.
KEYS = """
local groups, marks = {}, {}
for _, name in ipairs(redis.call('KEYS', '*')) do
    local value = redis.pcall('GET', name)
    if type(value) == 'table' then value = 'no string' end
    local group = string.match(name, '^[^:]*')
    if group == 'auth' or group == 'idempotency' then
        marks[name] = value
    else
        local sum = tonumber(string.sub(redis.sha1hex(name .. '=' .. value), 1, 9), 16)
        groups[group] = groups[group] or {0, 0}
        groups[group] = {groups[group][1] + 1, groups[group][2] + sum}
    end
end
return cjson.encode({groups, marks})
"""


def table(name: str) -> str:
    """The text of a table of the shipped sandbox's configuration, to be replaced by another or by nothing."""
    return re.findall(rf"^\[{name}\]\n(?:[^\[#\n].*\n|\n)*", (ROOT / "config" / "sandbox.toml").read_text(), re.MULTILINE)[0]


class Rehearsal:
    """One sandbox in a short folder, for a whole test process; it ends with that process, however that ends."""

    def __init__(self, users: int = 10_000, sessions: int = 50_000) -> None:
        self.folder = short_folder()
        self.users, self.sessions = users, sessions
        self.walls: dict[str, Any] = {}
        self.counted: dict[str, tuple[Any, Any]] = {}
        self._guardian = subprocess.Popen(
            [sys.executable, "-c", GUARDIAN, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def up(self) -> None:
        """Start it, or mend what of it has died."""
        self.facts = lifecycle.up(self.folder, tempo=0.0, users=self.users, sessions=self.sessions)
        warm()
        for service in MODELS:
            self.aws(service)

    def reset(self) -> None:
        """Put the seeded data back, and take every fault away."""
        lifecycle.reset(self.folder)

    def down(self) -> None:
        """Stop it, and leave nothing behind."""
        lifecycle.down(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(30)

    @cached_property
    def _session(self) -> Any:
        found = botocore.session.Session(session_vars={"config_file": (None, None, os.devnull, None)})
        # Its loader is opsctl's, so that a forked child finds AWS's models in memory.
        found.register_component("data_loader", session._loader())
        # And so is what reads the times in an answer, of which a snapshot has hundreds.
        found.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=session._parse_time)
        return found

    def aws(self, service: str, region: str = REGIONS[0]) -> Any:
        """A client of the sandbox's AWS that has nothing to do with opsctl's own."""
        key = f"{service} {region}"
        if key not in self._clients:
            self._clients[key] = self._session.create_client(
                service,
                region_name=region,
                endpoint_url=self.facts["aws"],
                aws_access_key_id=self.facts["access_key_id"],
                aws_secret_access_key=self.facts["secret_access_key"],
                config=Config(retries={"total_max_attempts": 1}, proxies={}, ignore_configured_endpoint_urls=True),
            )
        return self._clients[key]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}


class World:
    """The sandbox of one test, with the configuration (`config/sandbox.toml`) and the ledger that its commands use."""

    def __init__(self, rehearsal: Rehearsal, opsctl: Terminal, home: Path) -> None:
        self.rehearsal, self.opsctl, self.home = rehearsal, opsctl, home
        self.facts, self.aws = rehearsal.facts, rehearsal.aws
        self.config = home / "config"
        self.ledger = home / "state" / "opsctl" / "ledger.db"

    def configure(self, replace: dict[str, str] | None = None, add: str = "", name: str = "sandbox") -> None:
        """Write the environment's file: the shipped sandbox, with text replaced or added at its end."""
        text = (ROOT / "config" / "sandbox.toml").read_text()
        for old, new in (replace or {}).items():
            assert old in text, f"the sandbox's configuration has no {old!r}"
            text = text.replace(old, new)
        self.config.mkdir(exist_ok=True)
        (self.config / f"{name}.toml").write_text(f"{text}\n{add}\n")

    def again(self) -> None:
        """Begin anew: the seeded data, and an empty ledger."""
        self.rehearsal.reset()
        shutil.rmtree(self.ledger.parent, ignore_errors=True)

    def fault(self, part: str, operation: str, action: str, seconds: float = 0.0, times: int = 1) -> None:
        """Hurt calls to a part."""
        lifecycle.set_fault(self.rehearsal.folder, Rule(part, operation, action, seconds, 0, times))

    def heal(self) -> None:
        """Take every fault away."""
        lifecycle.clear_faults(self.rehearsal.folder)

    def whole(self) -> bool:
        """Whether the ledger's chains add up, as `runs verify` finds out."""
        ledger = open_ledger(self.ledger, find_kind)
        try:
            return chains.verify(ledger) == []
        finally:
            ledger.shut()

    def runs(self) -> set[str]:
        """The ids of the ledger's runs."""
        if not self.ledger.exists():
            return set()
        with contextlib.closing(sqlite3.connect(self.ledger)) as ledger:
            tables = ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall()
            return {run for (run,) in ledger.execute("SELECT id FROM runs")} if tables else set()

    def acknowledged(self) -> list[str]:
        """The alarms that the ledger says somebody looks after; a ledger that can't be read says nothing."""
        sql = (
            "SELECT target, json_extract(change, '$.acknowledged'), max(ended) FROM steps"
            " WHERE kind = 'set-acknowledgement' AND state = 'applied' GROUP BY target"
        )
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            return sorted(target for target, acknowledged, _ in ledger.execute(sql) if acknowledged)
        return []

    def undo(self, run: str) -> Result:
        """Take a run back."""
        return self.opsctl("-o", "json", "runs", "undo", run, "-y")

    def database(self) -> psycopg.Connection[Any]:
        """A connection as the application."""
        facts = self.facts
        return psycopg.connect(
            host=facts["pg_host"], port=facts["pg_port"], user=facts["pg_user"], password=facts["pg_password"], dbname=facts["database"]
        )

    def cache(self) -> redis.Redis:
        """A client of Valkey."""
        return redis.Redis(host=self.facts["redis_host"], port=int(self.facts["redis_port"]), password=self.facts["redis_password"])

    def count(self, sql: str) -> int:
        """The one number that a query gives."""
        with self.database() as connection:
            row = connection.execute(sql).fetchone()
        assert row is not None
        return int(row[0])

    def secret(self, id: str, key: str | None = None, version: str | None = None) -> str:
        """A secret's value: the current one, or a version's; with `key`, a member of it."""
        which = {"VersionId": version} if version else {}
        text: str = self.aws("secretsmanager").get_secret_value(SecretId=id, **which)["SecretString"]
        return json.loads(text)[key] if key else text

    def rotate(self, id: str, key: str, value: str) -> None:
        """Somebody else rotates a secret."""
        held = json.loads(self.secret(id))
        self.aws("secretsmanager").put_secret_value(SecretId=id, SecretString=json.dumps({**held, key: value}))

    def service(self, name: str) -> dict[str, Any]:
        """An ECS service as AWS describes it."""
        found: dict[str, Any] = self.aws("ecs").describe_services(cluster=CLUSTER, services=[SERVICES[name]])["services"][0]
        return found

    def writer(self) -> str:
        """The database cluster's writer."""
        members = self.aws("rds").describe_db_clusters(DBClusterIdentifier=CLUSTER)["DBClusters"][0]["DBClusterMembers"]
        return next(str(each["DBInstanceIdentifier"]) for each in members if each["IsClusterWriter"])

    def failovers(self) -> list[str]:
        """What RDS' events say of failovers, in order."""
        events = self.aws("rds").describe_events()["Events"]
        return [each["Message"] for each in events if "failover" in each["EventCategories"]]

    def bounds(self) -> tuple[int, int]:
        """The api service's scaling bounds."""
        found = self.aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"][0]
        return found["MinCapacity"], found["MaxCapacity"]

    def sent(self) -> dict[str, list[dict[str, Any]]]:
        """What reached Slack, PagerDuty and the status page."""
        with urllib.request.urlopen(f"{self.facts['notices']}/sent") as answer:
            found: dict[str, list[dict[str, Any]]] = json.load(answer)
        return found

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the sandbox's control port: `GET /hubspot/counts`."""
        return _ask(method, self.facts["control"] + path, self.facts["control_token"], body)

    def hubspot(self, method: str, path: str, body: Any = None) -> Any:
        """Ask HubSpot's stand-in about contacts: `GET /156855158284?properties=email`."""
        return _ask(method, f"{self.facts['hubspot']}/crm/v3/objects/contacts{path}", self.facts["hs_token"], body)

    def contact(self, id: str) -> dict[str, str]:
        """What HubSpot has of a contact's downloads, empty texts for nothing."""
        held = self.hubspot("GET", f"/{id}?properties={','.join(DOWNLOADS)}")["properties"]
        return {name: held[name] or "" for name in DOWNLOADS}

    def contacts(self) -> dict[str, list[str]]:
        """The seeded contacts' downloads."""
        found = self.hubspot("POST", "/search", {"limit": 200, "properties": DOWNLOADS})["results"]
        return {each["id"]: [each["properties"][name] or "" for name in DOWNLOADS] for each in found}

    def firewall(self) -> dict[str, Any]:
        """Every web ACL and address set by its name; it is read again only when its lock token says that somebody has written it."""
        client, found = self.aws("wafv2"), {}
        for key, listing, getting in (
            ("WebACL", client.list_web_acls, client.get_web_acl),
            ("IPSet", client.list_ip_sets, client.get_ip_set),
        ):
            for each in listing(Scope="REGIONAL")[f"{key}s"]:
                token = each["LockToken"]
                if token not in self.rehearsal.walls:
                    held = _plain(getting(Name=each["Name"], Id=each["Id"], Scope="REGIONAL")[key])
                    # Neither rules nor addresses have an order of their own.
                    self.rehearsal.walls[token] = {n: sorted(v, key=str) if isinstance(v, list) else v for n, v in held.items()}
                found[each["Name"]] = self.rehearsal.walls[token]
        return found

    def protected(self) -> dict[str, str]:
        """The name of Shield's protection of each resource."""
        return {each["ResourceArn"]: each["Name"] for each in self.aws("shield").list_protections()["Protections"]}

    def leases(self) -> int:
        """How many leases were granted."""
        return int(self.control("GET", "/hh/leases")["count"])

    def announcements(self) -> list[dict[str, str]]:
        """What the API has told its users of maintenance."""
        found: list[dict[str, str]] = self.control("GET", "/api/announcements")["announcements"]
        return found

    def secrets(self) -> dict[str, dict[str, Any]]:
        """Every version of every secret: its stages, and its value's digest."""
        found: dict[str, dict[str, Any]] = {}
        for region in REGIONS:
            client = self.aws("secretsmanager", region)
            names = [secret["Name"] for secret in client.list_secrets(MaxResults=100)["SecretList"]]
            current = _current(client, names)
            for name in names:
                versions = client.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]
                found[name] = {
                    v["VersionId"]: [
                        sorted(v.get("VersionStages", [])),
                        current.get((name, v["VersionId"])) or _digest(client.get_secret_value(SecretId=name, VersionId=v["VersionId"])),
                    ]
                    for v in versions
                }
        return found

    def snapshot(self, *, sessions: bool = True) -> Snapshot:
        """All of it, so that two snapshots are equal only if nothing was changed between; times to live aside.

        Counting users, sessions and keys takes as long as all the rest: without `sessions` they are left out.
        """
        services = {name: _plain(self.service(name)) for name in SERVICES}
        tasks = {n: sorted(self.aws("ecs").list_tasks(cluster=CLUSTER, serviceName=s)["taskArns"]) for n, s in SERVICES.items()}
        looks = {f"{s} {operation}": _plain(getattr(self.aws(s, region), operation)().get(key)) for s, operation, key, region in LOOKS}
        groups, marks = self._keys() if sessions else ({}, {})
        return {
            "secrets": self.secrets(),
            "services": services,
            "tasks": tasks,
            "bounds": self.bounds(),
            "tables": self._tables() if sessions else {},
            "keys": groups,
            "marks": marks or {},
            "notices": self.sent(),
            "client": self._client(),
            "contacts": self.contacts(),
            "leases": self.leases(),
            "firewall": self.firewall(),
            "protected": self.protected(),
            "access": self.access(),
            "queries": self.queries(),
            "sqs messages": self._messages(),
            "announcements": self.announcements(),
            "acknowledged": self.acknowledged(),
            **looks,
        }

    def access(self) -> dict[str, Any]:
        """IAM's users: their own policies, and what their keys and passwords are good for."""
        iam = self.aws("iam")
        users = iam.get_account_authorization_details(Filter=["User"])["UserDetailList"]
        iam.generate_credential_report()
        report = csv.DictReader(iam.get_credential_report()["Content"].decode().splitlines())
        able = {row["user"]: [row[column] for column in ABLE] for row in report}
        return {user["UserName"]: [_plain(user.get("UserPolicyList", [])), able[user["UserName"]]] for user in users}

    def queries(self) -> list[str]:
        """The long queries that the application runs, each by its backend and its start."""
        query = (
            "SELECT concat_ws(' ', pid, backend_start, query_start) FROM pg_stat_activity WHERE application_name = 'safawinet-api'"
            " AND state = 'active' AND clock_timestamp() - query_start > interval '0.5s' ORDER BY 1"
        )
        with self.database() as connection:
            return [row[0] for row in connection.execute(query)]

    def _messages(self) -> dict[str, str]:
        """How many messages are in each queue."""
        queues, names = self.aws("sqs"), ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        urls = queues.list_queues().get("QueueUrls", [])
        return {url: queues.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] for url in urls}

    def _client(self) -> dict[str, Any]:
        """The customer's configuration: each file's mode and digest."""
        files = sorted((self.home / ".hh").glob("*"))
        return {path.name: [path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files}

    def _tables(self) -> dict[str, Any]:
        query = "SELECT count(*), bit_xor(hashtextextended(t::text, 0)) FROM {} AS t"
        with self.database() as connection:
            # What changes a row is in the write-ahead log first.
            end = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            return self._since("tables", end, lambda: {name: connection.execute(query.format(name)).fetchone() for name in TABLES})  # type: ignore[arg-type]

    def _keys(self) -> Any:
        cache = self.cache()
        told: Any = cache.info()
        state = (told["run_id"], told["rdb_changes_since_last_save"], told["rdb_last_save_time"])
        return self._since("keys", state, lambda: json.loads(cache.eval(KEYS, 0)))  # type: ignore[arg-type]

    def _since(self, what: str, state: Any, count: Callable[[], Any]) -> Any:
        """What was counted when a store was in this state; counted anew when something was written there since."""
        if self.rehearsal.counted.get(what, (None,))[0] != state:
            self.rehearsal.counted[what] = (state, count())
        return self.rehearsal.counted[what][1]


def _ask(method: str, url: str, token: str, body: Any) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
        return json.load(answer)


def _current(client: Any, names: list[str], most: int = 20) -> dict[tuple[str, str], str]:
    """The digest of each secret's current value, many asked for in one call."""
    found = {}
    for first in range(0, len(names), most):
        for each in client.batch_get_secret_value(SecretIdList=names[first : first + most])["SecretValues"]:
            found[each["Name"], each["VersionId"]] = _digest(each)
    return found


def _digest(found: dict[str, Any]) -> str:
    raw = found["SecretString"].encode() if "SecretString" in found else found["SecretBinary"]
    return hashlib.sha256(raw).hexdigest()


def _plain(found: Any) -> Any:
    """What AWS says, as JSON, without what says only how late it is."""
    if isinstance(found, list):
        return [_plain(each) for each in found]
    if isinstance(found, dict):
        return {name: _plain(each) for name, each in found.items() if name != "LatestRestorableTime"}
    return found if isinstance(found, bool | int | float | None) else str(found)
