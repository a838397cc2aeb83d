"""Law 1: a dry run cannot write, by construction. It only ever holds reading systems, and each of those stands behind a second wall."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from scenarios import Rehearsed, every
from world import CLUSTER, SERVICES, World

import opsctl.adapters
from opsctl import config
from opsctl.adapters.base import Adapter
from opsctl.adapters.host.prompt import Prompt
from opsctl.adapters.host.secret_sources import SecretSources
from opsctl.changes import all_kinds
from opsctl.cli.command import OpsCommand
from opsctl.errors import ReadOnly
from opsctl.systems import Systems


@every()
def test_a_dry_run_leaves_the_world_as_it_was_and_only_apply_is_handed_the_systems_that_write(it: Rehearsed) -> None:
    handed = it.world.home / "handed"

    def note(where: str, writing: bool) -> None:
        with handed.open("a") as file:
            file.write(f"{where} {writing}\n")

    def watch() -> None:
        for kind in all_kinds():
            _watched(kind, "check", note)
            _watched(kind, "apply", note)
        change = OpsCommand._change

        def noted(self: Any, *args: Any) -> None:
            function = self.function
            self.function = lambda planning, **own: note("plan", planning.systems.writing) or function(planning, **own)
            change(self, *args)

        OpsCommand._change = noted  # type: ignore[method-assign]

    assert it.dry("--save", str(it.world.home / "plan"), "--as-shell", check=3, before=watch).json["dry_run"]
    it.untouched()
    assert set(handed.read_text().split("\n")) - {""} == {"plan False", "check False"}
    it.run(check=0, before=watch)
    assert set(handed.read_text().split("\n")) - {""} == {"plan False", "check False", "apply True"}


def _watched(kind: Any, name: str, note: Callable[[str, bool], None]) -> None:
    method = getattr(kind, name)

    def noted(self: Any, systems: Systems, *rest: Any) -> Any:
        note(name, systems.writing)
        return method(self, systems, *rest)

    setattr(kind, name, noted)


def adapters(base: type[Adapter] = Adapter) -> Iterator[type[Adapter]]:
    """Every adapter there is."""
    for module in pkgutil.walk_packages(opsctl.adapters.__path__, "opsctl.adapters."):
        importlib.import_module(module.name)
    for kind in base.__subclasses__():
        if kind.__module__.startswith("opsctl."):
            yield kind
        yield from adapters(kind)


WRITING = sorted({(kind, name) for kind in adapters() for name, each in inspect.getmembers(kind) if hasattr(each, "writes")}, key=str)


def test_adapters_have_marked_methods() -> None:
    assert len({kind for kind, _ in WRITING}) >= 8
    assert len(WRITING) >= 15


@pytest.mark.parametrize(("kind", "name"), [pytest.param(k, n, id=f"{k.__name__}.{n}") for k, n in WRITING])
def test_a_marked_method_refuses_on_a_reading_adapter(kind: type[Adapter], name: str) -> None:
    adapter = object.__new__(kind)
    adapter.writing = False
    method = getattr(adapter, name)
    needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    with pytest.raises(ReadOnly):
        method(*[None] * len(needed))


@pytest.fixture
def reading(world: World, machine: Path) -> Iterator[Systems]:
    """The systems that a dry run holds."""
    environment = config.load("sandbox", str(world.config))
    systems = Systems(
        environment,
        writing=False,
        person=Prompt(),
        values=SecretSources(),
        history=None,  # type: ignore[arg-type]
        fingerprint=lambda _: "",
    )
    yield systems
    systems.shut()


def aws_by_hand(systems: Systems) -> None:
    systems.aws.client("ecs").update_service(cluster=CLUSTER, service=SERVICES["api"], desiredCount=9)


def secret_by_hand(systems: Systems) -> None:
    systems.aws.client("secretsmanager").put_secret_value(SecretId="safawinet/prod/mail-key", SecretString="{}")


def redis_by_hand(systems: Systems) -> None:
    systems.redis._main.set("session:1:1", "stolen")


def piped_by_hand(systems: Systems) -> None:
    systems.redis._main.pipeline(transaction=False).delete("session:1:1").execute()


def query_by_hand(systems: Systems) -> None:
    systems.database.query("DELETE FROM refresh_sessions RETURNING id")


def connection_by_hand(systems: Systems) -> None:
    systems.database._connection.execute(b"DELETE FROM refresh_sessions")  # type: ignore[attr-defined]


def http_by_hand(systems: Systems) -> None:
    systems.api._http.client.post("/v1/auth/force-logout-all", json={})


HANDS = [aws_by_hand, secret_by_hand, redis_by_hand, piped_by_hand, query_by_hand, connection_by_hand, http_by_hand]


@pytest.mark.parametrize("hand", HANDS)
def test_what_goes_around_the_mark_meets_a_wall(hand: Callable[[Systems], None], reading: Systems, world: World) -> None:
    before = world.snapshot()
    with pytest.raises((ReadOnly, psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
        hand(reading)
    assert world.snapshot() == before
