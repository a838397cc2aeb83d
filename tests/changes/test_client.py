"""The one change that is made on the customer's machine."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opsctl import config
from opsctl.adapters.host.hh import HhClient
from opsctl.adapters.host.machine import Machine
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.changes import find_kind
from opsctl.changes.client import SetEdgeAuth
from opsctl.contract import Done, Drifted, Irreversible, Pending
from opsctl.engine.ledger.codec import Codec
from opsctl.errors import DriftError, InputRequired, NotFound, Refused
from opsctl.protocols import no_progress
from opsctl.shell import Script

OLD, NEW = "the-old-edge-secret", "the-new-edge-secret"


def name(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / ".hh" / "config.json"
    found.parent.mkdir()
    found.write_text(json.dumps({"edge_auth": OLD, "code": "PAIR-1"}))
    return found


@pytest.fixture
def systems(tmp_path: Path) -> Any:
    here = Machine(user="jo", uid=os.geteuid(), groups=frozenset(), docker_group=None, variables={}, home=tmp_path, etc=tmp_path / "etc")
    return SimpleNamespace(client=HhClient(here, writing=True), fingerprint=lambda raw: name(raw.decode()), values=SecretSources())


def change(path: Path, **given: Any) -> SetEdgeAuth:
    return SetEdgeAuth(**{"path": str(path), "source": "env:NEW_EDGE", "before": name(OLD), "after": name(NEW), **given})


def test_it_is_made_once(path: Path, systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_EDGE", NEW)
    it = change(path)
    assert isinstance(it.check(systems), Pending)
    assert it.apply(systems, "run-1", no_progress) == {"fingerprint": name(NEW)}
    assert json.loads(path.read_text()) == {"edge_auth": NEW, "code": "PAIR-1"}
    assert isinstance(it.check(systems), Done)


def test_a_field_that_was_missing_is_added(path: Path, systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_EDGE", NEW)
    path.write_text('{"code": "PAIR-1"}')
    it = change(path, before=None)
    assert isinstance(it.check(systems), Pending)
    it.apply(systems, "run-1", no_progress)
    assert json.loads(path.read_text()) == {"code": "PAIR-1", "edge_auth": NEW}


def test_what_somebody_else_set_is_not_overwritten(path: Path, systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_EDGE", NEW)
    path.write_text(json.dumps({"edge_auth": "theirs"}))
    found = change(path).check(systems)
    assert isinstance(found, Drifted)
    assert "theirs" not in found.why
    with pytest.raises(DriftError):
        change(path).apply(systems, "run-1", no_progress)
    assert json.loads(path.read_text()) == {"edge_auth": "theirs"}


def test_another_value_than_the_reviewed_one_is_refused(path: Path, systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_EDGE", "not-the-reviewed-one")
    with pytest.raises(Refused, match="isn't the one in the plan"):
        change(path).apply(systems, "run-1", no_progress)
    monkeypatch.delenv("NEW_EDGE")
    systems.values = SecretSources()
    with pytest.raises(InputRequired):
        change(path).apply(systems, "run-1", no_progress)
    assert json.loads(path.read_text())["edge_auth"] == OLD


def test_a_missing_file_ends_the_plan(path: Path, systems: Any) -> None:
    path.unlink()
    with pytest.raises(NotFound):
        change(path).check(systems)


def test_it_has_no_way_back_and_says_why(path: Path) -> None:
    back = change(path).inverse()
    assert isinstance(back, Irreversible)
    assert "doesn't store the former edge_auth" in back.why


def test_it_is_kept_and_shown_without_a_value(path: Path) -> None:
    import msgspec

    it = change(path)
    assert Codec(find_kind).decode(msgspec.json.encode(it)) == it
    assert it.target == f"client{path}"
    script = str(Script(title="", statements=tuple(it.as_shell(config.local()))))
    assert f"set_field {path} edge_auth " in script
