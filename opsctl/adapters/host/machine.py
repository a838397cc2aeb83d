"""This machine: its user, and the paths of the customer's programs and of docker."""

from __future__ import annotations

import grp
import os
import platform
import pwd
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from opsctl.adapters.aws.session import Caller

NO_ACCOUNT = "-"


class Group(Struct, frozen=True):
    """A group of this machine, with its configured members."""

    id: int
    members: frozenset[str]


class Machine(Struct, frozen=True, kw_only=True):
    """The user, and the root folders.

    `groups` are those of this process; a new membership needs a new login.
    """

    user: str
    uid: int
    groups: frozenset[int]
    docker_group: Group | None
    variables: Mapping[str, str]
    home: Path
    etc: Path = Path("/etc")
    root_home: Path = Path("/root")
    programs: Path = Path("/usr/local/bin")
    socket: Path = Path("/var/run/docker.sock")

    @classmethod
    def found(cls) -> Machine:
        """The machine that this process runs on."""
        uid = os.geteuid()
        return cls(
            user=user_name(uid),
            uid=uid,
            groups=frozenset((*os.getgroups(), os.getegid())),
            docker_group=_group("docker"),
            variables=dict(os.environ),
            home=Path.home(),
        )


def _group(name: str) -> Group | None:
    try:
        found = grp.getgrnam(name)
    except KeyError:
        return None
    primary = {p.pw_name for p in pwd.getpwall() if p.pw_gid == found.gr_gid}
    return Group(found.gr_gid, frozenset(primary | set(found.gr_mem)))


def user_name(uid: int) -> str:
    """The name of a user id, or the id where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def operator() -> str:
    """The user and the host, such as `jo@laptop`. From the user id; variables such as LOGNAME and SUDO_USER are ignored."""
    return f"{user_name(os.getuid())}@{platform.node()}"


def caller() -> Caller:
    """The caller of commands without AWS: this machine's user."""
    who = operator()
    return Caller(NO_ACCOUNT, who, who.partition("@")[0])
