"""Parser of SES notifications: bounces and complaints, raw or wrapped by SNS, in both formats of SES.

Sources: "Amazon SES notification contents" (`notificationType`), "Amazon SES event data" (`eventType`), both in the SES Developer Guide;
"Parsing message formats" in the SNS Developer Guide. The formats differ only in that name.

Type and subtype of a bounce decide, as the guide describes each:

- A transient bounce with a delivery report is a failure. Without one it is an automatic answer, such as out of office.
- A message that was rejected for its size, content or attachment, or was not delivered within a time that the sender set, is counted, but
  is never a reason to deactivate a user.
- A message that SES didn't send because the address is on the account's suppression list is not a new failure. An address that failed
  SES's validation, or whose owner unsubscribed, has not bounced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from opsctl.adapters.mail.sns_signatures import Envelope, Unsigned
from opsctl.formats import email_addresses
from opsctl.formats.ses_bounces import BOUNCES, BY_REPORT, NO_COMPLAINT, NO_FAILURE, NOT_SENT, SUBTYPES, Effect, Kind

DEEPEST = 4
"""Maximum number of wrappings: SQS, the dead-letter line, SNS, SES."""
IDENTIFIER = re.compile(r"[\x21-\x7e]{1,256}")
WORD = re.compile(r"[\w. -]{1,64}", re.ASCII)
SEVERAL = re.compile(rb'\{\s*"Messages"\s*:')

EARLIEST = datetime(2011, 1, 1, tzinfo=UTC)
"""The month in which SES started. Earlier times are invalid, and may be outside of Python's range."""


class MalformedNotification(ValueError):
    """Raised, with the reason, for an unreadable notification or one of another account."""


class CountedRecipient(Struct, frozen=True, omit_defaults=True):
    """A recipient of a bounce or complaint, for the database; `others` are other spellings of the address."""

    feedback_id: str
    recipient: str
    domain: str
    kind: Kind
    type: str
    subtype: str
    at: datetime
    effect: Effect
    others: tuple[str, ...] | None = None
    signed: bool = False


class ParsingRules(Struct, frozen=True):
    """The notifications to accept: of these accounts, through these topics if any, not after `latest`.

    `verify` raises Unsigned for a message that SNS didn't sign.
    """

    accounts: frozenset[str]
    topics: frozenset[str]
    latest: datetime
    verify: Callable[[Envelope], None]


class Recipient(Struct, rename="camel"):
    """A recipient; the last three members are from the delivery report, if any."""

    email_address: str
    action: str | None = None
    status: str | None = None
    diagnostic_code: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the delivery report reports a failure; without an action, a status or a diagnosis is enough."""
        if self.action is not None:
            return self.action.strip().lower() == "failed"
        return bool(self.status or self.diagnostic_code)


class SentMail(Struct, rename="camel"):
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


class SesMessage(Struct):
    """Any level of the JSON, wrappers first.

    `body` is of an SQS message or a dead-letter line; `type` is SNS's, `source` and `detail` EventBridge's, the rest
    SES's.
    """

    body: str | None = _called("Body")
    type: str | None = _called("Type")
    source: str | None = _called("source")
    detail: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="detail")
    notification_type: str | None = _called("notificationType")
    event_type: str | None = _called("eventType")
    bounce: Bounce | None = _called("bounce")
    complaint: Complaint | None = _called("complaint")
    mail: SentMail | None = _called("mail")


class Received(Struct):
    """The answer of SQS's ReceiveMessage: several messages in one object."""

    messages: list[msgspec.Raw] = msgspec.field(name="Messages")


Judged = tuple[Kind, str, str, Effect, Recipient]
KNOWN = {name.lower(): name for name in BOUNCES}

_decoder = msgspec.json.Decoder(SesMessage)
_envelopes = msgspec.json.Decoder(Envelope)
_several = msgspec.json.Decoder(Received)


def apart(raw: bytes) -> list[bytes]:
    """The messages of an answer of ReceiveMessage, so that each is parsed alone; otherwise the input."""
    if not SEVERAL.match(raw):
        return [raw]
    try:
        return [bytes(each) for each in _several.decode(raw).messages] or [raw]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return [raw]


def read(raw: bytes | str, rules: ParsingRules, depth: int = 0, *, signed: bool = False) -> list[CountedRecipient]:
    """The recipients of a message; none for other kinds such as deliveries.

    Raises MalformedNotification for an unreadable notification or one of another account.
    """
    if depth == DEEPEST:
        raise MalformedNotification("it is wrapped in too many layers")
    found: SesMessage = _decoded(_decoder, raw)
    if found.body is not None:
        return read(found.body, rules, depth + 1, signed=signed)
    if found.type is not None:
        return read(_unwrapped(_decoded(_envelopes, raw), rules), rules, depth + 1, signed=True)
    if found.source == "aws.ses" and bytes(found.detail):
        return read(bytes(found.detail), rules, depth + 1, signed=signed)
    return _counted(found, rules, signed)


