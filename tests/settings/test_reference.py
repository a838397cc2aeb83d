"""Every key of a configuration file is described, in one sentence or two, with its type and its default."""

from __future__ import annotations

import pytest

from opsctl.settings.reference import tables


def test_every_table_and_key_is_described() -> None:
    for table in tables():
        assert table.description.endswith("."), table.header
        for key in table.keys:
            assert key.description.endswith("."), f"{table.header} {key.name}"


@pytest.mark.parametrize(
    ("header", "name", "type", "default"),
    [
        ("", "title", "text", "required"),
        ("[limits]", "recently", "duration", '"2m"'),
        ("[services.NAME]", "cluster", "text", "required"),
        ("[alerts.ecs-cpu]", "above", "number", "70.0"),
        ("[redis.reader]", "password", "reference", "required"),
        ("[bounces]", "marked", "list of text", '["bounced", "complained"]'),
        ("[protection]", "exempt", "table of list of text", ""),
        ("[[people]]", "role", "text", "required"),
    ],
)
def test_a_key_has_its_type_and_default(header: str, name: str, type: str, default: str) -> None:
    (key,) = [key for table in tables() if table.header == header for key in table.keys if key.name == name]
    assert (key.type, key.default) == (type, default)
