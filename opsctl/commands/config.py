"""`opsctl config`: where the configuration was found, and which folders are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import local, offline
from opsctl.errors import ConfigurationError, OpsctlError

if TYPE_CHECKING:
    from opsctl.cli.context import AppContext

config = group("config")


@config.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@offline
@local
def trust(app: AppContext, folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Trust ./config and ./playbooks, or the given folders, as they are now. When a folder changes, trust it again.

    Examples:
        opsctl config trust
        opsctl config trust ./config
    """
    from opsctl.config import HERE, trusted
    from opsctl.playbook import loader
    from opsctl.trust import content

    wanted = list(folders) or [folder for folder in (HERE, loader.LOCAL_FOLDER) if folder.is_dir()]
    if not wanted:
        raise ConfigurationError("There is no ./config and no ./playbooks here.", "Go to the folder that has them, or name a folder.")
    rows = []
    for folder in wanted:
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder.", "Name a folder that has configuration or playbooks.")
        files = content(folder)
        rows += [{"folder": str(folder.resolve()), "file": name, "bytes": len(text)} for name, text in sorted(files.items())]
        trusted().add(folder, files)
    return rows


@config.command()
@offline
@local
def which(app: AppContext) -> list[dict[str, Any]]:
    """List the environments and the file that each is read from.

    Examples:
        opsctl config which
    """
    from opsctl.config import find, names

    rows: list[dict[str, Any]] = []
    for name in names(app.folder):
        try:
            path, _, trusted = find(name, app.folder)
            state = "ok" if trusted else "a sandbox of the current folder, which nobody has trusted"
        except OpsctlError as error:
            path, state = Path(), error.what
        rows.append({"environment": name, "file": str(path) if path.name else "", "state": state})
    return rows
