"""Splits a stream of JSON of any length into its objects: one per line, an array, or several lines per object.

Text that is not an object is a piece too, so that nothing is lost; the reader of the pieces rejects it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

LARGEST = 1 << 20
"""Maximum bytes of a piece. SNS and SQS messages have at most 1 MiB; a longer text is split."""
CHUNK = 1 << 16
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}"]', re.DOTALL)
AROUND = b" \t\r\n,"
BETWEEN = AROUND + b"[]"
BOM = b"\xef\xbb\xbf"


def iter_objects(stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of each object, in order. If one of the first lines is a complete object, every line is one."""
    head = (stream.read(CHUNK) + stream.readline(LARGEST)).removeprefix(BOM)
    if not head.lstrip().startswith(b"[") and any(_is_whole(line) for line in head.split(b"\n")):
        yield from _lines(io.BytesIO(head))
        yield from _lines(stream)
    else:
        yield from _objects(head, stream)


def _is_whole(line: bytes) -> bool:
    """Whether a line is a complete object. An empty object doesn't count: every layout writes it on one line."""
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
    """Split after the closing brace of each object, ignoring braces in strings. An unmatched bracket is a piece."""
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
            # An unterminated string.
            return


def _opened(between: bytes) -> int:
    """The number of `[` minus the number of `]`."""
    return between.count(b"[") - between.count(b"]")


def _between(held: bytes) -> Iterator[bytes]:
    if bare := held.strip(BETWEEN):
        yield bare
