"""Reads SES's notifications with nothing but Python: what scripts bring along, in one piece with `opsctl.formats.email_addresses`.

It says of every message what `opsctl.adapters.mail.ses_parser` says of it, which a test proves.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

UTC = timezone.utc  # noqa: UP017 - a script meets older Pythons too
WORD = re.compile(r"[\w. -]{1,64}", re.ASCII)


def parts(raw: bytes) -> Iterator[bytes]:
    """The messages of a file: one a line, or objects one after another, in an array or in SQS's own answer."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not raw.lstrip().startswith(b"[") and any(line.startswith(b"{") and line.strip() != b"{}" and whole(line) for line in lines):
        pieces = [line.strip(b" \t\r,") for line in lines]
    else:
        pieces = list(objects(raw.decode(errors="surrogateescape")))
    for piece in pieces:
        found = whole(piece)
        if isinstance(found, dict) and list(found)[:1] == ["Messages"] and isinstance(found["Messages"], list):
            yield from (json.dumps(each).encode() for each in found["Messages"])
        elif piece:
            yield piece


def whole(raw: bytes) -> Any:
    """What a piece is as JSON, None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def objects(text: str) -> Iterator[bytes]:
    """Objects one after another; what is between them and is none is a piece too."""
    at, decoder = 0, json.JSONDecoder()
    while at < len(text):
        begin = text.find("{", at)
        try:
            end = decoder.raw_decode(text, begin)[1] if begin >= 0 else len(text)
        except (ValueError, RecursionError):
            begin, end = -1, len(text)
        between = text[at : begin if begin >= 0 else len(text)].strip(" \t\r\n,[]")
        if between:
            yield between.encode(errors="surrogateescape")
        if begin >= 0:
            yield text[begin:end].encode(errors="surrogateescape")
        at = end


def read(raw: Any, rules: dict[str, Any], depth: int = 0, signed: bool = False) -> list[dict[str, Any]]:
    """The rows that a message makes; raises ValueError for what is no notification, or isn't for us."""
    found = json.loads(raw) if isinstance(raw, (str, bytes)) else raw
    if depth == 4 or not isinstance(found, dict):
        raise ValueError("it is no notification's JSON, or is wrapped too often")
    if found.get("Body") is not None:
        return read(str(found["Body"]), rules, depth + 1, signed)
    if found.get("Type") is not None:
        return read(unwrapped(found, rules), rules, depth + 1, True)
    if found.get("source") == "aws.ses" and "detail" in found:
        return read(found["detail"], rules, depth + 1, signed)
    return counted(found, rules, signed)


def counted(found: dict[str, Any], rules: dict[str, Any], signed: bool) -> list[dict[str, Any]]:
    """The rows of SES's own object."""
    kind = found.get("notificationType") or found.get("eventType")
    if kind is None:
        raise ValueError("it has neither notificationType nor eventType")
    if kind not in ("Bounce", "Complaint"):
        return []
    if rules["topics"] and not signed:
        raise ValueError("it has no SNS signature, so its topic is unknown")
    mail, told = found.get("mail") or {}, found.get(kind.lower())
    if mail.get("sendingAccountId") and mail["sendingAccountId"] not in rules["accounts"]:
        raise ValueError("it is about another account's mail")
    if not isinstance(told, dict) or not re.fullmatch(r"[\x21-\x7e]{1,256}", str(told["feedbackId"])):
        raise ValueError("it names no feedbackId")
    recipients = told["bouncedRecipients" if kind == "Bounce" else "complainedRecipients"]
    if not recipients:
        raise ValueError("it names no recipient")
    at = moment(told.get("timestamp") or mail.get("timestamp"))
    judge = bounce if kind == "Bounce" else complaint
    return [{**row(told["feedbackId"], at, each["emailAddress"], signed), **judge(told, each, rules)} for each in recipients]


