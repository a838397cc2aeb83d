"""The sandbox's server process, `python -m opsctl.sandbox.server FOLDER`: every HTTP part on its own loopback port.

Ports, facts and the control port's token come from the folder's `world.json`; nothing secret is in its arguments.
The control port answers, to the bearer of that token: `GET /health`, `GET /facts`, `POST /reset`, `GET|POST|DELETE
/faults`, `POST /rollout-failure`, `POST /queries`, `POST /connections`, and under `/PART/` what a part offers in `controls`.
"""

from __future__ import annotations

import hmac
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import psycopg
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from opsctl.sandbox import databases, seed, valkey, world_file
from opsctl.sandbox.faults import Faults, FaultyApp, Rule
from opsctl.sandbox.seed import SeedSizes
from opsctl.sandbox.services import SandboxContext, SandboxService, WSGIApp
from opsctl.sandbox.supervisor import KINDS, ConnectionHolder
from opsctl.sandbox.web import Handler, Routes, answer, bearer, json_object, refuse

PARTS = {
    "aws": "opsctl.sandbox.aws.front",
    "api": "opsctl.sandbox.safawinet",
    "hubspot": "opsctl.sandbox.hubspot",
    "hh": "opsctl.sandbox.hh",
    "ghcr": "opsctl.sandbox.ghcr",
    "notices": "opsctl.sandbox.notices",
}
CONTROL = "control"
_SLACK_KEY = re.compile(r"(/slack/services/)\S+")


class AwsControls(Protocol):
    """Controls of the AWS service besides its application."""

    def guarded(self, app: WSGIApp) -> WSGIApp:
        """The application behind the check of signatures."""
        ...

    def measure_connections(self, count: int) -> None:
        """Set the number of connections to the writer in this minute's metric."""
        ...

    def fail_next_rollout(self, service: str) -> None:
        """Make the next rollout of a service fail and roll back; raises KeyError for an unknown service."""
        ...

    def clear(self) -> None:
        """Clear what was set through the controls."""
        ...


class RequestHandler(WSGIRequestHandler):
    """Speaks HTTP/1.1 and logs a line a request: the port, the method, the path without its query and secrets, the status."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write the line to standard error, which is the server's log."""
        path = _SLACK_KEY.sub(r"\1***", self.path.partition("?")[0]) if hasattr(self, "path") else "-"
        sys.stderr.write(f"{self.server.server_port} {self.command} {path} {code}\n")


class Control:
    """Answers the commands of `opsctl sandbox`."""

    def __init__(self, world: SandboxContext, sizes: SeedSizes, faults: Faults) -> None:
        self._world = world
        self._sizes = sizes
        self._faults = faults
        self._holder = ConnectionHolder(world.facts)
        self._resetting = threading.Lock()
        self._routes = Routes(
            {
                "GET /health": lambda request: answer({"pid": os.getpid(), "parts": sorted(world.parts)}),
                "GET /facts": lambda request: answer(world.facts),
                "POST /reset": self._reset,
                "GET /faults": lambda request: answer([asdict(rule) for rule in faults.rules()]),
                "POST /faults": self._add_fault,
                "DELETE /faults": self._clear_faults,
                "POST /rollout-failure": self._fail_rollout,
                "POST /queries": self._run_queries,
                "POST /connections": self._take_connections,
                **_controls(world.parts.values()),
            }
        )

    def begin(self) -> None:
        """Let the application's pool connect."""
        self._holder.keep_open()

    def app(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer one request that carries the control token; 401 otherwise."""
        request = Request(environ)
        if not hmac.compare_digest(bearer(request).encode(), self._world.facts["control_token"].encode()):
            return answer({"error": "not the control token of this sandbox"}, 401)(environ, start_response)
        return self._routes.answer(request)(environ, start_response)

    def _reset(self, request: Request) -> Response:
        with self._resetting:
            self._faults.clear()
            self._holder.reset()
            facts = self._world.facts
            databases.reset(facts, self._sizes)
            with valkey.connect(int(facts["redis_port"]), facts["redis_password"]) as client:
                seed.fill_keys(client, self._sizes)
            for part in self._world.parts.values():
                part.reset()
            self._holder.keep_open()
        return answer({})

    def _add_fault(self, request: Request) -> Response:
        try:
            self._faults.add(Rule(**json_object(request)))
        except (TypeError, ValueError) as error:
            raise refuse({"error": str(error)}, 400) from error
        return answer({})

    def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        self._holder.let_go()
        cast(AwsControls, self._world.parts["aws"]).clear()
        return answer({})

    def _run_queries(self, request: Request) -> Response:
        asked = json_object(request)
        try:
            return answer({"pids": self._holder.run_queries(int(asked.get("count", 1)), str(asked.get("kind", "sleeping")))})
        except (KeyError, ValueError, TypeError) as error:
            raise refuse({"error": f"There are no queries {error}. Known: {', '.join(KINDS)}"}, 400) from error
        except psycopg.Error as error:
            raise refuse({"error": f"The database has no free connection for them: {error}"}, 400) from error

    def _take_connections(self, request: Request) -> Response:
        try:
            taken = self._holder.take_connections(int(json_object(request).get("count", 0)))
            cast(AwsControls, self._world.parts["aws"]).measure_connections(self._holder.count())
            return answer({"taken": taken})
        except (ValueError, TypeError) as error:
            raise refuse({"error": str(error)}, 400) from error
        except psycopg.Error as error:
            raise refuse({"error": f"The database is unreachable: {error}"}, 400) from error

    def _fail_rollout(self, request: Request) -> Response:
        service = str(json_object(request).get("service", ""))
        try:
            cast(AwsControls, self._world.parts["aws"]).fail_next_rollout(service)
        except KeyError as error:
            raise refuse({"error": f"The sandbox has no service {service!r}"}, 400) from error
        return answer({})


def _controls(parts: Iterable[SandboxService]) -> dict[str, Handler]:
    offered: dict[str, Handler] = {}
    for part in parts:
        for name, handler in getattr(part, "controls", {}).items():
            method, _, path = name.partition(" ")
            offered[f"{method} /{part.name}{path}"] = handler
    return offered


def build_world(folder: Path, held: world_file.WorldFile) -> SandboxContext:
    """A world with all its parts, in the table's order: later ones may look at earlier ones."""
    world = SandboxContext(folder=folder, tempo=held.tempo, ports=dict(held.ports), facts=dict(held.facts))
    for name, module in PARTS.items():
        part: SandboxService = importlib.import_module(module).build(world)
        world.parts[name] = part
    return world


def serve(folder: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    held = world_file.load(folder)
    if held is None:
        raise SystemExit(f"There is no sandbox in {folder}")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    faults = Faults()
    world = build_world(folder, held)
    for name, part in world.parts.items():
        app = FaultyApp(part, faults)
        _listen(held.ports[name], cast(AwsControls, part).guarded(app) if name == "aws" else app)
    # The control port comes last: who gets an answer there finds all of them listening.
    control = Control(world, SeedSizes(held.users, held.sessions), faults)
    _listen(held.ports[CONTROL], control.app)
    control.begin()
    ended.wait()
    # Threads that still answer are daemons, and end with the process.
    os._exit(0)


def _listen(port: int, app: WSGIApp) -> BaseWSGIServer:
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=RequestHandler)
    threading.Thread(target=server.serve_forever, name=f"port {port}", daemon=True).start()
    return server


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
