from collections.abc import Iterator
from pathlib import Path

import pytest

from opsctl.testing.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """An engine over a world in memory."""
    made = Rig(tmp_path)
    yield made
    made.ledger.shut()