def unwrapped(found: dict[str, Any], rules: dict[str, Any]) -> str:
    """SNS's message, once SNS's signature proves that it came through a topic of ours."""
    topic = str(found.get("TopicArn") or "")
    names = topic.split(":")
    if len(names) != 6 or names[2] != "sns":
        raise ValueError("it says it is SNS's, and names no topic")
    if (topic not in rules["topics"]) if rules["topics"] else (names[4] not in rules["accounts"]):
        raise ValueError("it came through a topic that isn't ours")
    verify(found, names[3], rules["endpoint"])
    if found["Type"] != "Notification" or found.get("Message") is None:
        raise ValueError("it is no notification of SNS")
    return str(found["Message"])


def verify(found: dict[str, Any], region: str, endpoint: str) -> None:
    """Raise ValueError unless SNS signed every member of this message that counts; `endpoint` is a sandbox's AWS."""
    digest = {"1": "-sha1", "2": "-sha256"}.get(str(found.get("SignatureVersion")))
    url = str(found.get("SigningCertURL") or "")
    local = endpoint and re.fullmatch(re.escape(endpoint.rstrip("/")) + r"/[\w.-]+\.pem", url, re.ASCII)
    where = re.fullmatch(r"https://sns\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?)/[\w.-]+\.pem", url, re.ASCII)
    if digest is None or not (local or (where and where[1] == region and not endpoint)):
        raise ValueError("it is signed in a way, or with a certificate, that isn't Amazon's")
    suffix = where[2] if where else "amazonaws.com"
    hosts = ["sns.amazonaws.com", *(f"{word}{region}.{suffix}" for word in ("sns.", "sns-signing.", "sns-"))]
    held = certificate(url, tuple(hosts))
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if found["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    signed = "".join(f"{name}\n{found[name]}\n" for name in names if found.get(name) is not None)
    with tempfile.TemporaryDirectory() as folder:
        key, signature = os.path.join(folder, "key"), os.path.join(folder, "signature")
        with open(key, "wb") as file:
            file.write(openssl("x509", "-pubkey", "-noout", given=held))
        with open(signature, "wb") as file:
            file.write(base64.b64decode(str(found.get("Signature")), validate=True))
        openssl("dgst", digest, "-verify", key, "-signature", signature, given=signed.encode(errors="surrogatepass"))


@functools.lru_cache(maxsize=100)
def certificate(url: str, hosts: tuple[str, ...]) -> bytes:
    """SNS's certificate; raises ValueError where it isn't SNS's, or isn't valid now."""
    got = subprocess.run(["curl", "-q", "-sS", "-f", "--globoff", "--max-time", "60", "--url", url], capture_output=True, check=False)
    if got.returncode == 22:
        raise ValueError("it is signed with a certificate that Amazon doesn't have")
    if got.returncode:
        sys.exit(f"The certificate {url} could not be fetched.")
    openssl("x509", "-noout", "-checkend", "0", given=got.stdout)
    if not any(b"does match" in openssl("x509", "-noout", "-checkhost", host, given=got.stdout) for host in hosts):
        raise ValueError("its certificate isn't SNS's")
    return got.stdout


def openssl(*words: str, given: bytes) -> bytes:
    """What openssl writes; raises ValueError where it refuses."""
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=False)
    if done.returncode:
        raise ValueError("its signature isn't Amazon's, or its certificate isn't valid now")
    return done.stdout


def moment(text: Any) -> str:
    """When it happened, not in the future and not before there was SES."""
    if not isinstance(text, str):
        raise ValueError("it doesn't say when it happened")
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not datetime(2011, 1, 1, tzinfo=UTC) <= at <= datetime.now(UTC) + timedelta(days=1):
        raise ValueError("it happened at a time that can't be")
    return at.isoformat()


