"""The entry point."""

from __future__ import annotations

import gc
import sys

gc.disable()


def main() -> None:
    """Run the command line and leave with its exit code."""
    from opsctl.cli import run

    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
