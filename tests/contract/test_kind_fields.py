"""The stored fields of a kind change only together with its version: what an earlier release stored stays readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opsctl.changes import all_kinds

FILE = Path(__file__).parents[1] / "snapshots" / "kinds.json"
PROSE = ("title", "description", "default")

Fields = dict[str, Any]


def stored_fields() -> dict[str, Fields]:
    """Each kind's version and the JSON schema of its fields, by tag."""
    return {
        str(kind.__struct_config__.tag): {"version": kind.kind_version, **without_prose(msgspec.json.schema(kind))} for kind in all_kinds()
    }


def without_prose(schema: Any) -> Any:
    """A schema without titles, docstrings and defaults, which are not stored."""
    if isinstance(schema, dict):
        return {name: without_prose(part) for name, part in schema.items() if name not in PROSE or isinstance(part, dict)}
    return [without_prose(part) for part in schema] if isinstance(schema, list) else schema


def changed_without_version(before: dict[str, Fields], now: dict[str, Fields]) -> list[str]:
    """The tags whose fields differ although the version is not higher."""
    return [tag for tag in before.keys() & now.keys() if before[tag] != now[tag] and now[tag]["version"] <= before[tag]["version"]]


def test_fields_change_only_with_a_new_version(request: pytest.FixtureRequest) -> None:
    before, now = json.loads(FILE.read_text()) if FILE.exists() else {}, stored_fields()
    assert changed_without_version(before, now) == [], "increase the kind's kind_version and add an upcaster from the version before"
    former = {tag for kind in all_kinds() for tag in kind.former_kinds}
    assert before.keys() - now.keys() <= former, "a renamed kind keeps its former tag in former_kinds"
    if request.config.getoption("renew"):
        FILE.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    else:
        assert before == now, "read the change, then `make snapshots`"


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_each_former_version_has_an_upcaster(kind: Any) -> None:
    assert set(kind.upcasters) == set(range(1, kind.kind_version))


@pytest.mark.parametrize("version", [1, 2])
def test_another_field_type_or_name_shows(version: int) -> None:
    before: dict[str, Fields] = {"set": {"version": 1, "$defs": {"Set": {"properties": {"name": {"type": "string"}}}}}}
    for properties in ({"name": {"type": "integer"}}, {"title": {"type": "string"}}, {}):
        now: dict[str, Fields] = {"set": {"version": version, "$defs": {"Set": {"properties": properties}}}}
        assert changed_without_version(before, now) == (["set"] if version == 1 else [])
