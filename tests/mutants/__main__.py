"""`make mutants`: change a line of the engine or of a kind of change, and check that a test fails.

Draws LINES lines with a fixed seed, mutates each one, and runs the nearest tests up to the first failure. A test counts only if it passes
without the mutation. Exits with 1 if fewer than SHARE of the mutations that matter were killed. `equivalent.txt` lists the mutations that
don't change what the code does, each with its reason.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from .nearest import stages
from .operators import Mutation, mutations

ROOT = Path(__file__).parents[2]
FOLDERS = ("opsctl/engine", "opsctl/changes")
LINES = 60
SEED = 20_241
SHARE = 0.95
CPU_SECONDS = 600
"""The most that one process of a test run may use; a mutation that makes a test loop forever is killed by it."""
PYTEST = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", "--no-header"]


class Mutant(NamedTuple):
    """A mutation of one file."""

    file: str
    mutation: Mutation

    @property
    def key(self) -> str:
        """The file and the mutation, without the line number, which moves."""
        return f"{self.file}: {self.mutation.what}"

    def __str__(self) -> str:
        """`FILE:LINE: MUTATION`."""
        return f"{self.file}:{self.mutation.line}: {self.mutation.what}"


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw `count` lines, and one mutation of each."""
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        file = str(path.relative_to(ROOT))
        for mutation in mutations(path.read_text()):
            lines.setdefault((file, mutation.line), []).append(Mutant(file, mutation))
    chance = random.Random(seed)
    return [chance.choice(lines[line]) for line in chance.sample(sorted(lines), count)]


def equivalent() -> dict[str, str]:
    """The reasons of the equivalent mutants, by key."""
    lines = (Path(__file__).parent / "equivalent.txt").read_text().splitlines()
    pairs = (line.split(" | ", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


class Checkout:
    """A copy of the repository in which one mutant at a time is tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist"))
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {**kept, "PYTHONPATH": str(self.folder), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}

    def killer(self, mutant: Mutant) -> str:
        """Return the test that kills a mutant; empty if it survives."""
        path = self.folder / mutant.file
        for arguments in stages(ROOT, mutant.file):
            path.write_text(mutant.mutation.source)
            try:
                failed = self._first_failure(arguments)
            finally:
                shutil.copy(ROOT / mutant.file, path)
            if failed and not self._first_failure(["-m", "", failed]):
                return failed
        return ""

    def _first_failure(self, arguments: Sequence[str]) -> str:
        """Return the first test, or the file, that fails; empty if all pass."""
        run = subprocess.run(
            [*PYTEST, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5)),
        )
        if run.returncode in (0, 5):
            return ""
        failures = (line.split(" ", 1)[1] for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")))
        # Without a name it ran out of time, or the mutation broke the start of all tests.
        return next(failures, "tests/engine/test_order.py").split(" - ")[0]


def judge(mutants: Sequence[Mutant], jobs: int) -> list[tuple[Mutant, str]]:
    """Each mutant with its killer, `jobs` at a time; prints each result as it comes."""
    checkouts: SimpleQueue[Checkout] = SimpleQueue()

    def one(mutant: Mutant) -> str:
        checkout = checkouts.get()
        try:
            killer = checkout.killer(mutant)
        finally:
            checkouts.put(checkout)
        print(f"{mutant}\n    {f'killed by {killer}' if killer else 'SURVIVED'}", flush=True)  # noqa: T201
        return killer

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            checkouts.put(Checkout(Path(folder, str(number))))
        return list(zip(mutants, pool.map(one, mutants), strict=True))


def main() -> int:
    """Draw and judge; print the share that was killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES, help="how many lines are drawn")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="a part of FILE:LINE: MUTATION")
    given = parser.parse_args()
    reasons = equivalent()
    drawn = [mutant for mutant in draw(given.lines, given.seed) if given.only in str(mutant)]
    for mutant in drawn:
        if mutant.key in reasons:
            print(f"{mutant}\n    equivalent: {reasons[mutant.key]}")  # noqa: T201
    matter = [mutant for mutant in drawn if mutant.key not in reasons]
    killed = sum(1 for _, killer in judge(matter, given.jobs) if killer)
    share = killed / len(matter) if matter else 1.0
    print(f"\n{len(drawn)} mutants, {len(drawn) - len(matter)} of them equivalent; {killed} of {len(matter)} killed: {share:.0%}")  # noqa: T201
    return int(share < SHARE)


if __name__ == "__main__":
    sys.exit(main())
