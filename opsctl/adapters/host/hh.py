"""The `hh` client's configuration files on this machine, and the one field that opsctl writes.

`hh` uses the first of four files. The runbook (HH, File Locations) says that HH_CONFIG has the highest precedence and names the others;
the order here is HH_CONFIG (even when the file is missing), then $XDG_CONFIG_HOME/hh/config.json where that variable is set, then the
user's ~/.hh/config.json, then the system's /etc/hh/config.json.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from opsctl.adapters.base import Adapter, writes
from opsctl.adapters.host.docker import Docker
from opsctl.adapters.host.machine import Machine, user_name
from opsctl.errors import Denied, DriftError, ExternalError, NotFound, OpsctlError, OutcomeUnknown, Refused
from opsctl.formats.json_edit import members, set_member, value_of
from opsctl.redaction import Secret

FIELD = "edge_auth"
LARGEST = 1_048_576
KEPT_ATTRIBUTES = ("system.posix_acl_access", "user.")
AGAIN = "opsctl client set-edge-auth --value-from SOURCE"

PlaceName = Literal["HH_CONFIG", "XDG", "user", "system"]


class ConfigLocation(Struct, frozen=True):
    """One of the four files that `hh` may use."""

    name: PlaceName
    path: Path

    @property
    def login(self) -> str:
        """The command that creates this file again."""
        return 'sudo hh login --system --code "PAIRING_CODE"' if self.name == "system" else 'hh login --code "PAIRING_CODE"'


class ConfigState(Struct, frozen=True, kw_only=True):
    """The state of a file; `exists` is None where it can't be read. `edge_auth` is never printed."""

    place: ConfigLocation
    exists: bool | None
    link: str | None = None
    mode: int | None = None
    uid: int | None = None
    problem: str = ""
    edge_auth: Secret | None = None

    @property
    def owner(self) -> str | None:
        """The owner's name."""
        return None if self.uid is None else user_name(self.uid)


class Document(Struct, frozen=True, kw_only=True):
    """The content of a configuration file; `stamp` changes when the file changes."""

    path: Path
    text: str
    edge_auth: Secret | None
    info: Any

    @property
    def stamp(self) -> tuple[int, ...]:
        """A value that changes when the file changes."""
        return _stamp(self.info)


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid)


