"""HubSpot's stand-in on a port of this process, with its faults, and systems that meet it: for tests that look behind the interface."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request

from opsctl.adapters.host.prompt import Prompt
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.config import Environment
from opsctl.sandbox import hubspot
from opsctl.sandbox.faults import Faults, FaultyApp, Rule
from opsctl.sandbox.hubspot_contacts import FIRST
from opsctl.sandbox.services import SandboxContext
from opsctl.settings import AwsSettings, HubSpotSettings, Reference, Settings
from opsctl.systems import Systems


def contact_id(number: int) -> str:
    """The record id of the contact with e-mail `contactNUMBER@example.com`."""
    return str(FIRST + number)


@dataclass(frozen=True)
class Call:
    """One request, and what was answered."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    status: int
    answer: Any
    answer_headers: dict[str, str]


class Quiet(WSGIRequestHandler):
    """Speaks HTTP/1.1 and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


class Portal:
    """One portal. `calls` is all that was asked; `tempo` scales its limits' windows, at 0 there are none."""

    def __init__(self, folder: Path, tempo: float = 0.0, **facts: str) -> None:
        self.world = SandboxContext(folder, tempo, facts=facts)
        self.part = hubspot.build(self.world)
        assert isinstance(self.part, hubspot.FakeHubSpot)
        self.contacts = self.part.contacts
        self.calls: list[Call] = []
        self._faults = Faults()
        self._app = FaultyApp(self.part, self._faults)
        self._server = make_server("127.0.0.1", 0, self._recording, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self._made: list[Systems] = []

    def systems(self, *, writing: bool, token: str = "hs_token", **settings: Any) -> Systems:
        """Systems whose HubSpot is this one; `token` is one of the stand-in's."""
        file = self.world.folder / token
        file.write_text(self.world.facts.get(token, hubspot.TOKENS.get(token, token)))
        given: dict[str, Any] = {"base": self.base, "portal": int(hubspot.PORTAL), "token": Reference(file=str(file)), **settings}
        whole = Settings(
            title="portal", sandbox=True, aws=AwsSettings(account="123456789012", region="us-west-2"), hubspot=HubSpotSettings(**given)
        )
        environment = Environment("portal", file, "", whole)
        self._made.append(Systems(environment, writing=writing, person=Prompt(), values=SecretSources(), history=None, fingerprint=None))  # type: ignore[arg-type]
        return self._made[-1]

    def fault(self, operation: str, action: str, **more: Any) -> None:
        """Hurt the calls of an operation, once unless `times` says otherwise."""
        self._faults.add(Rule("hubspot", operation, action, **more))

    def close(self) -> None:
        for systems in self._made:
            systems.shut()
        self._faults.clear()
        self._server.shutdown()
        self._server.server_close()

    def sent(self, operation: str) -> list[Call]:
        """What was asked by a method and the end of a path: `POST /batch/update`."""
        method, end = operation.split()
        return [call for call in self.calls if call.method == method and call.path.endswith(end)]

    def _recording(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        raw = request.get_data()
        environ["wsgi.input"] = io.BytesIO(raw)
        told: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            told.extend((int(status.split()[0]), dict(headers)))
            return start_response(status, headers, *more)

        parts = list(self._app(environ, start))
        answered = b"".join(parts)
        query = request.args.to_dict()
        asked = (request.method, request.path, query, dict(request.headers), json.loads(raw) if raw else None)
        self.calls.append(Call(*asked, told[0], json.loads(answered) if answered else None, told[1]))
        return parts
