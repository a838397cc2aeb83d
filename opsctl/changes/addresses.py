"""Changes to a block list: adds addresses to an address set or removes them; other entries stay."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Done, Evidence, Finding, Pending
from opsctl.errors import Refused
from opsctl.permissions import Permissions, needs
from opsctl.settings.security import WafPlace
from opsctl.shell import File, Program, Put, joined, run

if TYPE_CHECKING:
    from opsctl.adapters.aws.waf import AddressSet
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

Network = IPv4Network | IPv6Network

MOST = 10_000
"""The entries that WAF lets a set have."""

FEW = 3

ADDRESSES = Program(
    "address_set",
    """
import json, sys
from ipaddress import ip_network
held, addresses, scope, how = sys.argv[1:]
with open(held) as file:
    answer = json.load(file)
with open(addresses) as file:
    ours = [ip_network(each) for each in json.load(file)]
found = answer["IPSet"]
entries = [(entry, ip_network(entry)) for entry in found["Addresses"]]
if how == "listed":
    covered = [one for one in ours if any(one.version == each.version and one.subnet_of(each) for _, each in entries)]
    now = [entry for entry, _ in entries] + [str(one) for one in ours if one not in covered]
else:
    now = [entry for entry, each in entries if each not in ours]
told = {"Description": found["Description"]} if found.get("Description") else {}
where = {"Name": found["Name"], "Id": found["Id"], "Scope": scope, "LockToken": answer["LockToken"]}
json.dump({**where, **told, "Addresses": now}, sys.stdout)
""",
)
"""Writes the update of an address set, of what WAF says of it and the addresses to put in or to take out."""


class ListAddresses(Change, frozen=True, kw_only=True):
    """All of `addresses` (CIDRs) are in an address set; if not `listed`, none is.

    `kept` are the addresses that were already in that state when the change was planned; undo leaves them as they are.
    """

    permissions: ClassVar[Permissions] = needs(
        check="wafv2:GetIPSet wafv2:ListIPSets",
        apply="wafv2:GetIPSet wafv2:ListIPSets wafv2:UpdateIPSet",
    )
    target_template: ClassVar[str] = "firewall/{name}"

    name: str
    place: WafPlace
    addresses: tuple[str, ...]
    listed: bool
    kept: tuple[str, ...] = ()

    @property
    def _moved(self) -> list[str]:
        return [address for address in self.addresses if address not in self.kept]

    @property
    def summary(self) -> str:
        """Which addresses."""
        more = len(self.addresses) - FEW
        those = ", ".join(self.addresses[:FEW]) + (f" and {more:,} more" if more > 0 else "")
        return f"add {those} to the block list {self.name}" if self.listed else f"remove {those} from the block list {self.name}"

    def difference(self) -> tuple[Any, Any]:
        """The entries that are added or removed."""
        return ([], self._moved) if self.listed else (self._moved, [])

    def check(self, read: Systems) -> Finding:
        """Looks up each address; an address that a wider entry covers counts as listed."""
        now = read.waf.addresses(self.name, self.place)
        if not self.listed:
            there = [one for one in self.addresses if ip_network(one) in now.networks]
            return Pending(len(there), "addresses") if there else Done("none of them is on the list")
        missing = uncovered(now, self.addresses)
        if not missing:
            return Done("all of them are on the list")
        if len(now.entries) + len(missing) > MOST:
            raise Refused(
                f"{self.name} has {len(now.entries):,} of at most {MOST:,} entries; {len(missing):,} more don't fit.",
                "Block larger ranges instead.",
            )
        return Pending(len(missing), "addresses")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateIPSet with the set's lock token; other entries stay."""
        write.waf.put_addresses(self.name, self.place, self._entries)
        return {}

    def _entries(self, now: AddressSet) -> list[str]:
        if self.listed:
            return [*now.entries, *uncovered(now, self.addresses)]
        gone = {ip_network(one) for one in self.addresses}
        return [entry for entry in now.entries if ip_network(entry) not in gone]

    def inverse(self) -> ListAddresses:
        """The opposite change, for the addresses that this change moved."""
        return ListAddresses(name=self.name, place=self.place, addresses=tuple(self._moved), listed=not self.listed)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The WAF commands: WAF replaces a whole set, under its lock token."""
        where: dict[str, Any] = {"region": self.place.region, "Scope": self.place.scope}
        addresses, held, whole = File("addresses"), File("set"), File("whole-set")
        get = raw.aws(environment, "wafv2", "get-ip-set", raw.ID, **where, Name=self.name)
        update = raw.aws(environment, "wafv2", "update-ip-set", region=self.place.region)
        return [
            raw.learn("id", raw.aws(environment, "wafv2", "list-ip-sets", **where, Limit=100), raw.id_of("IPSets", self.name)),
            Put(file=addresses, words=(json.dumps(self.addresses),)),
            run(get.program, *get.words, "--output", "json", output=held),
            run(ADDRESSES, held, addresses, self.place.scope, "listed" if self.listed else "gone", output=whole),
            run(update.program, *update.words, "--cli-input-json", joined("file://", whole)),
        ]


def uncovered(now: AddressSet, addresses: tuple[str, ...]) -> list[str]:
    """The addresses that no entry of a set covers."""
    return [one for one in addresses if _covering(now, one) is None]


def _covering(now: AddressSet, address: str) -> str | None:
    """The entry that equals or contains an address."""
    network = ip_network(address)
    return next((str(entry) for entry in now.networks if entry.version == network.version and network.subnet_of(entry)), None)  # type: ignore[arg-type]