class HhClient(Adapter):
    """The files of `hh` on one machine."""

    def __init__(self, machine: Machine, *, writing: bool) -> None:
        super().__init__(writing=writing)
        self.machine = machine

    @cached_property
    def docker(self) -> Docker:
        """Docker, and its credential helper."""
        return Docker(self.machine)

    def places(self) -> list[ConfigLocation]:
        """The files that `hh` may use, in its order."""
        here, found = self.machine, []
        if override := here.variables.get("HH_CONFIG"):
            found.append(ConfigLocation("HH_CONFIG", Path(os.path.abspath(override))))
        if xdg := here.variables.get("XDG_CONFIG_HOME"):
            found.append(ConfigLocation("XDG", Path(os.path.abspath(xdg)) / "hh" / "config.json"))
        return [
            *found,
            ConfigLocation("user", here.home / ".hh" / "config.json"),
            ConfigLocation("system", here.etc / "hh" / "config.json"),
        ]

    def place(self, mode: Literal["user", "system"]) -> ConfigLocation:
        """The file of user mode (the XDG one if it exists) or of system mode."""
        own = (
            [p for p in self.places() if p.name == "system"]
            if mode == "system"
            else [p for p in self.places() if p.name in ("XDG", "user")]
        )
        return next((p for p in own if self.read_state(p).exists is not False), own[-1])

    def in_force(self) -> ConfigLocation | None:
        """The file that `hh` uses; None without any."""
        return next((p for p in self.places() if p.name == "HH_CONFIG" or self.read_state(p).exists is not False), None)

    def read_state(self, place: ConfigLocation) -> ConfigState:
        """The state of a file; errors are in `problem`, nothing is raised."""
        try:
            info = place.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return ConfigState(place=place, exists=False)
        except OSError as cause:
            return ConfigState(place=place, exists=None, problem=f"can't be checked: {cause.strerror}")
        link = os.readlink(place.path) if stat.S_ISLNK(info.st_mode) else None
        try:
            info = place.path.stat()
            document = _opened(place.path, follow=True)
        except FileNotFoundError:
            return ConfigState(place=place, exists=True, link=link, problem=f"is a link to {link}, which does not exist")
        except OSError as cause:
            return _config_state(place, link, info, f"can't be read: {cause.strerror}")
        except OpsctlError as cause:
            return _config_state(place, link, info, cause.what.removeprefix(f"{place.path} ").rstrip("."))
        return _config_state(place, link, info, "" if document.edge_auth else f"has no {FIELD}", document.edge_auth)

    def read(self, path: Path) -> Document:
        """The content of a file that may be rewritten; raises NotFound, Denied or Refused."""
        with _translated(path, self._login(path)):
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                real = path.resolve()
                raise Refused(f"{path} is a link to {real}; it was not changed.", f"To change that file: HH_CONFIG={real} {AGAIN}")
            if info.st_uid != self.machine.uid != 0:
                owner = user_name(info.st_uid)
                raise Refused(f"{path} belongs to {owner}, not to {self.machine.user}; it was not changed.", f"As {owner}: {AGAIN}")
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise Denied(f"The folder {path.parent} can't be written; {path} was not changed.", f"ls -ld {path.parent}")
            return _opened(path, follow=False)

    def _login(self, path: Path) -> str:
        return next((place.login for place in self.places() if place.path == path), "hh login")

    @writes
    def set_edge_auth(self, seen: Document, value: Secret, token: str) -> None:
        """Replace the file atomically, with the same mode, owner and other bytes.

        Raises DriftError when it has changed since, OutcomeUnknown when the write may not be on the disk.
        """
        text = set_member(seen.text, FIELD, value.reveal())
        with _translated(seen.path, self._login(seen.path)), _folder(seen.path) as folder:
            # Named after the step, so that a resume after a kill removes it.
            fresh = f".{seen.path.name}.opsctl-{token}"
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=folder)
            try:
                _write(fresh, text.encode(), seen, folder)
                if _stamp(os.stat(seen.path.name, dir_fd=folder, follow_symlinks=False)) != seen.stamp:
                    raise DriftError(
                        f"Another program has just changed {seen.path}; it was not changed by this run.", "Check it: opsctl client show"
                    )
                os.rename(fresh, seen.path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(fresh, dir_fd=folder)
                raise
            try:
                os.fsync(folder)
            except OSError as cause:
                raise OutcomeUnknown(f"{seen.path} was replaced, but the disk did not confirm the write: {cause.strerror}.") from cause


def _config_state(
    place: ConfigLocation, link: str | None, info: os.stat_result, problem: str, edge_auth: Secret | None = None
) -> ConfigState:
    mode = stat.S_IMODE(info.st_mode)
    return ConfigState(place=place, exists=True, link=link, mode=mode, uid=info.st_uid, problem=problem, edge_auth=edge_auth)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _translated(path: Path, login: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise NotFound(f"There is no {path}: nobody has logged in on this machine.", login) from cause
    except PermissionError as cause:
        raise Denied(f"{path}: {cause.strerror}; it was not changed.", f"As its owner: {AGAIN}") from cause
    except OSError as cause:
        raise ExternalError(f"{path}: {cause.strerror}; it was not changed.", f"ls -l {path.parent}") from cause


def _opened(path: Path, *, follow: bool) -> Document:
    """The whole content; O_NONBLOCK, since a named pipe would wait for a writer."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    with os.fdopen(number, "rb") as file:
        info = os.fstat(number)
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST:
            raise Refused(f"{path} is not a file, or is larger than 1 MiB.", f"ls -l {path}")
        raw = file.read()
    try:
        text = raw.decode()
        held = value_of(text, FIELD)
    except ValueError as cause:
        where = "it is not UTF-8" if isinstance(cause, UnicodeDecodeError) else str(cause)
        raise Refused(f"{path} is not valid JSON for hh ({where}).", "Fix that line, or log in again: hh login") from None
    _remember(text)
    if held is not None and not _is_text(held):
        raise Refused(f"{path} has an {FIELD} that is not text.", "Log in again: hh login")
    return Document(path=path, text=text, edge_auth=Secret(held) if held else None, info=info)


def _remember(text: str) -> None:
    """Register the other secrets in the file, such as its pairing code and tokens."""
    for member in members(text):
        if isinstance(member.value, str) and any(word in member.name.lower() for word in ("token", "code", "auth", "secret", "key")):
            Secret(member.value.encode(errors="surrogatepass"))


def _is_text(value: Any) -> bool:
    """Whether the text has no lone surrogate, which can't be sent."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def _write(name: str, raw: bytes, like: Document, folder: int) -> None:
    number = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with os.fdopen(number, "wb") as file:
        file.write(raw)
        file.flush()
        _keep_owner(number, like)
        os.fchmod(number, stat.S_IMODE(like.info.st_mode))
        _keep_attributes(like.path, number)
        os.fsync(number)


def _keep_owner(number: int, like: Document) -> None:
    """Keep owner and group; a group that can't be set is ignored if the mode gives it no rights."""
    made, wanted = os.fstat(number), (like.info.st_uid, like.info.st_gid)
    if (made.st_uid, made.st_gid) == wanted:
        return
    try:
        os.fchown(number, *wanted)
    except PermissionError as cause:
        if made.st_uid != wanted[0] or like.info.st_mode & stat.S_IRWXG:
            raise Denied(f"The owner and group of {like.path} can't be preserved; it was not changed.", f"sudo {AGAIN}") from cause


def _keep_attributes(path: Path, number: int) -> None:
    """Keep the extended attributes, such as access control lists."""
    if hasattr(os, "listxattr"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(KEPT_ATTRIBUTES):
                os.setxattr(number, name, os.getxattr(path, name, follow_symlinks=False))
