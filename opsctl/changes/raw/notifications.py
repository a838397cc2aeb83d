"""Counting SES notifications in a script: the program that reads them, and the statements that count them."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from opsctl.changes.raw.database import sql
from opsctl.formats import email_addresses
from opsctl.shell import Command, File, Need, Program, Put, Statement, Variable, Wanted, run, standalone
from opsctl.statements import bounces as statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsctl.config import Environment

ROWS = File("rows")

NONE_FAILED = Program(
    "none_failed",
    """
import json, sys
answer = sys.stdin.read()
sys.exit(bool((json.loads(answer) if answer.strip() else {}).get("Failed")))
""",
)
"""Succeeds where SQS deleted all of a batch."""

ROW = """
import json, sys
from datetime import datetime, timezone
held, address = json.loads(sys.argv[1]), sys.stdin.read()
try:
    found = parse(address)
except ValueError:
    sys.exit("that is not an e-mail address")
now = datetime.now(timezone.utc).isoformat()
rest = {"recipient": found.recipient, "domain": found.domain, "at": now, "others": list(found.others)}
json.dump([{**held, **rest}], sys.stdout)
"""


@functools.cache
def reader() -> Program:
    """The program that reads notifications."""
    from opsctl.changes.raw import read_by_hand

    return standalone("read_notifications", email_addresses, read_by_hand, main="main()", needs=("curl", "openssl"))


@functools.cache
def _row() -> Program:
    return standalone("row_of", email_addresses, main=ROW)


def addressed(users: str, row: str) -> list[Statement]:
    """The rows of a batch with one address, which whoever runs the script enters."""
    need = Need("ADDRESS", f"the e-mail address of {users}", secret=True)
    return [
        Wanted(need=need),
        Put(file=File("address"), words=(Variable("ADDRESS"),)),
        run(_row(), row, stdin=File("address"), output=ROWS),
    ]


def rules(environment: Environment) -> str:
    """Whose notifications count, as the program's input."""
    from opsctl.formats import ses_bounces as ses

    settings = environment.bounces
    held = {
        "accounts": [environment.aws.account, *settings.accounts],
        "topics": settings.topics,
        "endpoint": (environment.aws.endpoint or "") if environment.settings.sandbox else "",
        "bounces": ses.BOUNCES,
        "subtypes": ses.SUBTYPES,
        "by_report": sorted(ses.BY_REPORT),
        "no_failure": ses.NO_FAILURE,
        "no_complaint": sorted(ses.NO_COMPLAINT),
        "not_sent": sorted(ses.NOT_SENT),
    }
    return json.dumps(held)


def counting(environment: Environment, rows: File) -> Command:
    """The statement that counts the rows of a file, each notification once."""
    return sql(environment, statements.COUNT, statements.names(environment.bounces), batch=rows)


def taking_back(environment: Environment, notification: str, recipient: File, before: Sequence[tuple[str, str | None]]) -> Command:
    """The statement that removes a notification of one address, and restores its users' former status."""
    from opsctl.formats.ses_bounces import BOUNCES

    settings = environment.bounces
    return sql(
        environment,
        statements.TAKE_BACK,
        statements.names(settings),
        feedback_id=notification,
        recipient=recipient,
        before=statements.before_json(settings, before),
        final=statements.final(BOUNCES),
    )
