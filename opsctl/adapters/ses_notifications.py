"""What Amazon SES tells of a mail that came back: a bounce or a complaint, raw or wrapped by SNS, of either of SES's two shapes.

Sources: "Amazon SES notification contents" (`notificationType`), "Amazon SES event data" (`eventType`), both in the SES Developer Guide;
"Parsing message formats" in the SNS Developer Guide. The shapes differ in nothing that is read here but that one name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from opsctl.adapters import addresses

Kind = Literal["bounce", "complaint"]
Effect = Literal["bounced", "complained", "soft", "none"]

DEEPEST = 4
"""How many wrappings are taken off: a mail queue's message, our own note on it, SNS, SES."""
CERTIFICATE = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/SimpleNotificationService-[0-9a-f]+\.pem")
IDENTIFIER = re.compile(r"[\x21-\x7e]{1,256}")
WORD = re.compile(r"[\w. -]{1,64}", re.ASCII)
SEVERAL = re.compile(rb'\{\s*"Messages"\s*:')

BOUNCES: dict[str, Effect] = {"permanent": "bounced", "transient": "soft", "undetermined": "soft"}
NO_COMPLAINT = frozenset({"not-spam", "auth-failure"})
"""Feedback types by which the recipient complains of nothing (IANA, Messaging Abuse Reporting Format parameters)."""
EARLIEST = datetime(2011, 1, 1, tzinfo=UTC)
"""SES began in that month. A database, and its Data API, tell of times that Python has none for."""
WRITTEN = {"permanent": "Permanent", "transient": "Transient", "undetermined": "Undetermined"}


class Malformed(ValueError):
    """Raised for what can't be read as a notification, or wasn't sent for us; says why."""


class Counted(Struct, frozen=True, omit_defaults=True):
    """One recipient of a bounce or complaint, as the database is told it; `others` are more spellings of the address."""

    feedback_id: str
    recipient: str
    domain: str
    kind: Kind
    type: str
    subtype: str
    at: datetime
    effect: Effect
    others: tuple[str, ...] | None = None


class Rules(Struct, frozen=True):
    """Whose notifications count: of these accounts and, where any are named, through these topics; none from after `latest`."""

    accounts: frozenset[str]
    topics: frozenset[str]
    latest: datetime


class Recipient(Struct, rename="camel"):
    """A recipient's entry."""

    email_address: str


class Mail(Struct, rename="camel"):
    """The mail that it is about."""

    timestamp: datetime | None = None
    sending_account_id: str | None = None


class Bounce(Struct, rename="camel"):
    """SES's bounce object."""

    feedback_id: str
    bounce_type: str
    bounced_recipients: list[Recipient]
    bounce_sub_type: str | None = None
    timestamp: datetime | None = None


class Complaint(Struct, rename="camel"):
    """SES's complaint object."""

    feedback_id: str
    complained_recipients: list[Recipient]
    complaint_feedback_type: str | None = None
    complaint_sub_type: str | None = None
    timestamp: datetime | None = None


def _called(name: str) -> Any:
    return msgspec.field(default=None, name=name)


class Message(Struct):
    """Every level of the JSON, whichever it is; what stands around a notification comes first.

    `body` is that of a message of SQS, or of a line that was kept aside; `type` to `certificate` are SNS's, `source` and `detail`
    EventBridge's, the rest SES's.
    """

    body: str | None = _called("Body")
    type: str | None = _called("Type")
    message: str | None = _called("Message")
    topic: str | None = _called("TopicArn")
    certificate: str | None = _called("SigningCertURL")
    source: str | None = _called("source")
    detail: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="detail")
    notification_type: str | None = _called("notificationType")
    event_type: str | None = _called("eventType")
    bounce: Bounce | None = _called("bounce")
    complaint: Complaint | None = _called("complaint")
    mail: Mail | None = _called("mail")


class Received(Struct):
    """What SQS's ReceiveMessage answers with: several messages in one object."""

    messages: list[msgspec.Raw] = msgspec.field(name="Messages")


_decoder = msgspec.json.Decoder(Message)
_several = msgspec.json.Decoder(Received)


def apart(raw: bytes) -> list[bytes]:
    """The messages of what SQS's ReceiveMessage answered with, so that a bad one spoils no other; else what was given."""
    if not SEVERAL.match(raw):
        return [raw]
    try:
        return [bytes(each) for each in _several.decode(raw).messages] or [raw]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return [raw]


