"""moto's own server, asked only for what the sandbox doesn't serve itself; a service is loaded at its first call."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from opsctl.sandbox.aws.moto_internals import part
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

Wsgi = Callable[..., Any]
_ACCESS_KEY = "AKIASEEDSEEDSEEDSEED"
_HOST = "127.0.0.1"


class MotoApp:
    """Answers requests with moto. Its state is the process's: one world at a time."""

    def __init__(self) -> None:
        self._app: Wsgi | None = None
        # A database that stands alone brings EC2's network along, and that 1,300 machine images which nobody asks for.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

    def __call__(self, request: Request) -> Answer:
        """Have moto answer. Raises AwsError for a call that moto doesn't implement, or fails at."""
        kept: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            kept[:] = [int(status.split()[0]), headers]

        body = b"".join(self._loaded()(request.rewound(), start_response))
        answer = Answer(kept[0], list(kept[1]), body)
        if body[:15].lower().startswith(b"<!doctype html>"):
            raise _not_served(request, answer.status)
        return answer

    def reset(self) -> None:
        """Empty every service that is loaded."""
        if "moto.core.model_instances" not in sys.modules:
            return
        part("moto_api._internal.models.moto_api_backend").reset()
        part("core.model_instances.reset_model_data")()

    def query(self, service: str, region: str, action: str, **fields: object) -> Answer:
        """Make a query call from inside the process, as seeding does."""
        body = urlencode({"Action": action, **fields}).encode()
        return self._seed(_request(service, region, "query", action, body, "application/x-www-form-urlencoded"))

    def rest(self, service: str, region: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Make a REST POST from inside the process."""
        request = _request(service, region, "rest", path, json.dumps(body).encode(), "application/json")
        request.environ["PATH_INFO"] = request.environ["RAW_URI"] = request.environ["REQUEST_URI"] = path
        return self._seed(request)

    def json(self, service: str, region: str, target: str, body: Mapping[str, Any]) -> Answer:
        """Make a JSON call from inside the process; `target` is what X-Amz-Target holds."""
        content = json.dumps(body).encode()
        request = _request(service, region, "json", target, content, "application/x-amz-json-1.1")
        request.environ["HTTP_X_AMZ_TARGET"] = target
        return self._seed(request)

    def _seed(self, request: Request) -> Answer:
        answer = self(request)
        if answer.status >= 300:
            raise RuntimeError(f"seeding {request.service}.{request.operation} failed: {answer.body[:300]!r}")
        return answer

    def _loaded(self) -> Wsgi:
        if self._app is None:
            self._app = part("moto_server.werkzeug_app.DomainDispatcherApplication")(_create)
        return self._app


def _create(service: Any) -> Any:
    from flask import Flask

    if service is None:
        return Flask("unknown")
    app = part("moto_server.werkzeug_app.create_backend_app")(service)
    app.debug = False
    app.register_error_handler(NotImplementedError, lambda error: ("<!doctype html>", 501))
    return app


def _not_served(request: Request, status: int) -> AwsError:
    name = f"{request.service}.{request.operation}"
    if status in (404, 405, 501):
        return AwsError("NotImplemented", f"The sandbox doesn't serve {name}.", 501)
    return AwsError("InternalFailure", f"The sandbox failed at {name}; its server's messages say why.", 500)


def _request(service: str, region: str, protocol: str, operation: str, body: bytes, content_type: str) -> Request:
    scope = f"{_ACCESS_KEY}/20260101/{region}/{service}/aws4_request"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": _HOST,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": _HOST,
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
        "CONTENT_TYPE": content_type,
        "wsgi.url_scheme": "http",
    }
    return Request(environ, service, region, _ACCESS_KEY, protocol, operation, body)
