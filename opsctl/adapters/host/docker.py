"""Docker on this machine, as far as `hh` rests on it: who may use it, whom it asks for credentials, and what that helper answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from opsctl import files
from opsctl.adapters.host.machine import Machine, user_name
from opsctl.redaction import Secret, clean_sentence

HELPER = "hh"
REGISTRY = "ghcr.io"
DEADLINE = 20.0
LONGEST = 200

# A child gets what a program needs to run, and nothing that may hold somebody's secret.
PASSED = (
    *("HOME", "PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "HH_CONFIG"),
    *("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)

Membership = Literal["root", "member", "after login", "outsider", "no group"]


class DockerConfig(Struct, frozen=True):
    """What a docker configuration says of the helper: the registries that it serves, or what is wrong."""

    path: Path
    registries: tuple[str, ...] = ()
    problem: str = ""
    readable: bool = True


class HelperFile(Struct, frozen=True):
    """The helper's program; `problem` is empty where it may be run safely, and `mend` what to type where not."""

    path: Path
    problem: str = ""
    mend: str = ""


class HelperAnswer(Struct, frozen=True):
    """What the helper answered to `get`: whether with a login, and whose, or why not. Its secret is read and forgotten."""

    ok: bool
    told: str


class Docker:
    """Looks only; nothing here has an effect but `ask`, which runs the helper as docker itself does before a pull."""

    def __init__(self, machine: Machine, deadline: float = DEADLINE) -> None:
        self.machine, self.deadline = machine, deadline

    def membership(self) -> Membership:
        """Whether the user may talk to docker by their groups: now, or only after the next login."""
        here, group = self.machine, self.machine.docker_group
        if here.uid == 0:
            return "root"
        if group is None:
            return "no group"
        if group.id in here.groups:
            return "member"
        return "after login" if here.user in group.members else "outsider"

    def unreachable_reason(self) -> str:
        """Connect to docker's socket and hang up; returns what stands against it, or nothing."""
        if not self.machine.socket.exists():
            return "does not exist"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(2)
            try:
                line.connect(str(self.machine.socket))
            except PermissionError:
                return "permission denied"
            except OSError as cause:
                return f"docker doesn't answer ({cause.strerror or 'too slow'})"
        return ""

    def config(self, mode: Literal["user", "system"]) -> DockerConfig:
        """Read the docker configuration of a mode: the user's own (DOCKER_CONFIG's, where set), or root's."""
        own = Path(self.machine.variables.get("DOCKER_CONFIG") or self.machine.home / ".docker")
        path = (own if mode == "user" else self.machine.root_home / ".docker") / "config.json"
        try:
            held = json.loads(files.read(path))
        except FileNotFoundError:
            return DockerConfig(path, problem="does not exist")
        except PermissionError:
            return DockerConfig(path, problem="can't be read by this user", readable=False)
        except (OSError, ValueError, RecursionError):
            return DockerConfig(path, problem="is not JSON, or can't be read")
        registries = _served(held)
        return DockerConfig(path, registries, "" if registries else f"doesn't contain the credential helper {HELPER}")

    def helper(self) -> HelperFile:
        """Look at the helper's program: there, executable, and nobody's to change but its owner's, root or this user."""
        path = self.machine.programs / f"docker-credential-{HELPER}"
        try:
            info = path.stat()
        except FileNotFoundError:
            return HelperFile(path, "is not installed; install hh again, its installer adds it")
        except OSError as cause:
            return HelperFile(path, f"can't be checked: {cause.strerror}", f"ls -la {path}")
        if not stat.S_ISREG(info.st_mode):
            return HelperFile(path, "is not a file", f"ls -la {path}")
        if info.st_uid not in (0, self.machine.uid):
            return HelperFile(path, f"belongs to {user_name(info.st_uid)}, who could change it", f"sudo chown root {path}")
        if info.st_mode & 0o022:
            return HelperFile(path, f"can be changed by other users (mode {stat.S_IMODE(info.st_mode):04o})", f"sudo chmod 755 {path}")
        if not os.access(path, os.X_OK):
            return HelperFile(path, f"can't be executed (mode {stat.S_IMODE(info.st_mode):04o})", f"sudo chmod 755 {path}")
        return HelperFile(path)

    def ask(self, registry: str, config: Path | None = None) -> HelperAnswer:
        """Ask the helper for the login of `registry`, over the configuration `config`, within a deadline.

        Its protocol (docker/docker-credential-helpers): the registry on standard input, a login as JSON on standard output; an error is one
        line on standard output too, with exit 1.
        """
        path = self.helper().path
        variables = {name: value for name, value in self.machine.variables.items() if name in PASSED}
        if config:
            variables["HH_CONFIG"] = str(config)
        try:
            child = subprocess.Popen(
                [path, "get"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=variables,
                cwd="/",
                start_new_session=True,
            )
        except OSError as cause:
            return HelperAnswer(False, f"can't be run: {cause.strerror}")
        output = _ask(child, registry.encode(), self.deadline)
        if output is None:
            return HelperAnswer(False, f"did not answer in {self.deadline:g} s")
        return _helper_answer(child.returncode, output, registry)


def _served(held: Any) -> tuple[str, ...]:
    """The registries for which docker asks our helper; its `credsStore` serves every one."""
    if not isinstance(held, dict):
        return ()
    helpers = held.get("credHelpers")
    named = tuple(r for r, helper in helpers.items() if helper == HELPER) if isinstance(helpers, dict) else ()
    return named or ((REGISTRY,) if held.get("credsStore") == HELPER else ())


def _ask(child: subprocess.Popen[bytes], question: bytes, deadline: float) -> bytes | None:
    """What a child says until it ends, or None when the deadline ends it and all its children."""
    try:
        output, _ = child.communicate(question, timeout=deadline)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()
    return output


def _helper_answer(code: int, output: bytes, registry: str) -> HelperAnswer:
    try:
        login = json.loads(output)
    except (ValueError, RecursionError):
        login = None
    if isinstance(login, dict) and isinstance(login.get("Secret"), str):
        Secret(login["Secret"])
    if code != 0:
        return HelperAnswer(False, f"refused (exit {code}){_first_line(output) if login is None else ''}")
    if not isinstance(login, dict) or not login.get("Username") or not login.get("Secret"):
        return HelperAnswer(False, "returned no login (Username and Secret); its output isn't shown")
    return HelperAnswer(True, f"returns a login for {registry}")


def _first_line(output: bytes) -> str:
    first = output.decode(errors="replace").strip().split("\n")[0]
    return f": {clean_sentence(first, LONGEST)[:-1]}" if first else ""
