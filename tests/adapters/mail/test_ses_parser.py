"""Every kind of notification that SES sends, in every wrapping; and what only looks like one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from opsctl.adapters.mail.ses_parser import MalformedNotification, ParsingRules, read
from opsctl.adapters.mail.sns_signatures import Envelope, Unsigned
from opsctl.formats.ses_bounces import BOUNCES, FAILURES
from opsctl.sandbox.aws import notifications as made
from opsctl.sandbox.aws.sns_signing import Signer, new_key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AT = NOW.timestamp() - 3600
ACCOUNT = "123456789012"
SIGNER = Signer(new_key(), f"https://sns.{made.REGION}.amazonaws.com")


def genuine(found: Envelope) -> None:
    if json.loads(SIGNED)["Signature"] != found.signature:
        raise Unsigned("its signature is not valid")


RULES = ParsingRules(frozenset([ACCOUNT]), frozenset(), NOW, genuine)
PERMANENT = ["General", "NoEmail", "Suppressed", "OnAccountSuppressionList", "OnTenantSuppressionList"]
TRANSIENT = ["General", "MailboxFull", "MessageTooLarge", "CustomTimeoutExceeded", "ContentRejected", "AttachmentRejected"]


def bounce(kind: str = "Permanent", subtype: str = "General", *recipients: str, **more: Any) -> dict[str, Any]:
    return made.bounce(kind, subtype, list(recipients) or ["jane@example.com"], AT, **more)


SIGNED = made.sns(bounce(), AT, SIGNER)


def text(told: dict[str, Any]) -> str:
    return json.dumps(told)


@pytest.mark.parametrize(
    ("kind", "subtype", "effect"),
    [("Permanent", each, "bounced") for each in PERMANENT]
    + [("Transient", each, "soft") for each in TRANSIENT]
    + [("Undetermined", "Undetermined", "soft"), ("Permanent", "EmailValidationSuppressed", "none")]
    + [("Permanent", "UnsubscribedRecipient", "none")],
)
@pytest.mark.parametrize("event", [False, True])
def test_every_bounce(kind: str, subtype: str, effect: str, event: bool) -> None:
    [row] = read(text(bounce(kind, subtype, event=event)), RULES)
    assert (row.kind, row.type, row.subtype, row.effect) == ("bounce", kind, subtype, effect)
    assert (row.recipient, row.domain, row.at) == ("jane@example.com", "example.com", NOW - timedelta(hours=1))
    assert row.feedback_id.endswith("-000000")


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("abuse", "complained"),
        ("fraud", "complained"),
        ("virus", "complained"),
        ("other", "complained"),
        (None, "complained"),
        ("not-spam", "none"),
        ("auth-failure", "none"),
    ],
)
def test_every_complaint(kind: str | None, effect: str) -> None:
    [row] = read(text(made.complaint(kind, ["jane@example.com"], AT)), RULES)
    assert (row.kind, row.type, row.effect) == ("complaint", kind or "unknown", effect)


@pytest.mark.parametrize("subtype", ["OnAccountSuppressionList", "OnTenantSuppressionList"])
def test_nobody_complains_of_a_mail_that_wasnt_sent(subtype: str) -> None:
    told = made.complaint(None, ["jane@example.com"], AT)
    told["complaint"]["complaintSubType"] = subtype
    [row] = read(text(told), RULES)
    assert (row.subtype, row.effect) == (subtype, "none")


@pytest.mark.parametrize("kind", ["Transient/General", "Undetermined/Undetermined"])
@pytest.mark.parametrize(
    ("report", "failed"),
    [
        ({}, False),
        ({"action": None, "status": None, "diagnosticCode": None}, False),
        ({"action": "", "status": ""}, False),
        ({"action": "delayed", "status": "4.4.7"}, False),
        ({"action": "delivered"}, False),
        ({"action": "relayed", "diagnosticCode": "smtp; 250 ok"}, False),
        ({"action": "expanded"}, False),
        ({"action": "failed"}, True),
        ({"action": "Failed", "status": "5.0.0"}, True),
        ({"status": "4.4.7"}, True),
        ({"diagnosticCode": "smtp; 452 later"}, True),
    ],
)
def test_only_a_delivery_report_makes_a_failure_of_an_answer(kind: str, report: dict[str, str], failed: bool) -> None:
    """SES calls an out-of-office answer a transient bounce, and doesn't count it either."""
    told = bounce(*kind.split("/"), report=False)
    told["bounce"]["bouncedRecipients"][0] |= report
    [row] = read(text(told), RULES)
    expected = kind.partition("/")[2] if failed else "NoFailure"
    assert (row.subtype, row.effect, f"{row.type}/{row.subtype}" in FAILURES) == (expected, "soft" if failed else "none", failed)