def read(raw: bytes | str, rules: Rules, depth: int = 0) -> list[Counted]:
    """The recipients that a message counts for; none where it is of another kind (a delivery, an opening).

    Raises Malformed for what is no notification, or isn't for us.
    """
    if depth == DEEPEST:
        raise Malformed("it is wrapped too often")
    try:
        found = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as cause:
        raise Malformed(f"it is not a notification's JSON: {cause}") from cause
    if found.body is not None:
        return read(found.body, rules, depth + 1)
    if found.type is not None:
        return read(_unwrapped(found, rules), rules, depth + 1)
    if found.source == "aws.ses" and bytes(found.detail):
        return read(bytes(found.detail), rules, depth + 1)
    return _counted(found, rules)


def _unwrapped(found: Message, rules: Rules) -> str:
    """SNS's message, once it is plain that it came through a topic of ours."""
    if found.type != "Notification":
        raise Malformed(f"it is SNS's {_safe(found.type)}, which a person answers")
    topic = found.topic or ""
    parts = topic.split(":")
    if len(parts) != 6 or parts[2] != "sns":
        raise Malformed("it says it is SNS's, and names no topic")
    if (topic not in rules.topics) if rules.topics else (parts[4] not in rules.accounts):
        raise Malformed("it came through a topic that isn't ours")
    if not CERTIFICATE.fullmatch(found.certificate or ""):
        raise Malformed("it is signed with a certificate that isn't Amazon's")
    if found.message is None:
        raise Malformed("it is SNS's, without a message")
    return found.message


def _counted(found: Message, rules: Rules) -> list[Counted]:
    kind = found.notification_type or found.event_type
    if kind is None:
        raise Malformed("it has neither notificationType nor eventType")
    if kind not in ("Bounce", "Complaint"):
        return []
    if found.mail and found.mail.sending_account_id and found.mail.sending_account_id not in rules.accounts:
        raise Malformed("it is about another account's mail")
    told: Bounce | Complaint | None = found.bounce if kind == "Bounce" else found.complaint
    if told is None:
        raise Malformed(f"it is a {kind} without {kind.lower()} in it")
    if not IDENTIFIER.fullmatch(told.feedback_id):
        raise Malformed("its feedbackId is none")
    at = _moment(told.timestamp or (found.mail.timestamp if found.mail else None), rules)
    if isinstance(told, Bounce):
        return _rows(told.feedback_id, "bounce", at, *_bounce(told), told.bounced_recipients)
    return _rows(told.feedback_id, "complaint", at, *_complaint(told), told.complained_recipients)


def _moment(at: datetime | None, rules: Rules) -> datetime:
    if at is None:
        raise Malformed("it doesn't say when it happened")
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if at > rules.latest:
        raise Malformed("it happened in the future")
    if at < EARLIEST:
        raise Malformed("it happened before there was SES")
    return at


def _bounce(told: Bounce) -> tuple[str, str, Effect]:
    kind = told.bounce_type.lower()
    if kind not in BOUNCES:
        raise Malformed(f"its bounceType is {_safe(told.bounce_type)}, which SES doesn't have")
    return WRITTEN[kind], _word(told.bounce_sub_type or "General"), BOUNCES[kind]


def _complaint(told: Complaint) -> tuple[str, str, Effect]:
    kind = _word(told.complaint_feedback_type or "unknown").lower()
    return kind, _word(told.complaint_sub_type or "General"), "none" if kind in NO_COMPLAINT else "complained"


def _rows(feedback: str, kind: Kind, at: datetime, type: str, subtype: str, effect: Effect, recipients: list[Recipient]) -> list[Counted]:
    if not recipients:
        raise Malformed("it names no recipient")
    rows = []
    for each in recipients:
        try:
            found = addresses.parse(each.email_address)
        except ValueError as cause:
            raise Malformed("a recipient in it is no e-mail address") from cause
        rows.append(Counted(feedback, found.recipient, found.domain, kind, type, subtype, at, effect, found.others or None))
    return rows


def _word(text: str) -> str:
    if not WORD.fullmatch(text):
        raise Malformed("a type in it is no word")
    return text


def _safe(text: Any) -> str:
    """What a message says, as far as it can be repeated: a word, and nothing of a person."""
    return str(text) if WORD.fullmatch(str(text)) else "no word"
