"""Who a file or a line names: ids and e-mails, each contact once, and nothing else without a word."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portal import Portal, contact_id

from opsctl.cli import contacts
from opsctl.errors import ConfigurationError, NotFound

NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789._+-äß", min_size=1, max_size=20)
IDS = st.integers(1, 10**15).map(str)
EMAILS = st.builds(lambda name, host: f"{name}@{host}.example", NAME, st.text("abcxyz", min_size=1, max_size=8))
NAMED = st.lists(IDS | EMAILS, min_size=1, max_size=30)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contacts.txt"


def parsed(file: Path, text: str | bytes) -> list[str]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return contacts.from_file(file)


@given(
    named=NAMED,
    blanks=st.lists(st.sampled_from(["", "  ", "# a note", "\t"]), max_size=5),
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_lines_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, named: list[str], blanks: list[str], bom: bool, end: str
) -> None:
    lines = [line for pair in zip(named, blanks, strict=False) for line in pair] + named[len(blanks) :]
    text = ("\ufeff" if bom else "") + end.join(f" {line} " for line in lines) + end
    assert parsed(tmp_path_factory.getbasetemp() / "lines.txt", text) == named


@given(named=NAMED, column=st.integers(0, 2), head=st.sampled_from(["Record ID", "email", "E-mail", "hs_object_id"]), bom=st.booleans())
def test_a_csv_column_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, named: list[str], column: int, head: str, bom: bool
) -> None:
    written = io.StringIO()
    writer = csv.writer(written)
    for cell in (head, *named):
        row = ["Ann, the first", 'said "yes"']
        writer.writerow([*row[:column], cell, *row[column:]])
    assert parsed(tmp_path_factory.getbasetemp() / "table.csv", ("\ufeff" if bom else "") + written.getvalue()) == named


@given(text=st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    found: list[str] = []
    with contextlib.suppress(ConfigurationError):
        found = parsed(tmp_path_factory.getbasetemp() / "any.txt", text)
        assert found
    assert all(contacts.ID.fullmatch(each) or contacts.EMAIL.fullmatch(each) for each in found)


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n", "\ufeff", "email\n", "Record ID,Email\n\n"])
def test_a_file_that_names_nobody(file: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="contains no contact"):
        parsed(file, text)


def test_broken_lines_are_named_by_their_numbers(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="in line 2, 4, 5, 6, 7 and 1 more"):
        parsed(file, "\n".join(["1", "not a contact", "a@example.com", "@", "1 2", "x@y", "-5", "name@nowhere"]))


def test_a_quoted_line_break_does_not_shift_the_numbers(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="in line 4"):
        parsed(file, 'id,note\n1,"two\nlines"\nbroken,x\n')


@pytest.mark.parametrize("raw", [b"\xff\xfe1\x00", b"12\xe4\n"])
def test_a_file_that_is_no_text(file: Path, raw: bytes) -> None:
    with pytest.raises(ConfigurationError, match="can't be read as text"):
        parsed(file, raw)


@pytest.mark.parametrize("text", ['"1\n2\n', "1\0\n", "٣٤\n", "a" * 200_000])
def test_a_file_that_is_no_csv(file: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        parsed(file, text)


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    made = Portal(tmp_path)
    yield made
    made.close()


def test_a_contact_named_by_id_and_by_email_is_one(portal: Portal) -> None:
    systems = portal.systems(writing=False)
    named = ["contact2@example.com", contact_id(1), " CONTACT1@example.com ", contact_id(2), contact_id(1)]
    assert contacts.ids(systems, named) == [contact_id(2), contact_id(1)]


def test_an_email_of_nobody_is_named(portal: Portal) -> None:
    systems = portal.systems(writing=False)
    named = ["contact2@example.com", "nobody@example.com"]
    with pytest.raises(NotFound, match=r"no contact nobody@example\.com") as raised:
        contacts.ids(systems, named)
    assert "--skip-missing" in raised.value.next
    assert contacts.ids(systems, named, skip_missing=True) == [contact_id(2)]
