import pytest

from opsctl.playbook import conditions
from opsctl.playbook.schema import PlaybookStep, When


@pytest.mark.parametrize(
    ("when", "known", "holds"),
    [
        ([], {}, True),
        ({"a": "x"}, {"a": "x"}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": "x"}, {}, None),
        ({"a": "x", "b": "y"}, {"a": "z"}, False),
        ({"a": "x", "b": "y"}, {"a": "x"}, None),
        ([{"a": "x"}, {"b": "y"}], {"a": "x"}, True),
        ([{"a": "x"}, {"b": "y"}], {"a": "z"}, None),
        ([{"a": "x"}, {"b": "y"}], {"a": "z", "b": ""}, False),
    ],
)
def test_when_holds_doesnt_or_depends(when: When, known: dict[str, str], holds: bool | None) -> None:
    assert conditions.evaluate(PlaybookStep(ask="q", when=when), known) is holds


def test_when_is_said_in_words() -> None:
    step = PlaybookStep(ask="q", when=[{"a": "x", "b": ["y", "z"]}, {"c": "w"}])
    assert conditions.describe(step) == "a is x and b is y or z, or c is w"
