"""Where an endpoint is: in the sandbox every one has to be on this machine."""

from __future__ import annotations

import ipaddress

from opsctl.errors import WrongPlace


def on_this_machine(host: str) -> bool:
    """Tell whether `host`, a name or an address, is the loopback; names other than localhost are never looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def only_here(system: str, host: str) -> None:
    """Raise WrongPlace when `host`, an endpoint of `system` in the sandbox, is not on this machine."""
    if not on_this_machine(host):
        raise WrongPlace(
            f"The sandbox's {system} is at {host!r}, which is not on this machine: nothing was sent.",
            "Renew it: opsctl sandbox up",
        )
