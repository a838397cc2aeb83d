from pathlib import Path

import msgspec
import pytest

from opsctl.playbook.schema import Playbook, PlaybookStep, json_schema

PUBLISHED = Path(__file__).parents[2] / "playbooks" / "schema.json"


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    assert msgspec.json.decode(PUBLISHED.read_bytes()) == json_schema(), "renew it: opsctl playbook lint --schema > playbooks/schema.json"


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ({}, "exactly one"),
        ({"ask": "a", "run": "b"}, "exactly one"),
        ({"run": "a", "choices": ["x", "y"]}, "allowed only in an ask"),
        ({"verify": "a", "within": "5m"}, "allowed only in an ask"),
        ({"ask": "a", "follows": "b"}, "allowed only in a run or a verify"),
        ({"ask": "a", "choices": ["yes", "yes"]}, "different"),
        ({"ask": "a", "within": "soon"}, "regex"),
        ({"ask": ""}, "length"),
        ({"ask": "a", "id": "Not this"}, "regex"),
        ({"ask": "a", "wen": {}}, "unknown field"),
    ],
)
def test_a_step_that_says_too_much_or_too_little_is_refused(step: dict[str, object], wrong: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=wrong):
        msgspec.convert(step, PlaybookStep)


def test_a_step_is_found_by_its_id_or_its_number() -> None:
    playbook = Playbook(title="t", steps=[PlaybookStep(ask="a"), PlaybookStep(ask="b", id="second")])
    assert [playbook.number(k) for k in ("1", "2", "second", "third", "0")] == [1, 2, 2, None, None]
    assert [playbook.key(n) for n in (1, 2)] == ["1", "second"]
