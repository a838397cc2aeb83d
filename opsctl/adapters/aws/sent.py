"""AWS's answer as sent. The SDK silently drops members that its model doesn't have, so that writing the answer back would delete them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from opsctl.errors import Refused, Retry

MOST_NAMED = 5


class SentAnswer(Struct, frozen=True):
    """An answer as JSON, and the paths of the members that the installed SDK doesn't know."""

    raw: dict[str, Any]
    unknown: tuple[str, ...] = ()


def sent(body: bytes, shape: Any) -> SentAnswer:
    """Parse an answer's body and compare it with the SDK's model."""
    raw = json.loads(body or b"{}")
    return SentAnswer(raw, tuple(beyond(raw, shape)))


def refuse_loss(unknown: tuple[str, ...], what: str) -> None:
    """Raise Refused when writing `what` back would delete members that the installed SDK doesn't know."""
    if unknown:
        names = ", ".join(unknown[:MOST_NAMED]) + (f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else "")
        raise Refused(
            f"The installed SDK doesn't know {names} of {what}, and a write would delete it.",
            Retry("Install a newer botocore (pip install --upgrade botocore boto3)"),
        )


def beyond(value: Any, shape: Any, path: str = "") -> Iterator[str]:
    """The paths of the members in a JSON answer that the SDK's model `shape` doesn't have."""
    if shape is None or value is None or getattr(shape, "is_document_type", False):
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        known = {each.serialization.get("name", name): each for name, each in shape.members.items()}
        for name, each in value.items():
            if name in known:
                yield from beyond(each, known[name], f"{path}{name}.")
            elif name != "__type":
                yield f"{path}{name}"
    elif shape.type_name == "list" and isinstance(value, list):
        for number, each in enumerate(value):
            yield from beyond(each, shape.member, f"{path}{number}.")
    elif shape.type_name == "map" and isinstance(value, dict):
        for name, each in value.items():
            yield from beyond(each, shape.value, f"{path}{name}.")
