"""What changes to functions are without a world: kept, taken back, and never told."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from opsctl.adapters.aws.functions import Alias, FunctionState, Variables
from opsctl.changes import find_kind
from opsctl.changes.functions import RefreshFunction, ServeLatest, Stored
from opsctl.changes.secrets import MoveSecretStage
from opsctl.changes.variables import AskFirst, SetFunctionVariable
from opsctl.contract import Done, Irreversible, Pending
from opsctl.engine.ledger.codec import Codec
from opsctl.errors import Refused

STORED = Stored(id="/hh/edge", key="secret", region="us-west-2", version="new", former="old")
WHERE = {"name": "authz", "function": "hh-authz", "region": "us-west-2"}
ASK = AskFirst(**WHERE, variable="EDGE", question="Ready?", before="aaaa")
SET = SetFunctionVariable(**WHERE, secret="edge", variable="EDGE", stored=STORED, before="aaaa", fingerprint="bbbb")
REFRESH = RefreshFunction(**WHERE, secret="edge", before="decides", after="decides [edge 12345678]")
SERVE = ServeLatest(**WHERE, alias="live", before="7", rests_on=SET.target, stored=STORED)
MOVE = MoveSecretStage(name="edge", id="/hh/edge", stage="AWSCURRENT", before="old", after="new")


def test_each_is_kept_byte_by_byte() -> None:
    """Else the digest of a saved plan wouldn't hold."""
    for change in (ASK, SET, REFRESH, SERVE, MOVE):
        raw = msgspec.json.encode(change)
        assert msgspec.json.encode(Codec(find_kind).decode(raw)) == raw


def test_what_is_taken_back_twice_is_what_it_was() -> None:
    for change in (SET, REFRESH, SERVE):
        back = change.inverse()
        assert not isinstance(back, Irreversible)
        assert back.difference() == tuple(reversed(change.difference()))
        assert back.inverse() == change


def test_what_cannot_be_taken_back_says_why() -> None:
    compromised = msgspec.structs.replace(SET, compromised=True).inverse()
    lost = msgspec.structs.replace(SET, stored=msgspec.structs.replace(STORED, former=None)).inverse()
    assert compromised == Irreversible("the old value is compromised")
    assert isinstance(lost, Irreversible)
    assert "/hh/edge" in lost.why
    assert isinstance(ASK.inverse(), Irreversible)
    assert isinstance(msgspec.structs.replace(SERVE, compromised=True).inverse(), Irreversible)


def test_each_rests_on_what_comes_before_it() -> None:
    assert SET.depends_on == {"secret/edge/OPSCTL"}
    assert SERVE.depends_on == {SET.target} == {"function/authz/EDGE"}
    assert REFRESH.depends_on == {"secret/edge/AWSCURRENT"}


def test_only_the_way_there_is_spared_the_wait_for_a_cache() -> None:
    there = msgspec.structs.replace(MOVE, cached_by=("lease",), cache=300.0, refreshed=True)
    back = there.inverse()
    assert isinstance(back, MoveSecretStage)
    assert (back.cached_by, back.cache, back.refreshed) == (("lease",), 300.0, False)


def functions(*, split: bool = False, **other: Any) -> Any:
    """A function whose alias serves version 7, of which $LATEST differs in what is given."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    served = FunctionState("hh-authz", "7", "r", "Successful", "", at, "decides", "code", Variables({"LEVEL": "info"}), {"Timeout": 10})
    latest = msgspec.structs.replace(served, version="$LATEST", **other)
    states = {"$LATEST": latest, "7": served}
    return SimpleNamespace(
        functions=SimpleNamespace(
            alias=lambda *_: Alias("live", "7", "r", split),
            state=lambda name, region=None, version="$LATEST": states[version],
        )
    )


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"settings": {"Timeout": 60}}, "Timeout"),
        ({"settings": {"Timeout": 10, "Layers": [{"Arn": "l"}]}}, "Layers"),
        ({"settings": {}}, "Timeout"),
        ({"settings": {"Timeout": 10, "Role": "admin"}, "code": "new"}, "the code, Role"),
    ],
)
def test_publishing_carries_nothing_else_along(other: dict[str, Any], named: str) -> None:
    """The description is our own change, and makes publishing necessary."""
    refresh = msgspec.structs.replace(REFRESH, alias="live")
    serve = msgspec.structs.replace(SERVE, stored=None)
    for change, read in ((refresh, functions(**other)), (serve, functions(description="anew", **other))):
        with pytest.raises(Refused, match=f"that live .version 7. doesn't have .{named}.: publishing would make them live"):
            change.check(read)
    assert isinstance(refresh.check(functions()), Pending)
    assert isinstance(serve.check(functions(description="anew")), Pending)
    assert isinstance(serve.check(functions()), Done)


def test_a_weighted_alias_is_refused() -> None:
    serve = msgspec.structs.replace(SERVE, stored=None)
    for after in (None, "7", "8"):
        with pytest.raises(Refused, match="serves two versions: a release is in progress"):
            msgspec.structs.replace(serve, after=after).check(functions(split=True, description="anew"))
    for change in (REFRESH, SET):
        with pytest.raises(Refused, match="serves two versions"):
            msgspec.structs.replace(change, alias="live").all_served(functions(split=True), functions().functions.state(""), "live")
