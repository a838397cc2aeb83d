"""Strict parsing of HTTP answers; the only exception is Unreadable."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from opsctl.redaction import clean_sentence, escape_surrogates

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

SAID = 65_536
"""Bytes of an answer that are searched for a message."""
NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")


class Unreadable(Exception):
    """Raised with the reason why a text can't be parsed."""


def decoded(content: bytes, shape: type[T]) -> T:
    """The JSON text `content` as `shape`, whose numbers may stand in quotes."""
    try:
        return msgspec.json.decode(content, type=shape, strict=False)
    except msgspec.ValidationError as cause:
        raise Unreadable(str(cause)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return convert(_lenient(content), shape)


def _lenient(content: bytes) -> Any:
    """JSON with lone surrogates, which are escaped, or with bytes that are not UTF-8."""
    try:
        return escape_surrogates(json.loads(content.decode(errors="replace"), parse_constant=_no_number))
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except (ValueError, OverflowError):
        raise Unreadable("it is not JSON") from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def convert(found: Any, shape: type[T]) -> T:
    """What was read of JSON, as `shape`."""
    try:
        return msgspec.convert(found, shape, strict=False)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as cause:
        raise Unreadable(str(cause)) from None


def moment(text: str) -> datetime:
    """A time in ISO 8601, in UTC; one that names no zone is in UTC."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise Unreadable("a time in it is not valid") from None


def number(text: str | None) -> float | None:
    """The number that a header says; None where there is none of a reasonable length."""
    return float(text) if text and NUMBER.fullmatch(text.strip()) else None


def seconds(text: str | None, now: datetime) -> float | None:
    """The seconds that `Retry-After` says, as a number or a date; None where it says neither, infinite for an unreasonable number."""
    if text is None or (message := number(text)) is not None:
        return message if text else None
    if text.strip().isdecimal():
        return math.inf
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def words(answer: httpx.Response) -> str:
    """The message of an answer as a sentence: its text, or the status's reason for an HTML page."""
    plain = "html" not in answer.headers.get("Content-Type", "").lower()
    return clean_sentence(answer.content[:SAID].decode(errors="replace") if plain and answer.content else answer.reason_phrase)
