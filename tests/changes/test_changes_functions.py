"""What changes to functions are without a world: kept, taken back, and never told."""

from __future__ import annotations

import msgspec

from opsctl.changes import decode
from opsctl.changes.base import Never
from opsctl.changes.functions import RefreshFunction, ServeLatest, Stored
from opsctl.changes.secrets import MoveSecretStage
from opsctl.changes.variables import AskFirst, SetFunctionVariable

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
        assert msgspec.json.encode(decode(raw)) == raw


def test_what_is_taken_back_twice_is_what_it_was() -> None:
    for change in (SET, REFRESH, SERVE):
        back = change.inverse()
        assert not isinstance(back, Never)
        assert back.difference() == tuple(reversed(change.difference()))
        assert back.inverse() == change


def test_what_cannot_be_taken_back_says_why() -> None:
    compromised = msgspec.structs.replace(SET, compromised=True).inverse()
    lost = msgspec.structs.replace(SET, stored=msgspec.structs.replace(STORED, former=None)).inverse()
    assert compromised == Never("the old value is compromised")
    assert isinstance(lost, Never)
    assert "/hh/edge" in lost.why
    assert isinstance(ASK.inverse(), Never)
    assert isinstance(msgspec.structs.replace(SERVE, compromised=True).inverse(), Never)


def test_each_rests_on_what_comes_before_it() -> None:
    assert SET.uses == {"secret/edge/OPSCTL"}
    assert SERVE.uses == {SET.target} == {"function/authz/EDGE"}
    assert REFRESH.uses == {"secret/edge/AWSCURRENT"}


def test_only_the_way_there_is_spared_the_wait_for_a_cache() -> None:
    there = msgspec.structs.replace(MOVE, cached_by=("lease",), cache=300.0, refreshed=True)
    back = there.inverse()
    assert isinstance(back, MoveSecretStage)
    assert (back.cached_by, back.cache, back.refreshed) == (("lease",), 300.0, False)
