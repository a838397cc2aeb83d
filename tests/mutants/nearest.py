"""Which tests are nearest to a file: the rig's, those that mirror it, and those of the commands that use it."""

from __future__ import annotations

import re
from pathlib import Path

Stage = list[str]
"""Arguments for pytest."""

QUICK = ["-m", "not exhaustive"]
RIG = [*QUICK, "tests/engine", "tests/contract"]
SHELL = ["-m", "", "tests/laws/test_by_shell.py", "tests/laws/test_scripts_are_words.py"]
PLANS = ["-m", "", "tests/laws/test_plans_as_shown.py"]


def stages(root: Path, file: str) -> list[Stage]:
    """The test runs for a mutation of `file`, the nearest and quickest tests first."""
    module = Path(file).with_suffix("")
    mirror = Path("tests", *module.parts[1:-1], f"test_{module.name}.py")
    near = [[*QUICK, str(mirror)]] if (root / mirror).exists() else []
    if module.parts[1] == "engine":
        return [*near, RIG, [*QUICK, "tests/playbook"], [*QUICK, "tests/laws"], [*QUICK, "tests/end_to_end"]]
    groups = _groups(root, ".".join(module.parts))
    kinds = [*QUICK, "tests/changes"]
    if not groups:
        return [*near, kinds, RIG, PLANS, SHELL]
    names = " or ".join(groups)
    commands = sorted(str(path.relative_to(root)) for group in groups for path in (root / "tests/commands").glob(f"test_{group}*.py"))
    return [
        *near,
        kinds,
        [*PLANS, "-k", names],
        *([["-m", "", *commands]] if commands else []),
        [*SHELL, "-k", names],
        [*QUICK, "tests/laws", "-k", names],
    ]


def _groups(root: Path, module: str) -> list[str]:
    """The command groups that import `module`, or another file of changes that imports it."""
    wanted, groups = {module}, set()
    for path in (root / "opsctl/changes").rglob("*.py"):
        if _imports(path, module):
            wanted.add(".".join(path.relative_to(root).with_suffix("").parts))
    for path in (root / "opsctl/commands").glob("*.py"):
        if any(_imports(path, each) for each in wanted):
            groups.add(path.stem)
    return sorted(groups)


def _imports(path: Path, module: str) -> bool:
    package, _, name = module.rpartition(".")
    return bool(
        re.search(
            rf"from {re.escape(module)} import|from {re.escape(package)} import .*\b{name}\b|import {re.escape(module)}\b", path.read_text()
        )
    )
