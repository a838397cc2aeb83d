"""Starts, repairs, resets, disturbs and stops a sandbox.

A sandbox is in one folder. `up` starts only processes that don't run or don't answer; the data of running ones is kept. When nothing
runs, `up` starts with the seeded data, on the ports and with the passwords stored in the folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psycopg
import redis

from opsctl import files
from opsctl.errors import ConfigurationError, ExternalError
from opsctl.sandbox import binaries, databases, facts, ownership, postgres, processes, seed, valkey, world_file
from opsctl.sandbox import gateway as front_door
from opsctl.sandbox import state_dirs as homes
from opsctl.sandbox.faults import Rule
from opsctl.sandbox.processes import Process
from opsctl.sandbox.seed import SeedSizes
from opsctl.sandbox.world_file import WorldFile

PROCESSES: dict[str, ModuleType] = {
    front_door.PART: front_door,
    valkey.PART: valkey,
    postgres.PART: postgres,
}
PATIENCE = 5.0
"""Seconds without an answer after which `up` replaces a running process."""
SHORT_PATIENCE = 2.0
"""Seconds that such a process has to end by itself."""


class ServiceStatus(NamedTuple):
    """A line of `sandbox status`. `state` is running, silent (it doesn't answer) or stopped."""

    part: str
    state: str
    pid: int | None
    address: str


def quiet(_: str) -> None:
    """Ignore a message."""


def up(
    folder: Path,
    tempo: float | None = None,
    users: int | None = None,
    sessions: int | None = None,
    tell: Callable[[str], None] = quiet,
) -> dict[str, str]:
    """Start or repair the sandbox in `folder`, and return its facts. `tell` is called with a message for each step.

    By default `tempo` (1.0), `users` (10,000) and `sessions` (50,000) stay as in the running sandbox; other sizes
    restart it. Raises ExternalError when a process doesn't start, LockHeld when another `up` takes too long, Refused for
    a folder with other files.
    """
    folder = folder.resolve()
    ownership.claimable(folder)
    with world_file.locked(folder):
        ownership.claim(folder)
        world = _known_world(folder, tell)
        _adopt(folder, world, tempo, users, sessions)
        world_file.save(folder, world)
        endpoints = _start_stores(folder, world, tell)
        _fill(folder, world, tell)
        _start_server(folder, world, endpoints, tell)
        _link_clients(folder)
        world.ready = True
        world_file.save(folder, world)
        return dict(world.facts)


def down(folder: Path, tell: Callable[[str], None] = quiet) -> None:
    """Stop every process of the sandbox in `folder`, also if its file is broken or missing.

    Raises Refused for a folder with other files.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        _stop_everything(folder, None)
        tell("The sandbox is down.")
        return
    ownership.proven(folder)
    with world_file.locked(folder):
        if not ownership.is_marked(folder):
            tell("The sandbox is down.")
            return
        world = world_file.load(folder)
        _stop_everything(folder, world)
        _remove_homes(folder)
        if world is not None:
            world.ready, world.processes = False, {}
            world_file.save(folder, world)
        tell("The sandbox is down.")


def status(folder: Path) -> list[ServiceStatus]:
    """The status of each service; empty when no sandbox was ever started in `folder`."""
    folder = folder.resolve()
    world = world_file.load(folder)
    if world is None:
        return []
    states = []
    for part, answers in (
        (postgres.PART, _postgres_answers),
        (valkey.PART, _valkey_answers),
        (front_door.PART, front_door.answers),
    ):
        found = PROCESSES[part].find(folder)
        state = "stopped" if not found else "running" if answers(world) else "silent"
        pid = found[0].pid if found else None
        names = (part,) if part != front_door.PART else front_door.HTTP_PARTS
        states += [ServiceStatus(name, state, pid, f"127.0.0.1:{world.ports.get(name, 0)}") for name in names]
    return states


def reset(folder: Path) -> None:
    """Restore the seeded data of every service and clear all faults.

    Raises ExternalError when the sandbox isn't up.
    """
    front_door.call(world_file.facts(folder.resolve()), "POST", "/reset", {})


def set_fault(folder: Path, rule: Rule) -> None:
    """Set a fault on calls to a service. Raises ExternalError when the sandbox isn't up."""
    if rule.part not in front_door.HTTP_PARTS:
        known = ", ".join(front_door.HTTP_PARTS)
        raise ConfigurationError(f"The sandbox has no service {rule.part!r}.", next=f"Choose one of: {known}")
    front_door.call(world_file.facts(folder.resolve()), "POST", "/faults", asdict(rule))


def faults(folder: Path) -> list[Rule]:
    """The faults that are set. Raises ExternalError when the sandbox isn't up."""
    return [Rule(**rule) for rule in front_door.call(world_file.facts(folder.resolve()), "GET", "/faults")]


def clear_faults(folder: Path) -> None:
    """Clear all faults. Raises ExternalError when the sandbox isn't up."""
    front_door.call(world_file.facts(folder.resolve()), "DELETE", "/faults")


def fail_next_rollout(folder: Path, service: str) -> None:
    """Make the next rollout of an ECS service fail and roll back.

    Raises ConfigurationError for an unknown service, ExternalError when the sandbox isn't up.
    """
    front_door.call(world_file.facts(folder.resolve()), "POST", "/rollout-failure", {"service": service})


def run_queries(folder: Path, count: int, kind: str) -> int:
    """Have the sandbox's application run long queries of a kind of `holder.KINDS`; returns how many run.

    Raises ConfigurationError for an unknown kind or where no connection is left, ExternalError when the sandbox isn't up.
    """
    return len(front_door.call(world_file.facts(folder.resolve()), "POST", "/queries", {"count": count, "kind": kind})["pids"])


def take_connections(folder: Path, count: int) -> int:
    """Have the sandbox's application take connections, all it can get for a `count` of 0; returns how many it got.

    Raises ExternalError when the sandbox isn't up.
    """
    return int(front_door.call(world_file.facts(folder.resolve()), "POST", "/connections", {"count": count})["taken"])


def fail_next_snapshot(folder: Path) -> None:
    """Make the next snapshot of the database fail before it is complete.

    Raises ExternalError when the sandbox isn't up.
    """
    front_door.call(world_file.facts(folder.resolve()), "POST", "/aws/snapshot-failure", {})


def force_figure(folder: Path, metric: str, value: float, minutes: int) -> None:
    """Make CloudWatch return `value` for a metric in all dimensions, from so many minutes ago, until faults are cleared.

    Raises ConfigurationError for a metric that the sandbox doesn't measure, ExternalError when it isn't up.
    """
    front_door.call(world_file.facts(folder.resolve()), "POST", "/aws/figure", {"metric": metric, "value": value, "minutes": minutes})


def crash(folder: Path, part: str) -> int:
    """Kill a process: `postgres`, `valkey`, or `server` with all HTTP services. Returns how many were killed."""
    name = front_door.PART if part in front_door.HTTP_PARTS else part
    if name not in PROCESSES:
        raise ConfigurationError(f"The sandbox has no process {part!r}.", next=f"Choose one of: {', '.join(PROCESSES)}")
    killed: list[Process] = PROCESSES[name].find(folder.resolve())
    processes.send(killed, signal.SIGKILL)
    processes.wait_until(lambda: not any(map(processes.is_alive, killed)), PATIENCE)
    return len(killed)


def exports(folder: Path) -> dict[str, str]:
    """The environment variables with which opsctl and the runbooks' own commands use this sandbox.

    Raises ExternalError when the sandbox isn't up.
    """
    folder = folder.resolve()
    known = world_file.facts(folder)
    named = {name: known[fact] for name, fact in EXPORTED.items()}
    clients = str(folder / "bin")
    path = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if place != clients]
    return named | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "OPSCTL_ENV": "sandbox",
        "OPSCTL_SANDBOX": str(folder),
        "PATH": os.pathsep.join([clients, *path]),
    }


