from pathlib import Path

import pytest

from opsctl.testing.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """An engine over a world in memory."""
    return Rig(tmp_path)
