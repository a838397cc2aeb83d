"""Fixtures that any test may ask for: a clean environment, a running sandbox, and the command line."""

from __future__ import annotations

import gc
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import folders
import pytest
from hypothesis import HealthCheck, settings
from terminal import Terminal
from world import ROOT, Rehearsal, World

from opsctl.config import Environment, load

CASES = 2
"""How many cases of a test `make test` runs in a sandbox."""
FOREIGN = ("AWS_", "PG", "REDIS", "OPSCTL_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

# How long an example takes, or to draw one, says how busy the machine is, and nothing about what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# The folder in which pytest makes `tmp_path`.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folders.ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take whether the snapshots are renewed."""
    parser.addoption("--renew", action="store_true", help="write the snapshots of plans anew instead of comparing them")


def pytest_xdist_auto_num_workers() -> int:
    """Three workers for two processors: a third of the time a worker waits for the sandbox or a process."""
    return (os.cpu_count() or 2) * 3 // 2


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what opsctl remembers on this machine out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nobody has set anything up, with a ledger of its own; returns its home."""
    for name in os.environ:
        if name.upper().startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OPSCTL_ENV", "sandbox")
    monkeypatch.setenv("OPSCTL_TEMPO", "0")
    return tmp_path


@pytest.fixture
def opsctl(machine: Path) -> Terminal:
    """Runs a command line: `opsctl("service", "scale", "api", "3")`; asks for no world by itself."""
    return Terminal()


@pytest.fixture(scope="session")
def rehearsal() -> Iterator[Rehearsal]:
    """The sandbox of this test process."""
    made = Rehearsal()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def world(rehearsal: Rehearsal, opsctl: Terminal, machine: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A sandbox as seeded, without faults, which the command line of this test meets."""
    monkeypatch.setenv("OPSCTL_SANDBOX", str(rehearsal.folder))
    rehearsal.reset()
    found = World(rehearsal, opsctl, machine)
    found.configure()
    monkeypatch.setenv("OPSCTL_CONFIG", str(found.config))
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most cases of a test that needs a sandbox to `make laws`: CASES of each, drawn by their names, are what a change needs."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        drawn = not any(item.get_closest_marker(name) for name in ("exhaustive", "every_case"))
        if drawn and "rehearsal" in getattr(item, "fixturenames", ()):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for many in cases.values():
        for item in sorted(many, key=lambda item: zlib.crc32(item.nodeid.encode()))[CASES:]:
            item.add_marker("exhaustive")


def pytest_collection_finish() -> None:
    """What the tests have imported stays: a collection that looked through it would be late, and leave files of dead tests open."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What a worker holds at its end goes with its process; to collect it first would take as long as many tests."""
    gc.freeze()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The shipped sandbox's, of a world that nobody started."""
    keys = re.findall(r'"world:(\w+)', (ROOT / "config" / "sandbox.toml").read_text())
    facts = {key: "5s" if key == "function_cache" else f"http://127.0.0.1:1/{key}" for key in keys}
    (tmp_path / "world.json").write_text(json.dumps({"ready": True, "facts": facts}))
    monkeypatch.setenv("OPSCTL_SANDBOX", str(tmp_path))
    return load("sandbox", str(ROOT / "config"))
