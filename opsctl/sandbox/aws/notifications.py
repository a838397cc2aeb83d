"""What waits in the queue of a new world: SES's bounces and complaints about mail to the seeded users, as SNS hands them to SQS.

Shapes: "Amazon SES notification contents" and "Amazon SES event data" (SES Developer Guide). The same world gives the same ids.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.sns_signing import Signer

QUEUE = "ses-notifications"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:ses-feedback"
SENDER = "no-reply@example.com"
NAMES = uuid.UUID("6f1c1d1e-5a54-4d50-9f0a-9a5c6f7f6e11")

# Each kind once or more: (type, subtype, the user's number, minutes ago); several users share a notification.
BOUNCES: list[tuple[str, str, tuple[int, ...], int]] = [
    ("Permanent", "General", (21,), 300),
    ("Permanent", "NoEmail", (22,), 290),
    ("Permanent", "Suppressed", (23,), 280),
    ("Permanent", "OnAccountSuppressionList", (24,), 270),
    ("Permanent", "General", (25, 26, 27), 260),
    ("Transient", "General", (31,), 250),
    ("Transient", "MailboxFull", (32,), 240),
    ("Transient", "MailboxFull", (32,), 120),
    ("Transient", "MessageTooLarge", (33,), 230),
    ("Transient", "ContentRejected", (34,), 220),
    ("Transient", "AttachmentRejected", (35,), 210),
    ("Transient", "General", (500,), 200),
    ("Undetermined", "Undetermined", (36,), 190),
]
COMPLAINTS: list[tuple[str | None, int, int]] = [
    ("abuse", 41, 180),
    ("fraud", 42, 170),
    ("virus", 43, 160),
    ("other", 44, 150),
    ("auth-failure", 45, 140),
    ("not-spam", 46, 130),
    (None, 47, 125),
]
AGAIN = (0, 0, 7)
"""Which of the messages SNS delivers again: at least once is all that it promises."""


def fill(moto: MotoApp, now: float, signer: Signer) -> None:
    """Put everything into the queue, ten messages a call."""
    url = json.loads(moto.json("sqs", REGION, "AmazonSQS.GetQueueUrl", {"QueueName": QUEUE}).body)["QueueUrl"]
    bodies = messages(now, signer)
    for first in range(0, len(bodies), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[first : first + 10])]
        moto.json("sqs", REGION, "AmazonSQS.SendMessageBatch", {"QueueUrl": url, "Entries": entries})


def messages(now: float, signer: Signer) -> list[str]:
    """The bodies of the queue's messages: notifications, some twice, other kinds, a raw one, and one that a program broke."""
    told = [bounce(kind, subtype, [_user(n) for n in users], now - 60 * ago) for kind, subtype, users, ago in BOUNCES]
    told += [complaint(kind, [_user(n)], now - 60 * ago) for kind, n, ago in COMPLAINTS]
    told.append(bounce("Permanent", "General", ["User28 <USER28@Example.COM>"], now - 60 * 100))
    told.append(bounce("Permanent", "NoEmail", ["somebody-who-left@example.com"], now - 60 * 95))
    told += [_other("Delivery", _user(n), now - 60 * n) for n in (51, 52)]
    # A topic signs by version 1 unless somebody has set the other.
    wrapped = [sns(each, now, signer, "2" if n % 5 == 4 else "1") for n, each in enumerate(told)]
    wrapped += [wrapped[n] for n in AGAIN]
    raw = json.dumps(bounce("Transient", "General", [_user(37)], now - 60 * 90, event=True))
    return [*wrapped, raw, wrapped[1][: len(wrapped[1]) // 2]]


def bounce(kind: str, subtype: str, recipients: list[str], at: float, *, event: bool = False, report: bool = True) -> dict[str, Any]:
    """A bounce; as `event`, in the shape in which a configuration set publishes it.

    Without a delivery `report` it is what SES makes of an out-of-office answer.
    """
    status = "5.1.1" if kind == "Permanent" else "4.4.7"
    delivery = {"action": "failed", "status": status, "diagnosticCode": f"smtp; {status} for the sandbox"} if report else {}
    content = {
        "feedbackId": _feedback(kind, subtype, int(at), *recipients),
        "bounceType": kind,
        "bounceSubType": subtype,
        "bouncedRecipients": [{"emailAddress": each, **delivery} for each in recipients],
        "timestamp": _time(at),
        "reportingMTA": "dsn; a8-50.smtp-out.amazonses.com",
    }
    return {"eventType" if event else "notificationType": "Bounce", "bounce": content, "mail": _mail(recipients, at)}


def complaint(kind: str | None, recipients: list[str], at: float) -> dict[str, Any]:
    """A complaint; without a `kind` the provider gave none."""
    content = {
        "feedbackId": _feedback("Complaint", kind or "", at, *recipients),
        "complaintSubType": None,
        "complainedRecipients": [{"emailAddress": each} for each in recipients],
        "timestamp": _time(at),
        "userAgent": "Amazon SES Mailbox Simulator",
        "arrivalDate": _time(at),
        **({"complaintFeedbackType": kind} if kind else {}),
    }
    return {"notificationType": "Complaint", "complaint": content, "mail": _mail(recipients, at)}


def sns(message: dict[str, Any], now: float, signer: Signer, version: str = "1") -> str:
    """What SNS puts around a message on its way into a queue, and signs."""
    text = json.dumps(message)
    wrapped = {
        "Type": "Notification",
        "MessageId": str(uuid.uuid5(NAMES, text)),
        "TopicArn": TOPIC,
        "Message": text,
        "Timestamp": _time(now),
    }
    unsubscribe = f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={TOPIC}:{uuid.UUID(int=7)}"
    return json.dumps({**signer.sign(wrapped, version), "UnsubscribeURL": unsubscribe})


def _other(kind: str, recipient: str, at: float) -> dict[str, Any]:
    delivery = {"timestamp": _time(at), "recipients": [recipient], "processingTimeMillis": 546, "smtpResponse": "250 ok"}
    return {"notificationType": kind, kind.lower(): delivery, "mail": _mail([recipient], at)}


def _mail(recipients: list[str], at: float) -> dict[str, Any]:
    return {
        "timestamp": _time(at - 2),
        "source": SENDER,
        "sourceArn": f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/{SENDER}",
        "sendingAccountId": ACCOUNT,
        "messageId": _feedback("mail", *recipients),
        "destination": recipients,
    }


def _feedback(*what: object) -> str:
    return f"0100017f{uuid.uuid5(NAMES, repr(what)).hex[:8]}-{uuid.uuid5(NAMES, repr(what))}-000000"


def _user(number: int) -> str:
    return f"user{number}@example.com"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
