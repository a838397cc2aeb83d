"""Every part of moto that the sandbox uses beside its public interface is where the sandbox looks for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import opsctl.sandbox
from opsctl.sandbox.aws import moto_internals
from opsctl.sandbox.aws.names import ACCOUNT


@pytest.mark.parametrize("name", get_args(moto_internals.Part))
def test_the_part_exists(name: moto_internals.Part) -> None:
    assert moto_internals.part(name) is not None


@pytest.mark.parametrize("name", get_args(moto_internals.Backends))
def test_a_service_keeps_its_objects_by_account_and_region(name: moto_internals.Backends) -> None:
    region = moto_internals.GLOBAL if name.startswith(("iam.", "sts.")) else "us-east-1"
    assert moto_internals.backend(name, region).account_id == ACCOUNT


def test_no_other_file_imports_moto() -> None:
    folder = Path(opsctl.sandbox.__file__).parent
    files = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"^\s*(from|import) moto\b", path.read_text(), re.M)
    ]
    assert files == []
