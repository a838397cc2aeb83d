"""The README's tour, typed line by line in the sandbox."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from terminal import ROOT
from world import World

README = (ROOT / "README.md").read_text()
TOUR = README.partition("## A tour")[2].partition("## Install")[0]
LINES = [
    line.removeprefix("$ ")
    for kind, body in re.findall(r"^```(bash|console)\n(.*?)^```$", TOUR, re.MULTILINE | re.DOTALL)
    for line in body.splitlines()
    if line.startswith("opsctl " if kind == "bash" else "$ opsctl ")
]
SHOWN = re.findall(r"^```console\n\$ (.*)\n((?s:.*?))^```$", TOUR, re.MULTILINE)
WITHOUT = ("sandbox up", "sandbox down", "runs resume RUN")
"""Lines that the fixture stands for, or that need a run which was interrupted."""


def test_every_line_of_the_tour_works(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ""
    for line in LINES:
        words = line.removeprefix("opsctl ")
        if words in WITHOUT:
            continue
        if words.startswith("playbook run") and "-n" not in words.split():
            words += " --yes --assume-answers"
        elif words.startswith(("apply", "service", "runs undo")) and "-n" not in words.split():
            words += " --yes"
        done = world.opsctl(*(run if word == "RUN" else word for word in shlex.split(words)))
        assert done.code in ((0, 3) if "-n" in words.split() else (0,)), f"{line}: {done}"
        shown = [each for command, output in SHOWN if command == line for each in output.splitlines()]
        assert [each for each in shown if each not in done.out.splitlines() and not each.startswith("configured by")] == []
        if words.startswith(("apply", "playbook run")) and "-n" not in words.split():
            run = world.opsctl("-o", "json", "runs", "list").json[0]["run"]
