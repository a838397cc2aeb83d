"""A change outlives its release: by versions and upcasters where this release knows its kind, shown as it is where it doesn't."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from opsctl.contract import Change
from opsctl.engine import plan as plans
from opsctl.engine.ledger import codec as codecs
from opsctl.engine.ledger.codec import VERSION, Codec, UnknownChange, UnreadableError
from opsctl.engine.ledger.keys import Keyring
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.ledger.verify import verify
from opsctl.engine.options import Options
from opsctl.errors import PlanStale, Refused
from opsctl.testing.rig import Rig, Set


class SetLimit(Change, frozen=True, kw_only=True):
    """Once called `set-bound`, whose `top` became `most`, in two steps, each from one version to the next."""

    kind_version: ClassVar[int] = 3
    former_kinds: ClassVar[frozenset[str]] = frozenset(("set-bound",))
    upcasters: ClassVar[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {
        1: lambda fields: {**fields, "upper": fields.pop("top")},
        2: lambda fields: {**fields, "most": fields.pop("upper"), "unit": "tasks"},
    }

    most: int
    unit: str

    @property
    def target(self) -> str:
        return "limit"

    @property
    def summary(self) -> str:
        return f"limit to {self.most} {self.unit}"


CODEC = Codec(lambda tag: SetLimit if tag in codecs.tags(SetLimit) else None)
NOW = SetLimit(most=7, unit="tasks")


@pytest.mark.parametrize(
    "stored",
    [
        {"kind": "set-bound", "top": 7},
        {"kind": "set-limit", "top": 7},
        {"kind": "set-bound", VERSION: 2, "upper": 7},
        {"kind": "set-limit", VERSION: 3, "most": 7, "unit": "tasks"},
    ],
)
def test_each_version_is_read_as_the_present_one(stored: dict[str, Any]) -> None:
    assert CODEC.decode(json.dumps(stored).encode()) == NOW


def test_a_change_is_stored_with_its_version() -> None:
    stored = codecs.encoded(NOW)
    assert json.loads(stored) == {"kind": "set-limit", VERSION: 3, "most": 7, "unit": "tasks"}
    assert CODEC.decode(stored) == NOW
    assert VERSION not in json.loads(codecs.encoded(Set(name="a")))


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b'{"kind": "set-planet"}', "no kind of change called 'set-planet'"),
        (b'{"kind": "set-limit", "kind-version": 4, "most": 7}', "version 4 of 'set-limit', and this opsctl knows 3"),
        (b'{"kind": "set-limit", "kind-version": 3, "most": "seven"}', "can't be read"),
        (b'{"kind": "set-limit", "kind-version": 2}', "can't be read"),
        (b"[]", "can't be read"),
        (b"nonsense", "can't be read"),
        (b"\xff", "can't be read"),
        (b'{"kind": "set-limit", "kind-version": 1, "top": ' + b"[" * 100_000, "too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(stored: bytes, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        CODEC.decode(stored)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def rewritten(rig: Rig, run: str, change: str | bytes) -> Rig:
    """Another process, after another release wrote the change of a run's first step so."""
    rig.ledger.shut()
    with closing(sqlite3.connect(rig.ledger.store.path)) as db, db:  # type: ignore[attr-defined]
        db.execute("UPDATE steps SET change = CAST(? AS TEXT) WHERE run = ? AND seq = 1", (change, run))
    return Rig(rig.ledger.keyring.folder, rig.world)


UNREADABLE = ['{"kind":"set-planet","name":"a"}', '{"kind":"set","kind-version":9}', "nonsense", "[" * 100_000, b"\xff\xfe"]


@pytest.mark.parametrize("change", UNREADABLE)
def test_an_unreadable_change_is_shown_and_never_made_or_taken_back(rig: Rig, change: str | bytes) -> None:
    left = rig.run(Set(name="a"), Set(name="b"))
    assert left.run
    rig = rewritten(rig, left.run, change)
    first, second = rig.ledger.steps(left.run)
    assert isinstance(first.change, UnknownChange)
    assert (first.change.target, second.change.target) == ("a", "b")
    assert first.change.summary.startswith("set: ")
    made = list(rig.world.applied)
    run = rig.ledger.run(left.run)
    with pytest.raises(Refused, match="Step 1 of run"):
        rig.engine.resume(run, Options())
    with pytest.raises(Refused, match="Step 1 of run"):
        rig.engine.same_place(run, allow_cancelled=True)
    assert rig.world.applied == made


