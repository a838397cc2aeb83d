"""The lock holds, for each Python that opsctl supports, a version of everything that pyproject.toml asks for, with its hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]]
EXTRAS = PROJECT["project"]["optional-dependencies"]
FILES = {
    "core": CORE,
    "sandbox": [*CORE, *EXTRAS["sandbox"]],
    "tools": [*CORE, *(wanted for extra in EXTRAS.values() for wanted in extra)],
    "bench": [*CORE, *EXTRAS["sandbox"], *PROJECT["dependency-groups"]["bench"]],
}


def pinned(file: str) -> list[Requirement]:
    text = (ROOT / "lock" / f"{file}.txt").read_text()
    entries = re.findall(r"^([a-z0-9][^\\\n]*) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), "an entry has no hash"
    return [Requirement(entry) for entry, _ in entries]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("file", FILES)
def test_the_lock_holds_what_the_project_asks_for(file: str, python: str) -> None:
    machine = {"python_version": python, "python_full_version": f"{python}.4", "sys_platform": "linux", "platform_machine": "x86_64"}
    held = {each.name: each for each in pinned(file) if each.marker is None or each.marker.evaluate(machine)}
    wanted = [Requirement(each) for each in FILES[file]]
    for each in wanted:
        if each.name == PROJECT["project"]["name"] or (each.marker and not each.marker.evaluate(machine)):
            continue
        (version,) = (clause.version for clause in held[each.name.lower()].specifier)
        assert each.specifier.contains(version), f"{each} is locked at {version}: renew the lock with make upgrade"
