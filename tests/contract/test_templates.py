"""What a kind says in one line (its target, its summary, why there is no way back) is what its changes answer."""

import pytest

from opsctl.changes import all_kinds
from opsctl.contract import Change


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("method", "template"), [("target", "target_template"), ("summary", "summary_template"), ("inverse", "irreversible")]
)
def test_each_is_said_once(kind: type[Change], method: str, template: str) -> None:
    by_method, by_template = (next(base for base in kind.__mro__ if name in vars(base)) for name in (method, template))
    assert (by_method is Change) is not (by_template is Change)
