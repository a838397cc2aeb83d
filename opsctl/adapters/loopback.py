"""Checks that an endpoint of the sandbox is on this machine, and that an ARN is in the environment's account."""

from __future__ import annotations

import ipaddress
import socket

from opsctl.errors import WrongPlace


def loopback_address(host: str) -> str | None:
    """The loopback address of `host`, or None. The only name that is resolved is localhost, whose addresses must all be loopback."""
    if host == "localhost":
        try:
            found = [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except OSError:
            return None
        return found[0] if all(map(_is_loopback_address, found)) else None
    bare = host.strip("[]")
    return bare if _is_loopback_address(bare) else None


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is loopback; see `loopback_address`."""
    return loopback_address(host) is not None


def _is_loopback_address(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def require_account(what: str, arn: str, account: str) -> None:
    """Raise WrongPlace when an ARN belongs to another account than the environment's."""
    found = (arn.split(":") + [""] * 5)[4]
    if found != account:
        raise WrongPlace(f"{what} {arn} is in account {found or 'none'}, but the environment is account {account}.")


def require_loopback(system: str, host: str) -> None:
    """Raise WrongPlace when `host`, an endpoint of `system` in the sandbox, is not on this machine."""
    if not is_loopback(host):
        raise WrongPlace(
            f"The sandbox's {system} is at {host!r}, which is not on this machine.",
            "Restart the sandbox: opsctl sandbox up",
        )