def test_each_recipient_has_a_report_of_its_own() -> None:
    told = bounce("Transient", "General", "a@example.com", "b@example.com")
    told["bounce"]["bouncedRecipients"][1] = {"emailAddress": "b@example.com"}
    assert [row.effect for row in read(text(told), RULES)] == ["soft", "none"]


def test_what_our_own_mail_was_refused_for_is_no_reason_to_deactivate() -> None:
    """Nor is what SES never sent, or what SES advises against."""
    assert set(FAILURES) & set(BOUNCES) == {
        "Permanent/General",
        "Permanent/NoEmail",
        "Permanent/Suppressed",
        "Transient/General",
        "Transient/MailboxFull",
        "Undetermined/Undetermined",
    }


def wrappings() -> dict[str, str]:
    """The same notification as each way of delivery hands it over."""
    told, sns = bounce(), SIGNED
    return {
        "raw": text(told),
        "SNS": sns,
        "SQS": json.dumps({"MessageId": "1", "ReceiptHandle": "r", "Body": sns}),
        "a line that was kept aside": json.dumps({"digest": "0", "reason": "it was broken", "Body": sns}),
        "EventBridge": json.dumps({"source": "aws.ses", "detail-type": "Email Bounced", "detail": bounce(event=True)}),
    }


@pytest.mark.parametrize("wrapping", wrappings())
def test_every_wrapping_gives_the_same(wrapping: str) -> None:
    found = wrappings()
    [row], [raw] = read(found[wrapping], RULES), read(found["raw"], RULES)
    assert structs.replace(row, signed=False) == raw
    assert row.signed == (wrapping not in ("raw", "EventBridge"))
    assert not raw.signed


def test_each_recipient_is_counted_for_itself() -> None:
    rows = read(text(bounce("Permanent", "General", "a@example.com", "B <b@Example.com>", "jörg@müller.example")), RULES)
    assert [row.recipient for row in rows] == ["a@example.com", "b@example.com", "jörg@xn--mller-kva.example"]
    assert len({row.feedback_id for row in rows}) == 1
    assert rows[2].others


@pytest.mark.parametrize(
    "kind",
    ["Delivery", "Send", "Open", "Click", "Reject", "DeliveryDelay", "Rendering Failure", "Subscription", "AmazonSnsSubscriptionSucceeded"],
)
def test_other_kinds_count_for_nobody(kind: str) -> None:
    for name in ("notificationType", "eventType"):
        assert read(text({name: kind, "mail": {}}), RULES) == []


def without(*path: str) -> str:
    told = bounce()
    held = told
    for name in path[:-1]:
        held = held[name]
    del held[path[-1]]
    return text(told)


def with_(value: Any, *path: str) -> str:
    told = bounce()
    held = told
    for name in path[:-1]:
        held = held[name]
    held[path[-1]] = value
    return text(told)


