"""A world in memory for playbooks: three kinds of change, a group of commands of its own, and a person who answers from a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest

from opsctl.adapters.host.prompt import Prompt
from opsctl.cli import app as cli
from opsctl.cli.command import OpsGroup, local, mutating, read_only
from opsctl.cli.context import AppContext
from opsctl.config import Environment
from opsctl.contract import Change, Done, Irreversible, OutcomeKnownBy, Pending, Planning
from opsctl.engine.ledger.ledger import open_ledger
from opsctl.engine.options import Options
from opsctl.engine.reporter import Reporter
from opsctl.errors import ExternalError, InputRequired
from opsctl.protocols import ProgressCallback
from opsctl.render.shapes import Check, Page, Verdict
from opsctl.settings import AwsSettings, LimitSettings, Settings
from opsctl.shell import Statement, run
from opsctl.systems import Systems

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
LATER = timedelta(minutes=10)


class Killed(BaseException):
    """The process is gone: nothing after it is done or recorded."""


class World:
    """Values by name, since when each is there on this world's own clock, and every effect in order."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.since: dict[str, datetime] = {}
        self.effects: list[str] = []
        self.sizes: dict[str, int] = {}
        self.broken: set[str] = set()
        self.good = True
        self.blind = False
        self.parts: dict[str, int | None] = {}
        self.die_before: str | None = None
        self.die_after: str | None = None

    def now(self) -> datetime:
        """Ten minutes ahead of everybody else, so that a binding shows whose clock it took."""
        return datetime.now(UTC) + LATER

    def write(self, name: str, value: str) -> None:
        if name in self.broken:
            raise ExternalError(f"{name} is broken.", "Mend it.")
        if self.die_before == name:
            raise Killed
        self.values[name], self.since[name] = value, self.now()
        self.effects.append(f"{name}={value}")
        if self.die_after == name:
            raise Killed


WORLDS: dict[str, World] = {}


def world(systems: Systems) -> World:
    return WORLDS[str(systems.environment.path)]


class Put(Change, frozen=True, kw_only=True, tag="test-put"):
    """`name` is `value`, not written before `after`."""

    poll: ClassVar[float] = 0

    name: str
    value: str
    after: datetime

    @property
    def target(self) -> str:
        return f"name/{self.name}"

    @property
    def summary(self) -> str:
        return f"put {self.name}={self.value}"

    def check(self, read: Systems) -> Done | Pending:
        here = world(read)
        if here.values.get(self.name) == self.value and here.since[self.name] > self.after:
            return Done("it is there", here.since[self.name])
        return Pending(here.sizes.get(self.name, 1), "things")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> dict[str, Any]:
        world(write).write(self.name, self.value)
        return {}

    def inverse(self) -> Irreversible:
        return Irreversible("a test")

    def as_shell(self, environment: Environment) -> list[Statement]:
        return [run("put", self.name)]


class Send(Change, frozen=True, kw_only=True, tag="test-send"):
    """A message is sent; nobody can tell whether it was."""

    outcome_known_by: ClassVar[OutcomeKnownBy] = "nothing"

    text: str

    @property
    def target(self) -> str:
        return "channel"

    @property
    def proven_by_history(self) -> bool:
        return True

    @property
    def summary(self) -> str:
        return f"send {self.text}"

    def check(self, read: Systems) -> Pending:
        return Pending(1, "messages")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> dict[str, Any]:
        here = world(write)
        here.write("sent", self.text)
        return {"at": here.since["sent"].isoformat()}

    def inverse(self) -> Irreversible:
        return Irreversible("a test")

    def as_shell(self, environment: Environment) -> list[Statement]:
        return [run("send", self.text)]


def find_kind(tag: str) -> type[Change] | None:
    """The kinds of this world."""
    return next((kind for kind in (Put, Send) if kind.__struct_config__.tag == tag), None)


