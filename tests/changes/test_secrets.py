"""A secret of JSON gets one member; the others stay as somebody wrote them."""

from __future__ import annotations

import pytest

from opsctl.changes.secrets import StageSecretVersion
from opsctl.errors import Refused
from opsctl.redaction import Secret


def staged() -> StageSecretVersion:
    return StageSecretVersion(name="jwt", id="jwt", key="secret", version="v", before="b", source="env:NEW")


@pytest.mark.parametrize(
    ("held", "merged"),
    [
        (
            '{"secret": "old", "price": 1.10, "big": 123456789012345678901234567890.5}',
            '{"secret": "new", "price": 1.10, "big": 123456789012345678901234567890.5}',
        ),
        ('{ "name":"Jos\u00e9",\n  "secret" : "old" }', '{ "name":"Jos\u00e9",\n  "secret" : "new" }'),
        ('{"a": 1, "a": 2, "secret": null}', '{"a": 1, "a": 2, "secret": "new"}'),
        ('{"small": 1e-400, "secret": {"deep": []}}', '{"small": 1e-400, "secret": "new"}'),
    ],
)
def test_every_other_byte_stays(held: str, merged: str) -> None:
    assert staged()._replaced(Secret(held), "secret", Secret("new")).reveal() == merged


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ("the-former-value", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ("", "is not a JSON object"),
        ('{"secret": "the-former-value", "secret": "b"}', "the key 'secret' twice"),
    ],
)
def test_what_cant_be_merged_is_refused_without_its_text(held: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        staged()._replaced(Secret(held), "secret", Secret("new"))
    assert "the-former-value" not in f"{refused.value!r} {refused.value.__cause__!r}"
