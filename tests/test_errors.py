"""The tree of errors: each kind has an exit code and a result that the documentation knows."""

from __future__ import annotations

import re

import pytest

from opsctl import errors
from opsctl.errors import OpsctlError

RESULTS = {"refused", "failed", "unknown", "waiting", "partial"}


def kinds(base: type[OpsctlError] = OpsctlError) -> list[type[OpsctlError]]:
    return [base] + [kind for child in base.__subclasses__() if child.__module__ == "opsctl.errors" for kind in kinds(child)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_each_has_its_place_in_the_drawn_tree(kind: type[OpsctlError]) -> None:
    drawn = errors.__doc__ or ""
    assert re.search(rf"\b{kind.__name__}\b", drawn), "the module's docstring draws the whole tree"
    assert kind.exit_code in (1, 2, 3, 4, 5, 6, 7)
    assert kind.result in RESULTS


def test_the_drawn_codes_are_the_real_ones() -> None:
    for name, code in re.findall(r"(\w+)\s{2,}(\d)\s", errors.__doc__ or ""):
        assert getattr(errors, name).exit_code == int(code), name


def test_what_and_next_are_kept_apart() -> None:
    error = OpsctlError("it broke", "mend it")
    assert (str(error), error.what, error.next) == ("it broke", "it broke", "mend it")
    assert OpsctlError("it broke").next == ""


def test_an_outside_error_keeps_that_systems_own_code_and_words() -> None:
    error = errors.Denied("AWS denied it.", "Ask for it.", code="AccessDenied", words="You may not.")
    assert error.as_json() == {
        "type": "Denied",
        "what": "AWS denied it.",
        "next": "Ask for it.",
        "code": "AccessDenied",
        "words": "You may not.",
    }
    assert OpsctlError("it broke").as_json() == {"type": "OpsctlError", "what": "it broke", "next": ""}


@pytest.mark.parametrize(
    ("hints", "told"),
    [
        ([], "opsctl runs resume R"),
        ([""], "opsctl runs resume R"),
        (["Check the network (VPN), then run it again."], "Check the network (VPN); then: opsctl runs resume R"),
        (["Set X and run it again."], "Set X; then: opsctl runs resume R"),
        (["Ask for s3:Get.", "Wait a minute, then run it again."], "Ask for s3:Get; then: Wait a minute; then: opsctl runs resume R"),
    ],
)
def test_the_line_to_type_stands_once_behind_the_hints(hints: list[str], told: str) -> None:
    assert errors.followed(*hints, line="opsctl runs resume R") == told
