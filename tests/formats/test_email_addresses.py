"""Which addresses are the same one."""

from __future__ import annotations

import pytest

from opsctl.formats.email_addresses import parse

JOERG = "jörg@müller.example"


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com",
        "JANE@Example.COM",
        " jane@example.com\t",
        "<Jane@example.com>",
        "Jane Doe <jane@example.com>",
        '"a <b>" <jane@example.com>',
    ],
)
def test_what_surrounds_an_address_and_its_case_dont_matter(text: str) -> None:
    found = parse(text)
    assert (found.recipient, found.domain, found.others) == ("jane@example.com", "example.com", ())


@pytest.mark.parametrize(
    "text", [JOERG, "JÖRG@MÜLLER.EXAMPLE", "jörg@xn--mller-kva.example", "Jo\u0308rg@Mu\u0308ller.example", f"Jörg <{JOERG}>"]
)
def test_letters_beyond_ascii_meet_however_they_are_written(text: str) -> None:
    found = parse(text)
    assert (found.recipient, found.domain) == ("jörg@xn--mller-kva.example", "xn--mller-kva.example")
    assert JOERG in found.others


def test_a_database_that_lowers_ascii_alone_finds_them_too() -> None:
    assert "jÖrg@mÜller.example" in parse("JÖRG@MÜLLER.EXAMPLE").others


@pytest.mark.parametrize("held", ["ÉVA@MÜLLER.example", "Éva@Müller.example", "éva@müller.example"])
def test_one_in_capitals_is_found_there_by_its_small_letters(held: str) -> None:
    lowered = held.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})
    found = parse("éva@müller.example")
    assert lowered in (found.recipient, *found.others)


def test_a_capital_that_is_another_letter_makes_another_address() -> None:
    others = parse("straße.kısa@example.com").others
    assert not any("ss" in each or "kisa" in each for each in others)


@pytest.mark.parametrize("text", ['"john doe"@example.com', "o'brien+tag@example.com", "a@b", "x_y=z@sub.example.co.uk"])
def test_unusual_addresses_are_addresses(text: str) -> None:
    assert parse(text).recipient == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "jane",
        "jane@",
        "@example.com",
        "jane doe@example.com",
        "a@b@c d",
        "jane@exa mple.com",
        "jane@.com",
        "a\x00b@example.com",
        "jane@example..com",
        "<>",
        "Jane <>",
        "x" * 321 + "@example.com",
        "a,b@example.com",
        "jane@ex\nample.com",
    ],
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        parse(text)


def test_a_label_that_only_looks_encoded_stays_as_it_is() -> None:
    assert parse("a@xn--\N{SNOWMAN}.example").domain
    assert parse("a@xn--zzzzzzzzzzzzzzz99999999.example").domain == "xn--zzzzzzzzzzzzzzz99999999.example"
