"""`opsctl runbook`: the procedures in a terminal, from a checkout and from a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from opsctl.commands.runbook import Procedure, find_procedure, plain_text, split_procedures
from opsctl.errors import ConfigurationError

HOUSE = Path(__file__).parents[2]
PROCEDURES = split_procedures((HOUSE / "RUNBOOK.md").read_text())


@pytest.mark.parametrize(
    ("topic", "heading"),
    [
        ("token-compromise", "Token compromise"),
        ("playbook-token-compromise", "Token compromise"),
        ("safawinet-5-2", "Database failover"),
        ("database failover", "Database failover"),
        ("logout user", "Log one user out"),
        ("Slow database", "Slow database"),
        ("mint", "Mint a pairing code"),
        ("EDGE_SHARED_SECRET", "Rotate EDGE_SHARED_SECRET"),
    ],
)
def test_a_topic_is_a_playbook_an_anchor_a_command_or_words_of_a_heading(topic: str, heading: str) -> None:
    assert find_procedure(PROCEDURES, topic).heading == heading


@pytest.mark.parametrize(("topic", "nearest"), [("databse-failover", "database-failover"), ("secrets", "rotate-a-secret")])
def test_an_unknown_topic_names_the_nearest_ones(topic: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        find_procedure(PROCEDURES, topic)
    assert f"opsctl runbook {nearest}" in refused.value.details


def test_procedures_that_match_are_counted_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find_procedure(PROCEDURES, "database")
    assert refused.value.what == "2 procedures match 'database'."
    assert refused.value.details == ["opsctl runbook slow-database", "opsctl runbook database-failover"]


def test_plain_text_has_no_marks_and_indents_what_is_typed() -> None:
    text = plain_text(Procedure("Logs", ("logs",), "**When:** see [Slow answers](#slow-answers).\n\n```bash\nopsctl logs tail api\n```"))
    assert text.splitlines()[3:] == ["When: see Slow answers (opsctl runbook slow-answers).", "", "    opsctl logs tail api"]


def test_a_wheel_shows_the_runbook_in_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=HOUSE, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (empty := tmp_path / "empty").mkdir()
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}

    def opsctl(*words: str) -> str:
        line = [sys.executable, "-m", "opsctl.main", *words]
        return subprocess.run(line, cwd=empty, env=surroundings, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "opsctl runbook token-compromise" in opsctl("runbook")
    assert opsctl("runbook", "token-compromise").startswith("Token compromise\n")
    assert json.loads(opsctl("-o", "json", "runbook", "database", "failover"))["heading"] == "Database failover"
    assert list(empty.iterdir()) == []
