"""The program that scripts bring along to read notifications: it says what opsctl itself says, of every message."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opsctl import config
from opsctl.adapters.json_stream import iter_objects
from opsctl.adapters.mail import ses_parser as ses_notifications
from opsctl.adapters.mail.ses_parser import MalformedNotification, ParsingRules
from opsctl.adapters.mail.sns_signatures import Envelope, Unsigned, canonical
from opsctl.changes.raw.notifications import reader, rules
from opsctl.formats.ses_bounces import BOUNCES
from opsctl.sandbox.aws import notifications
from opsctl.sandbox.aws.sns_signing import Signer, new_key

AT = 1_780_000_000.0
ACCOUNT = "123456789012"
HARD = notifications.bounce("Permanent", "General", ["User21@Example.com"], AT)
SPAM = notifications.complaint("abuse", ["Müller <müller@müller.example>"], AT)


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    """Signs as the sandbox's SNS does, and serves its certificate."""
    held: list[Signer] = []

    class Serving(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == held[0].path else 404)
            self.end_headers()
            self.wfile.write(held[0].certificate)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Serving)
    held.append(Signer(new_key(), f"http://127.0.0.1:{server.server_port}"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield held[0]
    server.shutdown()
    server.server_close()


def base(signer: Signer) -> str:
    """Where the certificate is served."""
    url = signer.sign({"Type": "Notification"})["SigningCertURL"]
    return url.removesuffix(signer.path)


def lines(signer: Signer) -> dict[str, str]:
    """Every layout and wrapping, and what only looks like a notification."""

    def inner(**more: Any) -> str:
        return json.dumps({**HARD, "bounce": {**HARD["bounce"], **more}})

    def sns(told: dict[str, Any] = HARD, version: str = "1", **more: Any) -> str:
        return json.dumps({**json.loads(notifications.sns(told, AT, signer, version)), **more})

    kinds = [notifications.bounce(*each.split("/"), ["a@b.example"], AT, report=report) for each in BOUNCES for report in (True, False)]
    complaints = [notifications.complaint(each, ["a@b.example"], AT) for each in ("abuse", "not-spam", "auth-failure", None)]
    return {
        "lines": f"{sns()}\n{json.dumps(SPAM)}\n\nno notification\n",
        "every kind": "\n".join(map(json.dumps, [*kinds, *complaints])),
        "both versions": f"{sns()}\n{sns(version='2')}",
        "raw": inner(),
        "several layouts": json.dumps(HARD, indent=2) + "\n" + json.dumps(SPAM, indent=2),
        "an array": f"[{json.dumps(HARD)},\n{json.dumps(SPAM)}]",
        "SQS's answer": json.dumps({"Messages": [{"Body": sns()}, {"Body": "nothing"}]}),
        "EventBridge's": json.dumps({"source": "aws.ses", "detail": HARD}),
        "another kind": json.dumps({"notificationType": "Delivery"}),
        "an unknown type": inner(bounceType="Never"),
        "an unknown subtype": inner(bounceSubType="Never"),
        "a complaint that nobody made": json.dumps(
            {**SPAM, "complaint": {**SPAM["complaint"], "complaintSubType": "OnAccountSuppressionList"}}
        ),
        "no recipients": inner(bouncedRecipients=[]),
        "neither an address": inner(bouncedRecipients=[{"emailAddress": "nobody"}]),
        "no feedback": inner(feedbackId="two words"),
        "the future": inner(timestamp="2999-01-01T00:00:00.000Z"),
        "long ago": inner(timestamp="1999-01-01T00:00:00.000Z"),
        "no time": inner(timestamp="soon"),
        "another account": json.dumps({**HARD, "mail": {"sendingAccountId": "1", "timestamp": "2026-01-01T00:00:00Z"}}),
        "another topic": sns(TopicArn="arn:aws:sns:us-east-1:999999999999:x"),
        "another certificate": sns(SigningCertURL="https://evil.example/x.pem"),
        "no such certificate": sns(SigningCertURL=f"{base(signer)}/none.pem"),
        "another message": sns(Message=json.dumps(SPAM)),
        "no SNS signature": sns(Signature="NOT A SIGNATURE"),
        "a subscription": sns(Type="SubscriptionConfirmation"),
        "nothing": "",
        "half": sns()[:100],
        "a number": "7",
    }


CASES = list(lines(Signer(new_key(), "http://127.0.0.1:1")))


def genuine(signer: Signer, found: Envelope) -> None:
    """What `Signatures.verify` finds out, by signing it anew."""
    names = {"Type": found.type, "MessageId": found.message_id, "TopicArn": found.topic_arn, "Message": found.message}
    again = signer.sign({**names, "Timestamp": found.timestamp}, found.signature_version)
    if canonical(found) and (again["Signature"], again["SigningCertURL"]) != (found.signature, found.certificate):
        raise Unsigned("its signature is not valid")


@pytest.mark.parametrize("case", CASES)
def test_it_reads_what_opsctl_reads(tmp_path: Path, signer: Signer, environment: config.Environment, case: str) -> None:
    text = lines(signer)[case]
    ours = ParsingRules(frozenset([ACCOUNT]), frozenset(), datetime.now(UTC) + timedelta(days=1), lambda found: genuine(signer, found))
    wanted, bad, read = [], 0, 0
    for piece in iter_objects(io.BytesIO(text.encode())):
        for each in ses_notifications.apart(piece):
            read += 1
            try:
                wanted += ses_notifications.read(each, ours)
            except MalformedNotification:
                bad += 1
    aside = tmp_path / "aside.jsonl"
    told = json.dumps({**json.loads(rules(environment)), "endpoint": base(signer)})
    words = [sys.executable, "-I", "-c", reader().code, told, str(aside), hashlib.sha256(text.encode()).hexdigest(), ""]
    for _ in range(2):
        done = subprocess.run(words, input=text.encode(), capture_output=True, check=False)
    assert len(aside.read_text().splitlines() if aside.exists() else []) == bad
    assert (done.returncode != 0) is (bad > 0 and bad == read), done.stderr
    if done.returncode:
        return
    rows = msgspec.json.decode(done.stdout, type=list[ses_notifications.CountedRecipient])
    assert [msgspec.structs.replace(row, others=row.others or None) for row in rows] == wanted


def test_it_refuses_another_content(tmp_path: Path, environment: config.Environment) -> None:
    words = [sys.executable, "-I", "-c", reader().code, rules(environment), "aside", "0" * 64, ""]
    done = subprocess.run(words, input=b"x", capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert b"The content isn't the one in the plan" in done.stderr
