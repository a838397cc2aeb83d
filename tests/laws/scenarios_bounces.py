"""Rehearsals of `opsctl bounces process` and `mark`: what is counted is looked up in the application's own tables."""

from __future__ import annotations

import json
from collections.abc import Callable

from scenario import Scenario
from world import World

from opsctl.sandbox.aws import notifications

AT = 1_780_000_000.0
HARD = json.dumps(notifications.bounce("Permanent", "General", ["User21@Example.com"], AT))
SOFT = json.dumps(notifications.bounce("Transient", "MailboxFull", ["user31@example.com"], AT))
SPAM = json.dumps(notifications.complaint("abuse", ["user41@example.com"], AT))
LINES = f"{HARD}\n{SOFT}\n{SPAM}\n{SOFT}\nno notification\n"
KEY = "0100017f-by-hand"


def stands(world: World, user: int) -> tuple[str, int]:
    """A user's status and count."""
    with world.database() as connection:
        found = connection.execute("SELECT email_status, bounce_count FROM users WHERE id = %s", [user]).fetchone()
    assert found is not None
    return found[0], found[1]


def rows(world: World) -> int:
    """How many notifications have been counted since the world began."""
    return world.count("SELECT count(*) FROM ses_notifications WHERE feedback_id NOT LIKE 'seeded-%'")


def waiting(world: World) -> int:
    """How many messages are in the queue, whoever has them."""
    client = world.aws("sqs")
    url = client.get_queue_url(QueueName=notifications.QUEUE)["QueueUrl"]
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


def write_lines(world: World) -> None:
    """A file as somebody keeps it who was sent the notifications."""
    (world.home / "bounces.jsonl").write_text(LINES)


def add_line(world: World) -> None:
    """Somebody else adds to the file."""
    with (world.home / "bounces.jsonl").open("a") as file:
        file.write(f"{HARD}\n")


def lines_counted(world: World) -> bool:
    """Whether each was counted once, and what can't be read is kept."""
    found = [stands(world, user) for user in (21, 31, 41)]
    kept = "".join(path.read_text() for path in world.ledger.parent.glob("aside-*.jsonl"))
    return (found, rows(world), kept.count("\n")) == ([("bounced", 0), ("ok", 1), ("complained", 0)], 3, 1)


def short_queue(world: World) -> None:
    """Eleven messages: two calls' worth, some of them copies."""
    client = world.aws("sqs")
    url = client.get_queue_url(QueueName=notifications.QUEUE)["QueueUrl"]
    client.purge_queue(QueueUrl=url)
    for number, body in enumerate([HARD, SOFT, SPAM, SOFT, "no notification", SOFT, HARD, SPAM, SOFT, HARD, SOFT]):
        client.send_message(QueueUrl=url, MessageBody=body, MessageAttributes={"n": {"DataType": "Number", "StringValue": str(number)}})


def queue_counted(world: World) -> bool:
    """Whether the queue is empty, and each was counted once."""
    return lines_counted(world) and waiting(world) == 0


def marked(status: str, count: int) -> Callable[[World], bool]:
    """Whether user 51 stands so, by one notification."""
    return lambda world: stands(world, 51) == (status, count) and rows(world) == 1


def complain(world: World) -> None:
    """The same user complains meanwhile."""
    with world.database() as connection:
        connection.execute("UPDATE users SET email_status = 'complained' WHERE id = 51")


SCENARIOS: dict[str, list[Scenario]] = {
    "bounces process": [
        Scenario("bounces process {home}/bounces.jsonl", lines_counted, prepare=write_lines, meddle=add_line),
        Scenario("bounces process --queue", queue_counted, prepare=short_queue),
        Scenario("bounces process -", lines_counted, stdin=LINES, variant=True),
    ],
    "bounces mark": [
        Scenario(f"bounces mark User51@EXAMPLE.com --hard --notification {KEY}", marked("bounced", 0), meddle=complain, reversible=True),
        Scenario(f"bounces mark user51@example.com --soft --notification {KEY}", marked("ok", 1), reversible=True, variant=True),
    ],
}