BROKEN = {
    "": "not the JSON of a notification",
    "null": "not the JSON of a notification",
    "[]": "not the JSON of a notification",
    '"Bounce"': "not the JSON of a notification",
    "{}": "neither notificationType nor eventType",
    '{"notificationType": "Bounce"}': "has no bounce",
    text(bounce())[:-5]: "not the JSON of a notification",
    "[" * 100_000: "not the JSON of a notification",
    '{"a":' * 100_000: "not the JSON of a notification",
    without("bounce", "feedbackId"): "feedbackId",
    without("bounce", "bounceType"): "bounceType",
    without("bounce", "bouncedRecipients"): "bouncedRecipients",
    with_("", "bounce", "feedbackId"): "feedbackId",
    with_("a\0b", "bounce", "feedbackId"): "feedbackId",
    with_(7, "bounce", "feedbackId"): "feedbackId",
    with_("x" * 257, "bounce", "feedbackId"): "feedbackId",
    with_("Wobbly", "bounce", "bounceType"): "doesn't know its bounceType Wobbly",
    with_("a\nb", "bounce", "bounceSubType"): "not a word",
    with_("Wobbly", "bounce", "bounceSubType"): "doesn't know the bounceSubType Wobbly",
    with_([], "bounce", "bouncedRecipients"): "no recipient",
    with_([{}], "bounce", "bouncedRecipients"): "emailAddress",
    with_([{"emailAddress": "nobody"}], "bounce", "bouncedRecipients"): "not an e-mail address",
    with_("2026-02-30T12:00:00Z", "bounce", "timestamp"): "timestamp",
    with_("yesterday", "bounce", "timestamp"): "timestamp",
    with_("2126-01-01T00:00:00Z", "bounce", "timestamp"): "in the future",
    with_("0001-01-01T00:00:00+14:00", "bounce", "timestamp"): "before SES existed",
    with_("1970-01-01T00:00:00Z", "bounce", "timestamp"): "before SES existed",
    with_("210987654321", "mail", "sendingAccountId"): "another account",
}


@pytest.mark.parametrize(("raw", "why"), BROKEN.items(), ids=range(len(BROKEN)))
def test_what_is_broken_says_why(raw: str, why: str) -> None:
    with pytest.raises(MalformedNotification, match=why):
        read(raw, RULES)


def test_without_its_own_time_it_happened_when_the_mail_was_sent() -> None:
    [row] = read(without("bounce", "timestamp"), RULES)
    assert row.at == NOW - timedelta(hours=1, seconds=2)
    told = bounce()
    del told["mail"], told["bounce"]["timestamp"]
    with pytest.raises(MalformedNotification, match="has no time"):
        read(text(told), RULES)


def forged(**fields: str) -> str:
    return json.dumps(json.loads(SIGNED) | fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"TopicArn": "arn:aws:sns:us-east-1:210987654321:ses-feedback"}, "not in `topics`"),
        ({"TopicArn": ""}, "names no topic"),
        ({"TopicArn": "arn:aws:s3:::x"}, "names no topic"),
        ({"Signature": "NOT A SIGNATURE"}, "is not valid"),
        ({"Type": "SubscriptionConfirmation"}, "SubscriptionConfirmation"),
        ({"Message": "hello"}, "not the JSON of a notification"),
    ],
)
def test_what_is_not_from_our_topic_is_forged(fields: dict[str, str], why: str) -> None:
    with pytest.raises(MalformedNotification, match=why):
        read(forged(**fields), RULES)


def test_where_topics_are_named_only_they_count() -> None:
    named = structs.replace(RULES, topics=frozenset([made.TOPIC]))
    assert read(forged(), named)
    with pytest.raises(MalformedNotification, match="no SNS signature"):
        read(text(bounce()), named)
    with pytest.raises(MalformedNotification, match="not in `topics`"):
        read(forged(TopicArn=f"{made.TOPIC}-other"), named)


def test_wrapped_for_ever_is_refused() -> None:
    body = text(bounce())
    for _ in range(6):
        body = json.dumps({"Body": body})
    with pytest.raises(MalformedNotification, match="too many layers"):
        read(body, RULES)


def test_a_reason_repeats_nothing_of_a_person() -> None:
    for raw in (
        with_("jane@example.com", "bounce", "bounceType"),
        with_([{"emailAddress": "jane doe@example.com"}], "bounce", "bouncedRecipients"),
    ):
        with pytest.raises(MalformedNotification) as said:
            read(raw, RULES)
        assert "jane" not in str(said.value)
