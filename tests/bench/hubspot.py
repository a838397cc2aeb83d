"""A hundred thousand contacts disabled by `opsctl downloads disable`, under HubSpot's own limit, beside the runbook's curl in a loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opsctl.sandbox import lifecycle
from opsctl.sandbox.hubspot_contacts import FIRST, POPULATION
from opsctl.sandbox.world_file import facts
from tests.bench.bounds import CONTACTS
from tests.bench.sides import Failed
from tests.bench.table import Row, ratio

RATE, WINDOW = 190, 10.0
"""What HubSpot allows one app: requests in any so many seconds."""
QUICKER = 50.0
"""By how much the whole is allowed to be quicker, so that it is over in a minute or two; a processor may be what bounds it then."""
BEGUN, MEASURED = 2.0, 20.0
"""Seconds of a run that are passed over, and those that its rate is taken from."""
PATCHES = 100
LOOP = """
for id in $(seq $FIRST $LAST); do
  curl -sS -f -o /dev/null -X PATCH -H "Authorization: Bearer $HS_TOKEN" -H "Content-Type: application/json" \
    -d '{"properties": {"download_enabled": "false"}}' "$HS_BASE/crm/v3/objects/contacts/$id"
done
"""


class Portal:
    """The stand-in, behind its interface: what it allows, has been asked, and has refused."""

    def __init__(self, folder: Path) -> None:
        self._facts = facts(folder)

    def limit(self, **limits: Any) -> None:
        """Set `burst` requests in any `burst_seconds`; nothing puts the world's own limits back."""
        self._ask("POST", "/limits", limits)

    def requests(self) -> int:
        """How many were asked so far, the refused among them."""
        return int(self._ask("GET", "/counts")["requests"])

    def refused(self) -> int:
        """How many were answered 429."""
        return sum(self._ask("GET", "/counts")["refused"].values())

    def shell(self) -> dict[str, str]:
        """The variables of the loop."""
        names = {"HS_BASE": self._facts["hubspot"], "HS_TOKEN": self._facts["hs_token"]}
        return {**os.environ, **names, "FIRST": str(FIRST), "LAST": str(FIRST + PATCHES - 1)}

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._facts['control_token']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._facts['control']}/hubspot{path}", data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def measure(folder: Path) -> list[Row]:
    """The rate of one process and of three, what was refused, the whole's memory, and a contact's time beside curl's."""
    portal = Portal(folder)
    rates, rows = {}, list[Row]()
    for count, name in ((1, "one process"), (3, "three processes")):
        _limited(folder, portal, WINDOW)
        rates[count] = rate = _rate(folder, portal, count)
        rows.append(Row(f"{CONTACTS}: the allowed rate, {name}", RATE / WINDOW / rate, f"{rate:.1f}/s", f"{RATE / WINDOW:.0f}/s"))
        rows.append(Row(f"{CONTACTS}: refused (429), {name}", portal.refused()))
    _limited(folder, portal, WINDOW / QUICKER)
    memory = _whole(folder)
    requests = portal.requests()
    rows.append(Row(f"{CONTACTS}: memory", memory, f"{requests:,} requests"))
    rows.append(Row("", portal.refused(), what=f"{CONTACTS}: refused (429) at {QUICKER:.0f} times the rate", unit="requests"))
    lifecycle.reset(folder)
    began = time.perf_counter()
    _ended(subprocess.run(["sh", "-ec", LOOP], env=portal.shell(), capture_output=True, check=False))
    loop = (time.perf_counter() - began) / PATCHES
    ours = requests / rates[1] / POPULATION
    return [*rows, ratio("", ours, loop, what="a contact at the allowed rate, read, changed and read back; curl in a loop without limit")]


def _limited(folder: Path, portal: Portal, window: float) -> None:
    lifecycle.reset(folder)
    portal.limit(burst=RATE, burst_seconds=window)


def _rate(folder: Path, portal: Portal, count: int) -> float:
    """Requests a second while `count` processes each do their share of all contacts."""
    shares = [list(range(first, POPULATION, count)) for first in range(count)]
    with _commands(folder, shares) as processes:
        _until_asked(portal, processes)
        time.sleep(BEGUN)
        before, began = portal.requests(), time.perf_counter()
        time.sleep(MEASURED)
        asked, taken = portal.requests() - before, time.perf_counter() - began
        if any(process.poll() is not None for process in processes):
            raise Failed("A process ended while its rate was measured.")
    return asked / taken


def _until_asked(portal: Portal, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while portal.requests() < RATE / WINDOW:
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            raise Failed("The processes didn't begin to ask.")
        time.sleep(0.1)


def _whole(folder: Path) -> float:
    """Disable every contact by one process; returns its largest size in megabytes."""
    with _commands(folder, [list(range(POPULATION))]) as (process,):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(f"opsctl downloads disable ended with {process.returncode}: see {folder}/disabling-0")
    return usage.ru_maxrss / 1024


@contextmanager
def _commands(folder: Path, shares: Sequence[Sequence[int]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """`opsctl downloads disable` once for each share of the contacts, side by side; what still runs in the end is ended."""
    processes = []
    try:
        for number, share in enumerate(shares):
            file = folder / f"contacts-{number}"
            file.write_text("".join(f"{FIRST + each}\n" for each in share))
            with (folder / f"disabling-{number}").open("wb") as said:
                words = ["opsctl", "downloads", "disable", "--from-file", str(file), "--yes"]
                processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said))
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def _ended(done: subprocess.CompletedProcess[bytes]) -> None:
    if done.returncode:
        raise Failed(f"The loop ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
