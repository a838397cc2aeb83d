"""The entry point: what a command can rely on when it begins."""

from __future__ import annotations

import subprocess
import sys

ENABLED = "import gc; from opsctl.cli import app; app.run = lambda args: 7 if gc.isenabled() else 1; from opsctl.main import main; main()"


def test_garbage_is_collected_while_a_command_runs() -> None:
    assert subprocess.run([sys.executable, "-c", ENABLED], timeout=60).returncode == 7
