"""Every bound that the bench holds opsctl to. Each part gives one figure for each of its bounds; README.md shows this list."""

from __future__ import annotations

from typing import NamedTuple


class Bound(NamedTuple):
    """The most that a figure may be: `what` of opsctl, divided by `other` where there is another side."""

    part: str
    what: str
    most: float
    unit: str = "x"
    other: str = ""


AWS = "the runbook's `aws` command"
LOGOUT = "sections 1.2 and 1.5"
SESSIONS, KEYS = "5,000,000 sessions deleted", "1,000,000 keys unlinked"
CONTACTS, NOTIFICATIONS = "100,000 contacts disabled", "100,000 notifications counted"
HISTORY = "a ledger of 20,000 runs"

BOUNDS = (
    Bound("startup", "--help", 1.1, other="`import click`"),
    Bound("startup", "service status", 0.7, other=AWS),
    Bound("reads", "alarms list", 0.7, other=AWS),
    Bound("reads", "service metrics api", 0.7, other=AWS),
    Bound("reads", "database status", 0.7, other=AWS),
    Bound("reads", "database connections, over the Data API", 0.7, other=AWS),
    Bound("reads", "database activity, over the Data API", 0.7, other=AWS),
    Bound("reads", "database activity", 0.7, other=AWS),
    Bound("reads", "snapshots list", 0.7, other=AWS),
    Bound("reads", "bounces stats", 0.7, other=AWS),
    Bound("status", "status", 1.5, other="its slowest source alone"),
    Bound("status", "status, a source 0.5 s late", 1.5, other="its slowest source alone"),
    Bound("playbook", LOGOUT, 0.42, other="the runbook's shell commands"),
    Bound("playbook", f"{LOGOUT}, in one process", 1.2, other="a bare Python script that makes the same calls"),
    Bound("ledger", "a step", 2.5, other="SQLite rows of the same bytes, each committed durably"),
    Bound("history", f"runs list, {HISTORY}", 1.3, other="a ledger of one run"),
    Bound("history", f"runs show, {HISTORY}", 1.3, other="a ledger of one run"),
    Bound("history", f"service scale -n, {HISTORY}", 1.3, other="a ledger of one run"),
    Bound("history", f"runs verify, {HISTORY}", 3, other="a Python script that reads the same rows"),
    Bound("sessions", SESSIONS, 1.15, other="one DELETE"),
    Bound("sessions", f"{SESSIONS}: another client's worst wait", 20, "ms"),
    Bound("sessions", f"{SESSIONS}: memory", 16, "MB"),
    Bound("keys", KEYS, 1.15, other="SCAN, PTTL and UNLINK in one Lua loop on the server"),
    Bound("keys", f"{KEYS}, by a client", 0.4, other="valkey-cli --scan, xargs and unlink"),
    Bound("keys", f"{KEYS}: other keys lost", 0, "keys"),
    Bound("keys", f"{KEYS}: memory", 16, "MB"),
    Bound("hubspot", f"{CONTACTS}: the allowed rate, one process", 1 / 0.95, other="requests per second"),
    Bound("hubspot", f"{CONTACTS}: refused (429), one process", 0, "requests"),
    Bound("hubspot", f"{CONTACTS}: the allowed rate, three processes", 1 / 0.95, other="requests per second"),
    Bound("hubspot", f"{CONTACTS}: refused (429), three processes", 0, "requests"),
    Bound("hubspot", f"{CONTACTS}: memory", 150, "MB"),
    Bound("bounces", NOTIFICATIONS, 2, other="json.loads and COPY of the same file"),
    Bound("bounces", f"{NOTIFICATIONS}: memory", 16, "MB"),
)

PARTS = tuple(dict.fromkeys(bound.part for bound in BOUNDS))


def of(part: str) -> list[Bound]:
    """The bounds of one part, in order."""
    return [bound for bound in BOUNDS if bound.part == part]


def markdown() -> str:
    """The list as a table for README.md."""
    rows = [f"| `{b.part}` | {b.what} | {b.other or '-'} | {amount(b.most, b.unit)} |" for b in BOUNDS]
    return "\n".join(["| part | what | compared with | at most |", "|---|---|---|---|", *rows])


def amount(value: float, unit: str) -> str:
    """`1.2, "x"` -> `1.20 x`; counts without decimals."""
    return f"{value:.2f} {unit}" if unit in ("x", "ms", "MB") else f"{value:,.0f} {unit}"
