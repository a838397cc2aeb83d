"""Starts, finds and calls the sandbox's server process through its control port."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from opsctl.errors import ConfigurationError, ExternalError, Unreachable
from opsctl.sandbox import facts, processes, world_file
from opsctl.sandbox.postgres import last_line
from opsctl.sandbox.processes import Process
from opsctl.sandbox.world_file import WorldFile

PART = "server"
MODULE = "opsctl.sandbox.server"
HTTP_PARTS = ("aws", "api", "hubspot", "hh", "ghcr", "notices")
CONTROL = "control"

# Proxies are ignored: everything is on this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def find(folder: Path) -> list[Process]:
    """The server of this folder, whoever started it."""
    return processes.find(("python", "pypy"), f"{MODULE} {folder}", folder)


def stop(folder: Path, patience: float = 3.0) -> None:
    """End the server; kill it after `patience` seconds."""
    processes.stop(find(folder), patience=patience)


def start(folder: Path, world: WorldFile) -> Process:
    """Start a server that isn't running, on the ports it had where they are free.

    Ports and facts are updated and saved before, the facts that the services set after.
    Raises ExternalError when it doesn't answer.
    """
    log = folder / "server.log"
    for _ in range(3):
        for part in (*HTTP_PARTS, CONTROL):
            world.ports[part] = world_file.free_port(world.ports.get(part, 0))
        world.facts |= facts.of_ports(world.ports)
        world_file.save(folder, world)
        process = processes.spawn([sys.executable, "-m", MODULE, folder], folder, log, _environment(world))
        if processes.comes_up(process, lambda: answers(world), 60.0):
            world.facts |= call(world.facts, "GET", "/facts")
            return process
        stop(folder)
        if "in use" not in last_line(log):
            break
        for part in (*HTTP_PARTS, CONTROL):
            world.ports[part] = 0
    raise ExternalError(f"The sandbox's server did not start: {last_line(log)}", next=f"Read {log}, then: opsctl sandbox up")


def answers(world: WorldFile) -> bool:
    """Whether the server of this world answers on its control port."""
    try:
        call(world.facts, "GET", "/health", seconds=2.0)
        return True
    except ExternalError:
        return False


def call(known: dict[str, str], method: str, path: str, body: Any = None, seconds: float = 30.0) -> Any:
    """The JSON answer of the control port.

    Raises Unreachable without an answer, ConfigurationError for a rejected request.
    """
    request = urllib.request.Request(
        known.get("control", "http://127.0.0.1:1") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {known['control_token']}", "Content-Type": "application/json"},
    )
    try:
        with _opener.open(request, timeout=seconds) as response:
            return json.load(response)
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode(errors="replace")
        if refusal.code == 400:
            raise ConfigurationError(_reason(text), next="opsctl sandbox fault --help") from refusal
        raise ExternalError(
            f"The sandbox's server refused the call ({refusal.code}).",
            next="Read server.log in the sandbox's folder, then: opsctl sandbox up",
        ) from refusal
    except OSError as cause:
        raise Unreachable("The sandbox's server does not answer.", next="opsctl sandbox up") from cause


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _given_python_path() -> list[str]:
    return [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]


def _environment(world: WorldFile) -> dict[str, str]:
    # With these, a call that escapes the sandbox can do nothing.
    return processes.clean_environment(
        AWS_ACCESS_KEY_ID=world.facts["access_key_id"],
        AWS_SECRET_ACCESS_KEY="sandbox",
        AWS_DEFAULT_REGION=world.facts["region"],
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        NO_PROXY="*",
        PYTHONPATH=os.pathsep.join([str(Path(__file__).resolve().parents[2]), *_given_python_path()]),
        PYTHONSAFEPATH="1",
        PYTHONUNBUFFERED="1",
        TZ="UTC",
    )
