from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stand_in import Aws, Clock, Quiet
from werkzeug.serving import make_server

from opsctl.sandbox.aws import front
from opsctl.sandbox.services import SandboxContext


@pytest.fixture(scope="session")
def served_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    clock = Clock()
    world = SandboxContext(tmp_path_factory.mktemp("aws"), clock=clock)
    world.facts.update(pg_host="127.0.0.1", pg_port="5999", redis_host="127.0.0.1", redis_port="6999")
    part = front.AwsEndpoint(world)
    server = make_server("127.0.0.1", 0, part.app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Aws(world, part, clock, server.server_port)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def aws(served_aws: Aws) -> Aws:
    served_aws.world.tempo = 1.0
    served_aws.part.reset()
    return served_aws


@pytest.fixture
def refused() -> Callable[..., str]:
    def call(method: Callable[..., Any], **arguments: Any) -> str:
        """The error code with which AWS refuses a call."""
        with pytest.raises(ClientError) as caught:
            method(**arguments)
        return str(caught.value.response["Error"]["Code"])

    return call
