from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from moto import mock_aws

from opsctl.adapters.aws import session as module
from opsctl.adapters.aws.session import AwsSession
from opsctl.settings import AwsSettings

ACCOUNT = "123456789012"
CONFIG = AwsSettings(account=ACCOUNT, region="us-east-1", login="aws sso login --profile oncall")

IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{ACCOUNT}:user/ops/jo</Arn><UserId>AIDA</UserId><Account>{ACCOUNT}</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""


class FakeAws(ThreadingHTTPServer):
    """A loopback AWS: who we are is always answered, every other call by `answer` (status and body; None hangs up)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[str] = Counter()
        self.bodies: dict[str, bytes] = {}
        self.answer: Callable[[], tuple[int, str] | None] = lambda: (200, "{}")
        self.released = threading.Event()

    @property
    def config(self) -> AwsSettings:
        return AwsSettings(
            account=ACCOUNT,
            region="us-east-1",
            login="opsctl sandbox up",
            endpoint=f"http://127.0.0.1:{self.server_port}",
            access_key_id="AKIATEST",
            secret_access_key="not-a-key",
        )

    def silence(self) -> None:
        """Answer only when the test is over."""
        self.released.wait(30)

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: FakeAws

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service = re.search(r"/(\w[\w-]*)/aws4_request", self.headers.get("Authorization", ""))[1]
        self.server.seen[service] += 1
        self.server.bodies[service] = body
        answer = (200, IDENTITY) if service == "sts" else self.server.answer()
        if answer is None:
            self.close_connection = True
            return
        sent = answer[1].encode()
        self.send_response(answer[0])
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No AWS set-up of whoever runs the tests, and no memory of who an access key belongs to."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    module._callers.clear()


@pytest.fixture
def config() -> AwsSettings:
    return CONFIG


@pytest.fixture
def _mocked() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture
def reading(_mocked: None) -> AwsSession:
    return AwsSession(CONFIG, sandbox=False, writing=False)


@pytest.fixture
def writing(_mocked: None) -> AwsSession:
    return AwsSession(CONFIG, sandbox=False, writing=True)


@pytest.fixture
def fake() -> Iterator[FakeAws]:
    server = FakeAws()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.stop()
