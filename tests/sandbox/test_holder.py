"""The application that holds connections: as many as it was told to, until it is told to let go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from folders import short_folder

from opsctl.errors import ConfigurationError
from opsctl.sandbox import lifecycle, postgres
from opsctl.sandbox.supervisor import APPLICATION, ConnectionHolder

HELD = "SELECT coalesce(state, ''), count(*)::int FROM pg_stat_activity WHERE application_name = %s GROUP BY 1 ORDER BY 1"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    place = short_folder()
    try:
        lifecycle.up(place, tempo=0.0, users=200, sessions=1_000)
        yield place
    finally:
        lifecycle.down(place)
        shutil.rmtree(place)


@pytest.fixture
def facts(folder: Path) -> Iterator[dict[str, str]]:
    found = lifecycle.up(folder)
    lifecycle.reset(folder)
    yield found
    lifecycle.clear_faults(folder)


def held(facts: dict[str, str]) -> dict[str, int]:
    with postgres.connect(int(facts["pg_port"]), facts["pg_superuser_password"]) as looking:
        return dict(looking.execute(HELD, [APPLICATION]).fetchall())


def test_queries_run_until_faults_are_cleared_and_the_pool_stays(folder: Path, facts: dict[str, str]) -> None:
    for kind in ("sleeping", "waiting", "stubborn"):
        assert lifecycle.run_queries(folder, 1, kind) == 1
    assert held(facts) == {"active": 3, "idle": 2, "idle in transaction": 1}
    lifecycle.clear_faults(folder)
    assert held(facts) == {"idle": 2, "idle in transaction": 1}


def test_a_reset_ends_them_too(folder: Path, facts: dict[str, str]) -> None:
    lifecycle.run_queries(folder, 2, "stubborn")
    lifecycle.reset(folder)
    assert "active" not in held(facts)


def test_it_takes_so_many_or_all_but_the_reserved_ones(folder: Path, facts: dict[str, str]) -> None:
    assert lifecycle.take_connections(folder, 4) == 4
    assert lifecycle.take_connections(folder, 0) > 50
    with pytest.raises(psycopg.OperationalError, match="reserved"):
        postgres.connect(int(facts["pg_port"]), facts["pg_password"], facts["pg_user"])
    postgres.connect(int(facts["pg_port"]), facts["pg_rescue_password"], facts["pg_rescue_user"]).close()
    with pytest.raises(ConfigurationError, match="no free connection"):
        lifecycle.run_queries(folder, 1, "sleeping")


def test_a_pool_whose_server_was_away_comes_back(facts: dict[str, str]) -> None:
    holder = ConnectionHolder(facts)
    try:
        holder.open()
        with postgres.connect(int(facts["pg_port"]), facts["pg_superuser_password"]) as ending:
            ending.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION])
        holder.open()
        assert held(facts) == {"idle": 2, "idle in transaction": 1}
    finally:
        holder.reset()


@pytest.mark.parametrize(("count", "kind"), [(0, "sleeping"), (-1, "sleeping"), (1, "dancing"), (5_000, "sleeping")])
def test_what_it_cannot_do_is_told(folder: Path, facts: dict[str, str], count: int, kind: str) -> None:
    with pytest.raises(ConfigurationError, match="There are no queries"):
        lifecycle.run_queries(folder, count, kind)
