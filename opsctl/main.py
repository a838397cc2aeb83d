"""The entry point."""

from __future__ import annotations

import gc
import sys

gc.disable()
# Once a run turns it on again, what it imports must not set it off.
gc.set_threshold(50_000, 20, 20)


def main() -> None:
    """Run the command line and leave with its exit code."""
    from opsctl.cli.app import run

    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
