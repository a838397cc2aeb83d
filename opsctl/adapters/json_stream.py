"""A stream of JSON cut into its objects: one a line, an array of them, or one after another over several lines; however long it is.

What is no object is a piece too, so that nothing is lost: whoever reads the pieces finds out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

LARGEST = 1 << 20
"""Bytes of one piece. SNS and SQS carry at most 1 MiB, so that a longer one is none of theirs and comes in parts."""
CHUNK = 1 << 16
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}"]', re.DOTALL)
AROUND = b" \t\r\n,"
BETWEEN = AROUND + b"[]"
BOM = b"\xef\xbb\xbf"


def iter_objects(stream: BinaryIO) -> Iterator[bytes]:
    """Each object's bytes, in their order. Unless it is an array, one whole object among the first lines makes a line each."""
    head = (stream.read(CHUNK) + stream.readline(LARGEST)).removeprefix(BOM)
    if not head.lstrip().startswith(b"[") and any(_is_whole(line) for line in head.split(b"\n")):
        yield from _lines(io.BytesIO(head))
        yield from _lines(stream)
    else:
        yield from _objects(head, stream)


def _is_whole(line: bytes) -> bool:
    """Lines within an object are indented, or are no objects; an empty object is written in one line in any layout."""
    if not line.startswith(b"{") or line.strip() == b"{}":
        return False
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(LARGEST):
        if bare := line.strip(AROUND):
            yield bare


def _objects(held: bytes, stream: BinaryIO) -> Iterator[bytes]:
    """Cut at the braces that close an object; a brace in a string is none. A bracket without its other half is a piece."""
    depth = 0
    while True:
        more = stream.read(CHUNK)
        cut = 0
        for begin, end in _closed(held):
            yield from _between(held[cut:begin])
            depth += _opened(held[cut:begin])
            yield held[begin:end]
            cut = end
        held = held[cut:]
        if not more:
            depth += _opened(held)
            yield from _between(held) if held.strip(BETWEEN) else [b"[" if depth > 0 else b"]"] * bool(depth)
            return
        if len(held) >= LARGEST:
            yield held
            held = b""
        held += more


def _closed(held: bytes) -> Iterator[tuple[int, int]]:
    depth = begin = 0
    for token in TOKEN.finditer(held):
        if token[0] == b"{":
            begin = token.start() if depth == 0 else begin
            depth += 1
        elif token[0] == b"}" and depth:
            depth -= 1
            if depth == 0:
                yield begin, token.end()
        elif token[0] == b'"':
            # A string that hasn't ended yet.
            return


def _opened(between: bytes) -> int:
    """How many arrays begin in it and don't end; negative where more end than begin."""
    return between.count(b"[") - between.count(b"]")


def _between(held: bytes) -> Iterator[bytes]:
    if bare := held.strip(BETWEEN):
        yield bare