EXPORTED = {
    "AWS_ENDPOINT_URL": "aws",
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "PGHOST": "pg_host",
    "PGPORT": "pg_port",
    "PGUSER": "pg_user",
    "PGPASSWORD": "pg_password",
    "PGDATABASE": "database",
    "REDIS_URL": "redis_url",
    "REDIS_HOST": "redis_host",
    "REDIS_PORT": "redis_port",
    "REDIS_PASSWORD": "redis_password",
    "REDISCLI_AUTH": "redis_password",
    "DB_CLUSTER_ARN": "db_cluster_arn",
    "DB_SECRET_ARN": "db_secret_arn",
    "API_URL": "api",
    "ADMIN_TOKEN": "admin_token",
    "HUBSPOT_URL": "hubspot",
    "HS_TOKEN": "hs_token",
    "HH_WEBHOOK_URL": "hh_webhook",
    "HH_LEASE_URL": "hh_lease",
    "GHCR_URL": "ghcr",
    "SLACK_URL": "slack",
    "PAGERDUTY_URL": "pagerduty",
    "STATUSPAGE_URL": "statuspage",
    "SENTRY_URL": "sentry",
}
"""Environment variable -> fact."""
UNSET = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "PGSERVICE", "PGSSLMODE", "PGOPTIONS")
"""Variables that would point those commands to other systems."""


def _known_world(folder: Path, tell: Callable[[str], None]) -> WorldFile:
    folder.chmod(0o700)
    for unfinished in folder.glob(".world-*"):
        unfinished.unlink()
    world = world_file.load(folder)
    if world is not None:
        # A sandbox of an older opsctl lacks newer facts.
        world.facts = facts.new() | world.facts
        return world
    # Without the file the passwords of existing processes and data are unknown.
    if world_file.path(folder).exists():
        tell("world.json is unreadable; starting a new sandbox.")
    _stop_everything(folder, None)
    _remove_homes(folder)
    return WorldFile(facts=facts.new())


