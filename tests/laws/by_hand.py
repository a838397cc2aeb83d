"""Runs what `--as-shell` printed as a person does: by bash, at a terminal, with the world's own variables."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import termios
from pathlib import Path

from terminal import Result
from world import World

PYTHON = str(Path(sys.executable).parent)


def script(world: World, *words: str, env: dict[str, str] | None = None, input: str = "") -> str:
    """The script of a dry run, which bash can read."""
    done = world.opsctl(*words, "-n", "--as-shell", check=3, env=env, input=input)
    assert done.out.startswith("#!/usr/bin/env bash\n"), done
    assert subprocess.run(["bash", "-n"], input=done.out, text=True, check=False).returncode == 0, done.out
    return done.out


def by_hand(world: World, text: str, *, env: dict[str, str] | None = None, typed: str = "") -> Result:
    """Give a script to bash; what somebody types, and no more than the sandbox's variables."""
    exports = world.opsctl("sandbox", "env", check=0).out
    told = {**shell(exports), **(env or {})}
    told["PATH"] = os.pathsep.join([told["PATH"].split(os.pathsep)[0], PYTHON, *os.environ["PATH"].split(os.pathsep)])
    (world.home / "tmp").mkdir(exist_ok=True)
    told["TMPDIR"] = str(world.home / "tmp")

    told = {**{name: value for name, value in os.environ.items() if not name.startswith("COV")}, **told}
    terminal, person = os.openpty()
    os.write(terminal, typed.encode())
    try:
        done = subprocess.run(
            ["bash"],
            input=text,
            capture_output=True,
            text=True,
            env=told,
            cwd=world.home,
            timeout=300,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(person, termios.TIOCSCTTY, 0),
            pass_fds=(person,),
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(person)
    return Result(done.returncode, done.stdout, done.stderr)


def shell(exports: str) -> dict[str, str]:
    """The variables that lines of exports set."""
    words = [shlex.split(line) for line in exports.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for _, word in words)
