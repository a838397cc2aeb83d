"""A stream cut into its objects, whatever it looks like; nothing is lost."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsctl.adapters import json_stream as module
from opsctl.adapters.json_stream import iter_objects

OBJECTS = [{"a": 1}, {"b": {"c": '}{"\\'}, "d": ["x]", "{"]}, {"ü": "\u2028"}]


def cut(text: str | bytes) -> list[bytes]:
    return list(iter_objects(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def decoded(text: str | bytes) -> list[Any]:
    return [json.loads(piece) for piece in cut(text)]


LAYOUTS = {
    "lines": lambda objects: "\n".join(json.dumps(each) for each in objects),
    "windows": lambda objects: "\ufeff" + "".join(json.dumps(each, ensure_ascii=False) + "\r\n\r\n" for each in objects),
    "an array": json.dumps,
    "an array, one a line": lambda objects: "[\n" + ",\n".join(json.dumps(each) for each in objects) + "\n]\n",
    "an array, one a line, the brackets beside them": lambda objects: "[" + ",\n".join(json.dumps(each) for each in objects) + "]",
    "lines with commas": lambda objects: ",\r\n".join(json.dumps(each) for each in objects),
    "an indented array": lambda objects: json.dumps(objects, indent=2),
    "one after another, indented": lambda objects: "\n".join(json.dumps(each, indent=4) for each in objects),
    "without anything between": lambda objects: "".join(json.dumps(each) for each in objects),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_objects(layout: str) -> None:
    assert decoded(LAYOUTS[layout](OBJECTS)) == OBJECTS


JSON = st.dictionaries(
    st.text(max_size=5), st.recursive(st.text(max_size=8) | st.integers(), lambda each: st.lists(each, max_size=3), max_leaves=4)
)


@given(st.lists(JSON, min_size=1, max_size=6), st.sampled_from(sorted(LAYOUTS)))
def test_any_objects_in_any_layout(objects: list[Any], layout: str) -> None:
    assert decoded(LAYOUTS[layout](objects)) == objects


def test_objects_that_lie_across_chunks_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    assert decoded(json.dumps(OBJECTS, indent=1)) == OBJECTS


def test_a_broken_line_is_a_piece_and_the_next_one_is_read() -> None:
    assert cut('{"a": 1}\n{"b": \nnonsense\n{"c": 2}') == [b'{"a": 1}', b'{"b":', b"nonsense", b'{"c": 2}']
    assert cut('{"b": "cut sh\n{"c": 2}\n') == [b'{"b": "cut sh', b'{"c": 2}']


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_short_gives_its_whole_objects_and_the_rest(layout: str) -> None:
    text = LAYOUTS[layout](OBJECTS).encode()
    found = cut(text[: text.rindex(b"\xc3") if b"\xc3" in text else text.rindex(b"\\u")])
    assert [json.loads(piece) for piece in found[:2]] == OBJECTS[:2]
    assert len(found) == 3


def test_bytes_between_objects_are_a_piece() -> None:
    assert cut('[{"a": 1}, 5, {"b": 2}]') == [b'{"a": 1}', b"5", b'{"b": 2}']
    assert cut("[]") == cut("") == cut(" \n ") == []


@pytest.mark.parametrize("text", ["[", "[[", "[" * 200_000, '[{"a": 1},', '[{"a": 1}', '[[{"a": 1}]', "[[]"])
def test_an_array_without_its_end_leaves_a_piece(text: str) -> None:
    assert [piece for piece in cut(text) if piece != b'{"a": 1}'] == [b"["]


@pytest.mark.parametrize("text", ["]", '{"a":\n1}]', '[{"a": 1}]]'])
def test_an_end_without_its_array_is_a_piece(text: str) -> None:
    assert cut(text)[-1] == b"]"


@pytest.mark.parametrize("text", ["[[]]", "[]\n[]", '[[{"a": 1}], []]', '[{"a": 1}]\n[]'])
def test_arrays_in_arrays_and_one_after_another_are_whole(text: str) -> None:
    assert cut(text) == ([b'{"a": 1}'] if "a" in text else [])


def test_what_never_ends_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    monkeypatch.setattr(module, "CHUNK", 10)
    for begin in (b'{"a": "', b"{" * 5, b"x"):
        text = begin + b"y" * 1_000
        assert b"".join(cut(text)) == text
        assert max(map(len, cut(text))) < 150
