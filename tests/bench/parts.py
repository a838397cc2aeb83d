"""The parts of the bench, one after another over one sandbox."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from tests.bench import house
from tests.bench.table import Row, drawn
from tests.bench.world import world


def run(names: Sequence[str]) -> int:
    """Measure `names`, print one table, and return 1 when a bound isn't met."""
    rows: list[Row] = []
    with world() as folder:
        for name in names:
            sys.stderr.write(f"measuring {name} ...\n")
            rows += importlib.import_module(f"tests.bench.{name}").measure(folder)
    sys.stdout.write(f"{drawn(rows)}\n\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; ")
    sys.stdout.write(f"an installed wheel of {house.ROOT.name}, medians, the two sides by turns.\n")
    return 0 if all(row.met for row in rows) else 1
