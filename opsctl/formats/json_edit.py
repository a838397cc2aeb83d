"""Replaces one member in the text of a JSON object; every other byte stays as it is."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

SPACE = re.compile(r"[ \t\r\n]*")


class JsonMember(NamedTuple):
    """A member of the outermost object: name, value, and the positions of both in the text."""

    name: str
    value: Any
    start: int
    name_end: int
    value_start: int
    value_end: int


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value")


DECODER = json.JSONDecoder(parse_constant=_no_constant)


def members(text: str) -> list[JsonMember]:
    """The members of the JSON object `text`, in order; raises ValueError without quoting the text."""
    try:
        whole = DECODER.decode(text)
    except json.JSONDecodeError as cause:
        raise ValueError(f"line {cause.lineno}, column {cause.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(whole, dict):
        raise ValueError("it is not an object")
    found: list[JsonMember] = []
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        name, name_end = DECODER.raw_decode(text, at)
        value_start = _skip(text, _skip(text, name_end) + 1)
        value, value_end = DECODER.raw_decode(text, value_start)
        found.append(JsonMember(name, value, at, name_end, value_start, value_end))
        at = _skip(text, value_end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def value_of(text: str, name: str) -> Any:
    """The value of member `name`, None if missing; raises ValueError when it occurs twice or `text` is not a JSON object."""
    found = [member for member in members(text) if member.name == name]
    if len(found) > 1:
        raise ValueError(f"it contains {name} {len(found)} times")
    return found[0].value if found else None


def set_member(text: str, name: str, value: str) -> str:
    """`text` with `value` as member `name`; a new member is added at the end, formatted like the others."""
    value_of(text, name)
    all_members = members(text)
    new = json.dumps(value)
    for member in all_members:
        if member.name == name:
            return text[: member.value_start] + new + text[member.value_end :]
    if not all_members:
        begin = text.index("{") + 1
        return f"{text[:begin]}{json.dumps(name)}: {new}{text[begin:]}"
    first, last = all_members[0], all_members[-1]
    colon = text[first.name_end : first.value_start]
    return f"{text[: last.value_end]}{_comma(text, all_members)}{json.dumps(name)}{colon}{new}{text[last.value_end :]}"


def _comma(text: str, all_members: list[JsonMember]) -> str:
    """The separator of two members, as between the last two or after the opening brace."""
    if len(all_members) > 1:
        return text[all_members[-2].value_end : all_members[-1].start]
    return "," + (text[text.index("{") + 1 : all_members[0].start] or " ")
