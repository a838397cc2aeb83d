"""The entry point."""

from __future__ import annotations

import gc
import sys

# What is imported lives as long as the process, so the collector would look through it in vain.
gc.disable()


def main() -> None:
    """Run the command line and leave with its exit code."""
    from opsctl.cli.app import run

    gc.freeze()
    # A command imports more when it needs it; with the usual threshold that alone would start hundreds of collections.
    gc.set_threshold(50_000, 10, 10)
    gc.enable()
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
