"""The tree of errors: each kind has an exit code and a result that the documentation knows."""

from __future__ import annotations

import re

import pytest

from opsctl import errors
from opsctl.errors import Hint, OpsctlError, Retry

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
    ("hints", "first"),
    [
        ([], ""),
        ([""], ""),
        ([Retry("Check the network (VPN)")], "Check the network (VPN)"),
        ([Retry(run="R"), "Ask for s3:Get.", Retry("Wait a minute"), "Ask for s3:Get."], "Ask for s3:Get; then: Wait a minute"),
    ],
)
def test_several_hints_become_one_that_names_each_step_once(hints: list[Hint], first: str) -> None:
    assert errors.retry_after(hints, "R", options=("--skip x",)) == Retry(first, "R", ("--skip x",))


def test_a_hint_to_retry_is_a_sentence_that_names_no_command() -> None:
    assert str(Retry()) == "Run the same command again."
    assert str(Retry("Wait a minute.")) == "Wait a minute, then run the same command again."
    assert OpsctlError("it broke", Retry("Fix it")).as_json()["next"] == "Fix it, then run the same command again."
