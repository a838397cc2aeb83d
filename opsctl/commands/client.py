"""`opsctl client`: the customer's machine, where `hh` and docker run. Needs no AWS and no configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from opsctl.cli.app import group
from opsctl.cli.command import gives_verdict, mutating, offline, read_only, requires
from opsctl.cli.types import GIVEN
from opsctl.contract import Change, Planning
from opsctl.errors import NotFound, Refused
from opsctl.render.shapes import Check, Verdict

if TYPE_CHECKING:
    from opsctl.adapters.host.hh import ConfigLocation, ConfigState, HhClient
    from opsctl.systems import Systems

Mode = Literal["user", "system"]

client = group("client")


def one_mode(user: bool, system: bool) -> Mode | None:
    """Raises a usage error for both at once."""
    if user and system:
        raise click.UsageError("--user and --system are two modes; name one.")
    return "user" if user else "system" if system else None


@client.command()
@offline
@read_only
def show(systems: Systems) -> list[dict[str, Any]]:
    """Show where hh looks for its configuration, which file it uses, and which fields each file contains. Values are not shown.

    Examples:
        opsctl client show
    """
    return [_row(systems, place) for place in systems.client.places()]


def _row(systems: Systems, place: ConfigLocation) -> dict[str, Any]:
    from opsctl.changes.client import fingerprint

    found, chosen = systems.client.read_state(place), systems.client.in_force()
    unknown = found.exists is not True or found.problem.startswith("can't be read")
    return {
        "place": place.name,
        "path": str(place.path),
        "in force": chosen == place,
        "exists": found.exists,
        "link to": found.link,
        "mode": None if found.mode is None else f"{found.mode:04o}",
        "owner": found.owner,
        "edge_auth": None if unknown else fingerprint(systems, found.edge_auth) or "none",
        "state": found.problem or ("" if unknown else "ok"),
    }


@client.command("set-edge-auth")
@requires(changes="set-edge-auth")
@click.option("--user", is_flag=True, help="Change the user's own file; by default the file that hh uses.")
@click.option("--system", is_flag=True, help="Change the system's file, /etc/hh/config.json; needs root.")
@click.option("--value-from", required=True, type=GIVEN, metavar="-|env:VAR|file:PATH", help="Where to read the new value.")
@offline
@mutating
def set_edge_auth(planning: Planning, user: bool, system: bool, value_from: str) -> Iterator[Change]:
    """Replace EDGE_SHARED_SECRET in hh's configuration file. The rest of the file does not change.

    Examples:
        opsctl client set-edge-auth --value-from -
        opsctl client set-edge-auth --system --value-from file:/root/edge-secret
    """
    from opsctl.changes.client import SetEdgeAuth, fingerprint

    systems = planning.systems
    mode = one_mode(user, system)
    place = systems.client.place(mode) if mode else systems.client.in_force()
    if place is None:
        raise NotFound("There is no configuration of hh on this machine.", 'Log in first: hh login --code "PAIRING_CODE"')
    value = systems.values.read(value_from)
    if not value.reveal().isprintable() or value.reveal() != value.reveal().strip():
        raise Refused(f"The value from {value_from} can't stand in the X-Edge-Auth header.", "Give one line of text.")
    before = fingerprint(systems, systems.client.read(place.path).edge_auth)
    yield SetEdgeAuth(path=str(place.path), source=value_from, before=before, after=systems.fingerprint(value.raw()))


@client.command()
@click.option("--user", is_flag=True, help="Check user mode only; by default every mode that is set up.")
@click.option("--system", is_flag=True, help="Check system mode only; most of its checks need root.")
@click.option(
    "--registry", metavar="HOST", help="The registry to test the credential helper with; by default the one in docker's configuration."
)
@click.option(
    "--without-helper", is_flag=True, help="Don't run the credential helper; running it may create a lease, as a docker pull does."
)
@offline
@gives_verdict(probes="it asks the credential helper, which may take out a lease")
@read_only
def doctor(systems: Systems, user: bool, system: bool, registry: str | None, without_helper: bool) -> Verdict:
    """Find out why docker or hh doesn't work on this machine. Each failed check shows the next command to type.

    Examples:
        opsctl client doctor
        opsctl client doctor --system
    """
    mode = one_mode(user, system)
    modes = [mode] if mode else _set_up(systems.client)
    checks = [check for each in modes for check in _configuration(systems.client, each)]
    checks += _docker(systems.client) if "user" in modes else []
    checks += [_docker_config(systems.client, each) for each in modes]
    helper = _helper(systems.client)
    checks.append(helper)
    if helper.ok and not without_helper:
        checks += [_asked(systems.client, each, registry) for each in modes]
    return Verdict(checks, "Type what the first failing check says, then: opsctl client doctor")


def _set_up(machine: HhClient) -> list[Mode]:
    """The modes that somebody has logged in to; user mode when nobody has."""
    modes: list[Mode] = ["user", "system"]
    return [mode for mode in modes if machine.read_state(_place(machine, mode)).exists is not False] or ["user"]


def _place(machine: HhClient, mode: Mode) -> ConfigLocation:
    """The file of a mode; HH_CONFIG stands for the user's own."""
    first = machine.places()[0]
    return first if mode == "user" and first.name == "HH_CONFIG" else machine.place(mode)


