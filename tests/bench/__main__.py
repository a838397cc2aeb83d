"""Run the bench: all of it, or the parts that are named."""

from __future__ import annotations

import sys

from tests.bench import house
from tests.bench.bounds import PARTS


def main(args: list[str]) -> int:
    """Print the table; returns 1 when a bound isn't met, 2 for an unknown part."""
    unknown = [name for name in args if name not in PARTS]
    if unknown:
        sys.stderr.write(f"No part is called {', '.join(unknown)}; there are {', '.join(PARTS)}.\n")
        return 2
    if not house.inside():
        house.enter(args)
    from tests.bench import parts

    return parts.run(args or PARTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