@pytest.mark.parametrize("change", UNREADABLE)
def test_an_unreadable_change_disturbs_no_other_run(rig: Rig, change: str | bytes) -> None:
    first = rig.run(Set(name="a"))
    rig = rewritten(rig, first.run or "", change)
    assert rig.run(Set(name="c")).result == "changed"
    assert rig.run(Set(name="a", after=2)).result == "changed"
    assert [run.result for run in rig.ledger.runs()] == ["changed"] * 3
    assert any("step 1" in line for line in verify(rig.ledger))


DAMAGE = {
    "a row": "UPDATE runs SET row = 'nonsense' WHERE id = ?",
    "a deep row": "UPDATE runs SET row = replace(printf('%.100000c', '['), '', '') WHERE id = ?",
    "a row of bytes": "UPDATE runs SET row = CAST(x'fffe' AS TEXT) WHERE id = ?",
    "a date": "UPDATE runs SET closed = 'yesterday' WHERE id = ?",
    "a step": "UPDATE steps SET evidence = '{' WHERE run = ?",
    "a step's date": "UPDATE steps SET begun = 'soon' WHERE run = ?",
    "an event": "UPDATE events SET detail = '[' WHERE run = ?",
    "an event's date": "UPDATE events SET at = 'noon' WHERE run = ?",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_costs_itself_alone_and_is_named(rig: Rig, damage: str) -> None:
    rig.run(Set(name="a"))
    bad, good = rig.run(Set(name="b")).run or "", rig.run(Set(name="c")).run or ""
    with closing(sqlite3.connect(rig.ledger.store.path)) as db, db:  # type: ignore[attr-defined]
        db.execute(DAMAGE[damage], (bad,))
    said: list[str] = []
    ledger = open_ledger(rig.ledger.store.path, rig.ledger._codec._find, warn=said.append)  # type: ignore[attr-defined]
    runs = [run.id for run in ledger.runs()]
    assert good in runs
    assert len(runs) >= 2
    for run in runs:
        ledger.steps(run)
        ledger.events(run)
    assert len(said) == (2 if damage.startswith("an event") else 1) or all(bad in line for line in said)
    assert all(bad in line and "runs verify" in line for line in said)
    assert said
    assert any(bad in line for line in verify(ledger))
    assert Rig(rig.ledger.keyring.folder, rig.world).run(Set(name="d")).result == "changed"


def saved(rig: Rig, folder: Path) -> Path:
    path = folder / "plan.json"
    plan = rig.engine.plan("set", lambda planning: [Set(name="a")], Options())
    plans.save(plan, path, rig.ledger.keyring)
    return path


def load(rig: Rig, path: Path, keys: Path | None = None) -> plans.Plan:
    return plans.load(path, Codec(lambda tag: Set), Keyring(keys or rig.ledger.keyring.folder))


def test_a_saved_plan_is_read_back(rig: Rig, tmp_path: Path) -> None:
    assert load(rig, saved(rig, tmp_path)).changes[0].change == Set(name="a")


def test_a_plan_of_another_key_is_refused(rig: Rig, tmp_path: Path) -> None:
    path = saved(rig, tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(PlanStale, match=r"signed with the key [0-9a-f]{8}"):
        load(rig, path, tmp_path / "other")


def test_a_plan_signed_with_a_former_key_is_good(rig: Rig, tmp_path: Path) -> None:
    path = saved(rig, tmp_path)
    rig.ledger.keyring.make()
    assert load(rig, path).changes


@pytest.mark.parametrize("digest", ["0" * 64, "{}"])
def test_a_plan_without_a_key_is_refused(rig: Rig, tmp_path: Path, digest: str) -> None:
    path = saved(rig, tmp_path)
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "digest": digest}))
    with pytest.raises(PlanStale, match="not signed"):
        load(rig, path)


def test_a_plan_rewritten_with_another_purposes_key_is_refused(rig: Rig, tmp_path: Path) -> None:
    """Whoever has a ledger of the same key can't take a hash of its chain for a plan's."""
    path = saved(rig, tmp_path)
    content = msgspec.json.decode(path.read_bytes())
    forged = rig.ledger.chain.link("", [content])
    path.write_bytes(msgspec.json.encode({**content, "digest": forged}))
    with pytest.raises(PlanStale, match="was edited"):
        load(rig, path)