def _adopt(folder: Path, world: WorldFile, tempo: float | None, users: int | None, sessions: int | None) -> None:
    wanted = (
        world.tempo if tempo is None else tempo,
        world.users if users is None else users,
        world.sessions if sessions is None else sessions,
    )
    if wanted[0] != world.tempo or wanted[1:] != (world.users, world.sessions) or not world.ready:
        front_door.stop(folder)
    if not any(part.find(folder) for part in PROCESSES.values()):
        world.ready = False
        _remove_homes(folder)
    if wanted[1:] != (world.users, world.sessions):
        world.ready = False
    world.tempo, world.users, world.sessions = wanted


def _start_stores(folder: Path, world: WorldFile, tell: Callable[[str], None]) -> bool:
    """Start PostgreSQL and Valkey; returns whether a port has changed."""
    before = (world.ports.get(postgres.PART), world.ports.get(valkey.PART))
    for part, answers, password in (
        (postgres, _postgres_answers, "pg_superuser_password"),
        (valkey, _valkey_answers, "redis_password"),
    ):
        found: list[Process] = part.find(folder)
        # A process without a recorded port was left by a killed `up`.
        if found and part.PART in world.ports and _answers_in_time(answers, world):
            world.processes[part.PART] = found[0]
            continue
        part.stop(folder, SHORT_PATIENCE)
        process, port = part.start(folder, world.ports.get(part.PART, 0), world.facts[password])
        world.processes[part.PART], world.ports[part.PART] = process, port
        tell(f"Started {part.PART} on port {port}.")
    world.facts |= _store_facts(folder, world)
    world_file.save(folder, world)
    return before != (world.ports[postgres.PART], world.ports[valkey.PART])


def _store_facts(folder: Path, world: WorldFile) -> dict[str, str]:
    redis_port = str(world.ports[valkey.PART])
    return {
        "pg_port": str(world.ports[postgres.PART]),
        "pg_socket": str(homes.home(folder, postgres.PART)),
        "redis_port": redis_port,
        "redis_socket": str(homes.home(folder, valkey.PART) / valkey.SOCKET),
        "redis_url": f"redis://default:{world.facts['redis_password']}@127.0.0.1:{redis_port}/0",
    }


def _fill(folder: Path, world: WorldFile, tell: Callable[[str], None]) -> None:
    sizes = SeedSizes(world.users, world.sessions)
    try:
        if not world.ready or not databases.is_whole(world.facts):
            databases.reset(world.facts, sizes)
            tell(f"Loaded {sizes.users:,} users and {sizes.sessions:,} sessions into the database.")
        if not world.ready:
            with valkey.connect(world.ports[valkey.PART], world.facts["redis_password"]) as client:
                seed.fill_keys(client, sizes)
    except (psycopg.Error, redis.RedisError) as cause:
        what = f"The sandbox's data could not be loaded: {cause}"
        raise ExternalError(what, next="opsctl sandbox down; opsctl sandbox up") from cause


def _start_server(folder: Path, world: WorldFile, endpoints_moved: bool, tell: Callable[[str], None]) -> None:
    found = front_door.find(folder)
    if found and not endpoints_moved and _answers_in_time(front_door.answers, world):
        world.processes[front_door.PART] = found[0]
        return
    front_door.stop(folder)
    world.processes[front_door.PART] = front_door.start(folder, world)
    tell(f"Started {', '.join(front_door.HTTP_PARTS)}, as seeded; AWS on {world.facts['aws']}.")


def _answers_in_time(answers: Callable[[WorldFile], bool], world: WorldFile) -> bool:
    return processes.wait_until(lambda: answers(world), PATIENCE)


def _postgres_answers(world: WorldFile) -> bool:
    return postgres.answers(world.ports.get(postgres.PART, 0), world.facts["pg_superuser_password"])


def _valkey_answers(world: WorldFile) -> bool:
    return valkey.answers(world.ports.get(valkey.PART, 0), world.facts["redis_password"])


def _stop_everything(folder: Path, world: WorldFile | None) -> None:
    for part in PROCESSES.values():
        part.stop(folder)
    if world is not None:
        processes.stop([process for process in world.processes.values() if processes.belongs(process.pid, folder)])


def _remove_homes(folder: Path) -> None:
    for part in (valkey.PART, postgres.PART):
        homes.remove(folder, part)


AWS = """#!/bin/sh
# aws-cli 1 asks the real AWS for RDS in us-east-1, whatever AWS_ENDPOINT_URL says; --endpoint-url it heeds.
here=$(cd "$(dirname "$0")" && pwd)
PATH=$(printf %s "$PATH" | tr : '\\n' | grep -vxF "$here" | paste -s -d : -)
exec aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""


def _link_clients(folder: Path) -> None:
    links = folder / "bin"
    if links.is_symlink():
        links.unlink()
    links.mkdir(exist_ok=True)
    for name, program in binaries.client_programs().items():
        with contextlib.suppress(FileNotFoundError):
            (links / name).unlink()
        (links / name).symlink_to(program)
    (links / "aws").unlink(missing_ok=True)
    files.write(links / "aws", AWS.encode())
    (links / "aws").chmod(0o755)