def _decoded(decoder: Any, raw: bytes | str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as cause:
        raise MalformedNotification(f"it is not the JSON of a notification: {cause}") from cause


def _unwrapped(found: Envelope, rules: ParsingRules) -> str:
    """The message inside an SNS envelope, after its signature and topic are verified."""
    parts = found.topic_arn.split(":")
    if len(parts) != 6 or parts[2] != "sns":
        raise MalformedNotification("it is from SNS but names no topic")
    if (found.topic_arn not in rules.topics) if rules.topics else (parts[4] not in rules.accounts):
        raise MalformedNotification("it is from an SNS topic that is not in `topics`")
    try:
        rules.verify(found)
    except Unsigned as cause:
        raise MalformedNotification(str(cause)) from cause
    if found.type != "Notification":
        raise MalformedNotification(f"it is an SNS {_safe(found.type)}, which a person has to answer")
    if found.message is None:
        raise MalformedNotification("it is from SNS but has no message")
    return found.message


def _counted(found: SesMessage, rules: ParsingRules, signed: bool) -> list[CountedRecipient]:
    kind = found.notification_type or found.event_type
    if kind is None:
        raise MalformedNotification("it has neither notificationType nor eventType")
    if kind not in ("Bounce", "Complaint"):
        return []
    if rules.topics and not signed:
        raise MalformedNotification("it has no SNS signature, so its topic can't be verified")
    if found.mail and found.mail.sending_account_id and found.mail.sending_account_id not in rules.accounts:
        raise MalformedNotification("it is for another account")
    notification: Bounce | Complaint | None = found.bounce if kind == "Bounce" else found.complaint
    if notification is None:
        raise MalformedNotification(f"it is a {kind} but has no {kind.lower()}")
    if not IDENTIFIER.fullmatch(notification.feedback_id):
        raise MalformedNotification("its feedbackId is not valid")
    at = _event_time(notification.timestamp or (found.mail.timestamp if found.mail else None), rules)
    about = _bounce(notification) if isinstance(notification, Bounce) else _complaint(notification)
    if not about:
        raise MalformedNotification("it has no recipient")
    return [_row(notification.feedback_id, at, signed, *each) for each in about]


def _event_time(at: datetime | None, rules: ParsingRules) -> datetime:
    if at is None:
        raise MalformedNotification("it has no time")
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if at > rules.latest:
        raise MalformedNotification("its time is in the future")
    if at < EARLIEST:
        raise MalformedNotification("its time is before SES existed")
    return at


def _bounce(notification: Bounce) -> list[Judged]:
    """The recipients of a bounce."""
    kind = notification.bounce_type.lower()
    if kind not in SUBTYPES:
        raise MalformedNotification(f"opsctl doesn't know its bounceType {_safe(notification.bounce_type)}")
    subtype = _word(notification.bounce_sub_type or SUBTYPES[kind])
    known = KNOWN.get(f"{kind}/{subtype.lower()}")
    if known is None:
        raise MalformedNotification(f"opsctl doesn't know the bounceSubType {subtype} of a {kind} bounce")
    kind, _, subtype = known.partition("/")
    answer: tuple[str, Effect] = (NO_FAILURE, "none")
    return [
        ("bounce", kind, *(answer if known in BY_REPORT and not each.failed else (subtype, BOUNCES[known])), each)
        for each in notification.bounced_recipients
    ]


def _complaint(notification: Complaint) -> list[Judged]:
    """The recipients of a complaint."""
    kind, subtype = _word(notification.complaint_feedback_type or "unknown").lower(), _word(notification.complaint_sub_type or "General")
    effect: Effect = "none" if kind in NO_COMPLAINT or subtype in NOT_SENT else "complained"
    return [("complaint", kind, subtype, effect, each) for each in notification.complained_recipients]


def _row(
    feedback: str, at: datetime, signed: bool, kind: Kind, type: str, subtype: str, effect: Effect, recipient: Recipient
) -> CountedRecipient:
    try:
        found = email_addresses.parse(recipient.email_address)
    except ValueError as cause:
        raise MalformedNotification("a recipient is not an e-mail address") from cause
    return CountedRecipient(feedback, found.recipient, found.domain, kind, type, subtype, at, effect, found.others or None, signed)


def _word(text: str) -> str:
    if not WORD.fullmatch(text):
        raise MalformedNotification("a type in it is not a word")
    return text


def _safe(text: Any) -> str:
    """A value that may be shown: a single word without personal data."""
    return str(text) if WORD.fullmatch(str(text)) else "no word"
