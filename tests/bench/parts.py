"""The parts of the bench, one after another over one sandbox."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence

from tests.bench import house
from tests.bench.table import Row, drawn
from tests.bench.world import world


def run(names: Sequence[str]) -> int:
    """Measure `names`, print one table, and return 1 when a bound isn't met."""
    # Ended from outside, it still takes its world down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows: list[Row] = []
    failed: list[str] = []
    with world() as folder:
        for name in names:
            began = time.monotonic()
            try:
                rows += importlib.import_module(f"tests.bench.{name}").measure(folder)
            except Exception:  # noqa: BLE001 - the other parts' figures are worth having
                failed.append(f"{name} failed: {traceback.format_exc()}")
            sys.stderr.write(f"measured {name} in {time.monotonic() - began:.0f} s\n")
    text, met = drawn(rows, names)
    sys.stdout.write(f"{text}\n\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; ")
    sys.stdout.write(f"an installed wheel of {house.ROOT.name}, medians, the two sides by turns.\n")
    sys.stdout.write("".join(f"{line}\n" for line in failed))
    sys.stdout.write("All bounds are met.\n" if met and not failed else "Some bounds are NOT MET.\n")
    return 0 if met and not failed else 1