def _type(what: str, line: str) -> str:
    return f"{what}; type: {line}" if line else what


def _configuration(machine: HhClient, mode: Mode) -> Iterator[Check]:
    """Whether the mode's file is there and readable, and by whom."""
    place = _place(machine, mode)
    found = machine.read_state(place)
    name = f"{mode} mode's {place.path} is good"
    if found.exists is False:
        line = "unset HH_CONFIG" if place.name == "HH_CONFIG" else place.login
        yield Check(name, False, _type("it is not there", line))
        return
    unread = found.exists is None or found.problem.startswith("can't be read")
    if unread and mode == "system" and machine.machine.uid != 0:
        yield Check(name, None, _type("only root can tell", "sudo opsctl client doctor --system"))
        return
    linked = f"a link to {found.link}" if found.link else ""
    yield Check(name, not found.problem, _mend(machine, place, mode, found) if found.problem else linked)
    if found.mode is not None:
        yield _private(machine, place, found.mode, found.uid, found.owner)


def _mend(machine: HhClient, place: ConfigLocation, mode: Mode, found: ConfigState) -> str:
    """What is wrong with a file that is there, and what to type; what `sudo hh login` left in a home is given back to its user."""
    line = place.login
    if found.problem.startswith("can't be"):
        line = f"sudo chown -R {machine.machine.user} {place.path.parent}"
    elif found.problem.startswith("has no"):
        line = f"opsctl client set-edge-auth --{mode} --value-from -"
    return _type(f"it {found.problem}", line)


def _private(machine: HhClient, place: ConfigLocation, mode: int, uid: int | None, owner: str | None) -> Check:
    """It holds a secret: system mode's is root's, the user's is theirs, and nobody else's to read."""
    name = f"{place.path} is its owner's alone"
    sudo = "sudo " if machine.machine.uid != uid else ""
    wanted = {0} if place.name == "system" else {machine.machine.uid}
    if uid not in wanted:
        new = "root" if place.name == "system" else machine.machine.user
        return Check(name, False, _type(f"it belongs to {owner}", f"sudo chown {new} {place.path}"))
    if mode & 0o077:
        return Check(name, False, _type(f"others may read or write it (mode {mode:04o})", f"{sudo}chmod 600 {place.path}"))
    return Check(name, True, f"{owner}, mode {mode:04o}")


def _docker(machine: HhClient) -> Iterator[Check]:
    """Whether the user may talk to docker: by group, and by its socket."""
    who, name = machine.machine.user, f"{machine.machine.user} is in the group docker"
    add = "sudo usermod -aG docker $USER && newgrp docker"
    instead = "; or use system mode: hh login --system"
    match machine.docker.membership():
        case "root":
            yield Check(name, None, "root needs no group", applies=False)
        case "member":
            yield Check(name, True)
        case "after login":
            yield Check(name, False, _type(f"{who} is, but this login is older than that", "newgrp docker   (or log out and in)"))
        case "outsider":
            yield Check(name, False, _type(f"{who} is not", add + instead))
        case "no group":
            yield Check(name, False, _type("there is no such group: is docker installed?", f"sudo groupadd docker && {add}"))
    yield _socket(machine)


def _socket(machine: HhClient) -> Check:
    path, name = machine.machine.socket, "docker can be reached"
    host = machine.machine.variables.get("DOCKER_HOST")
    if host:
        return Check(name, None, f"DOCKER_HOST sends docker to {host.rpartition('@')[2]}; if that isn't meant, type: unset DOCKER_HOST")
    wrong = machine.docker.unreachable_reason()
    if not wrong:
        return Check(name, True, str(path))
    denied = f"sudo chgrp docker {path} && sudo chmod 660 {path}" if machine.docker.membership() == "member" else "newgrp docker"
    return Check(name, False, _type(f"{path}: {wrong}", denied if wrong == "permission denied" else "sudo systemctl start docker"))


def _docker_config(machine: HhClient, mode: Mode) -> Check:
    """Whether docker (for system mode: root's) asks our helper."""
    found = machine.docker.config(mode)
    name = f"{found.path} names the helper hh"
    if not found.readable and mode == "system":
        return Check(name, None, _type(f"it {found.problem}", "sudo opsctl client doctor --system"))
    told = f'add "credHelpers": {{"ghcr.io": "hh"}} to {found.path}, or log in again: {machine.place(mode).login}'
    return Check(name, not found.problem, f"it {found.problem}; {told}" if found.problem else ", ".join(found.registries))


def _helper(machine: HhClient) -> Check:
    found = machine.docker.helper()
    return Check(f"{found.path} can be run", not found.problem, _type(f"it {found.problem}", found.mend) if found.problem else "")


def _asked(machine: HhClient, mode: Mode, registry: str | None) -> Check:
    """Speak to the helper as docker does, over the mode's own configuration."""
    name = f"the helper answers in {mode} mode"
    place = _place(machine, mode)
    if mode == "system" and machine.machine.uid != 0:
        return Check(name, None, _type("only root can tell", "sudo opsctl client doctor --system"))
    asked = registry or next(iter(machine.docker.config(mode).registries), "ghcr.io")
    answer = machine.docker.ask(asked, place.path if mode == "system" else None)
    return Check(name, answer.ok, answer.told if answer.ok else _type(f"it {answer.told}", place.login))