def row(feedback: str, at: str, address: str, signed: bool) -> dict[str, Any]:
    """One recipient, as the database is told it."""
    found = parse(address)  # type: ignore[name-defined]  # noqa: F821 - it comes with the other half
    who = {"recipient": found.recipient, "domain": found.domain, "others": list(found.others)}
    return {"feedback_id": feedback, **who, "at": at, "signed": signed}


def bounce(told: dict[str, Any], recipient: dict[str, Any], rules: dict[str, Any]) -> dict[str, str]:
    """What a bounce says of a recipient."""
    kind = told["bounceType"].lower()
    given = told.get("bounceSubType") or rules["subtypes"][kind]
    known = next(name for name in [*rules["bounces"], ""] if name.lower() in (f"{kind}/{given.lower()}", ""))
    if not known or not WORD.fullmatch(given):
        raise ValueError("its type or subtype is none that opsctl knows")
    action = recipient.get("action")
    failed = action.strip().lower() == "failed" if action is not None else recipient.get("status") or recipient.get("diagnosticCode")
    sort, _, subtype = known.partition("/")
    if known in rules["by_report"] and not failed:
        return {"kind": "bounce", "type": sort, "subtype": rules["no_failure"], "effect": "none"}
    return {"kind": "bounce", "type": sort, "subtype": subtype, "effect": rules["bounces"][known]}


def complaint(told: dict[str, Any], recipient: dict[str, Any], rules: dict[str, Any]) -> dict[str, str]:
    """What a complaint says of a recipient."""
    sort, subtype = (told.get("complaintFeedbackType") or "unknown").lower(), told.get("complaintSubType") or "General"
    if not WORD.fullmatch(sort) or not WORD.fullmatch(subtype):
        raise ValueError("a type in it is no word")
    nobody = sort in rules["no_complaint"] or subtype in rules["not_sent"]
    return {"kind": "complaint", "type": sort, "subtype": subtype, "effect": "none" if nobody else "complained"}


def put_aside(path: str, bad: list[tuple[bytes, str]]) -> None:
    """Keep what can't be read, each message once."""
    new = {hashlib.sha256(raw).hexdigest()[:32]: (raw, why) for raw, why in bad}
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", errors="replace") as file:
        known = file.read()
        for digest, (raw, why) in new.items():
            if f'"digest":"{digest}"' not in known:
                line = {"digest": digest, "reason": why, "at": datetime.now(UTC).isoformat(), "Body": raw.decode(errors="replace")}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def taken(raw: bytes, receipts: str) -> list[bytes]:
    """The messages of SQS's answer, which is nothing where the queue is empty."""
    found = (json.loads(raw) if raw.strip() else {}).get("Messages") or []
    with open(receipts, "w") as file:
        if found:
            json.dump([{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(found)], file)
    return [each["Body"].encode(errors="surrogatepass") for each in found]


def main() -> None:
    """Write the rows of standard input's messages to standard output, and keep aside what can't be read.

    Standard input is the content with this digest; or what SQS answered, whose messages' receipts are written to a file, to delete them.
    """
    rules, aside, digest, receipts = json.loads(sys.argv[1]), *sys.argv[2:]
    raw = sys.stdin.buffer.read()
    if digest and hashlib.sha256(raw).hexdigest() != digest:
        sys.exit("The content isn't the one in the plan.")
    if raw.startswith(b"\x1f\x8b"):
        raw = gzip.decompress(raw)
    messages = list(parts(raw)) if digest else taken(raw, receipts)
    rows: list[dict[str, Any]] = []
    bad: list[tuple[bytes, str]] = []
    for each in messages:
        try:
            rows += read(each, rules)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            bad.append((each, str(cause) or "it can't be read"))
    if bad:
        put_aside(aside, bad)
        os.write(2, f"{len(bad)} messages can't be read: stored in {aside}\n".encode(errors="replace"))
    if digest and len(bad) == len(messages) > 0:
        sys.exit("None of the messages can be read. Nothing was counted.")
    json.dump(rows, sys.stdout)