def commands() -> OpsGroup:
    """A tree of commands over that world."""
    root = OpsGroup("opsctl")

    @root.command()
    @click.argument("name")
    @click.argument("value")
    @click.option("--times", type=int, default=1)
    @mutating
    def put(planning: Planning, name: str, value: str, times: int) -> Iterator[Change]:
        yield Put(name=name, value=value, after=planning.follows or EPOCH)

    @root.command()
    @click.argument("text")
    @mutating
    def send(planning: Planning, text: str) -> Iterator[Change]:
        yield Send(text=text)

    @root.command()
    @mutating
    def fussy(planning: Planning) -> Iterator[Change]:
        raise click.UsageError("Say more.")
        yield

    @root.command()
    @click.argument("why", required=False)
    @read_only
    def healthy(systems: Systems, why: str | None) -> Verdict:
        return Verdict([Check("healthy", world(systems).good)], "Heal it.")

    @root.command()
    @read_only
    def rows(systems: Systems) -> list[dict[str, str]]:
        if world(systems).blind:
            raise ExternalError("The world is dark.")
        return [{"name": n, "value": v} for n, v in world(systems).values.items()]

    @root.command()
    @read_only
    def page(systems: Systems) -> Page:
        dark = {"state": "could not be queried", "why": "it is dark"}
        return Page([(title, [dark if value is None else {"value": value}]) for title, value in world(systems).parts.items()])

    @root.command()
    @local
    def business(invocation: AppContext) -> None:
        return None

    return root


class Answers(Prompt):
    """Answers from a list; when it is empty, nobody is here. An answer that is an exception is raised."""

    def __init__(self, answers: Sequence[str | type[BaseException]] = ()) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    def text(self, question: str, otherwise: str) -> str:
        self.asked.append(question)
        if not self.answers:
            raise InputRequired(f"{question}: nobody is here to answer.", otherwise)
        answer = self.answers.pop(0)
        if not isinstance(answer, str):
            raise answer
        return answer


class Watch(Reporter):
    """Keeps every line that it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, line: str) -> None:
        self.lines.append(line)


class House:
    """One machine: a ledger, a world, and as many processes as are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = WORLDS[str(folder)] = World()
        self.protected, self.sandbox, self.digest = False, True, "c0ffee"
        self.limit = 100_000

    def write(self, text: str, name: str = "drill") -> Path:
        path = self.folder / "playbooks" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def process(self, *answers: str | type[BaseException], output: str = "table") -> AppContext:
        """Another process on this machine: everything new but the ledger's file and the world."""
        limits = LimitSettings(max_affected=self.limit)
        aws = AwsSettings(account="123456789012", region="us-east-1")
        settings = Settings(title="test", protected=self.protected, sandbox=self.sandbox, aws=aws, limits=limits)
        invocation = AppContext(name="test", output=output)
        person = Answers(answers)
        environment = Environment("test", self.folder, self.digest, settings)
        caller = SimpleNamespace(account="123456789012", arn="arn:aws:iam::123456789012:user/oncall")
        ledger = open_ledger(self.folder / "state" / "ledger.db", find_kind)
        invocation.__dict__.update(environment=environment, person=person, ledger=ledger, reporter=Watch())
        for name, writing in (("read", False), ("write", True)):
            history, fingerprint = invocation.history, invocation.fingerprint
            systems = Systems(environment, writing=writing, person=person, values=None, history=history, fingerprint=fingerprint)  # type: ignore[arg-type]
            systems.__dict__["aws"] = SimpleNamespace(caller=caller, verify_account=lambda: None)
            invocation.__dict__[name] = systems
        return invocation


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> OpsGroup:
    """The tree of commands, in place of opsctl's own."""
    root = commands()
    monkeypatch.setattr(cli, "root", root)
    return root


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: OpsGroup) -> House:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("OPSCTL_TEMPO", "0")
    return House(tmp_path)


YES = Options(yes=True)
DRY = Options(dry_run=True)
