"""`opsctl bounces process` and `mark`: the queue of a new world, kills at the worst moments, and what people get wrong."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from customers import refusal, told
from terminal import until
from world import World

from opsctl.adapters.aws.sqs import Sqs
from opsctl.adapters.sql.bounce_store import BounceStore
from opsctl.sandbox.aws import notifications
from opsctl.sandbox.aws.sns_signing import Signer

AT = 1_780_000_000.0
SEEDED = {
    "counted": 25,
    "bounced": 8,
    "complained": 5,
    "soft": 9,
    "unknown": 1,
    "repeated": 3,
    "ignored": 2,
    "kept aside": 1,
    "unsigned": 1,
    "read": 29,
}
STATUS = "SELECT count(*) FROM users WHERE email_status = '{}'"
ADDED = "SELECT sum(bounce_count) - 5 FROM users WHERE id BETWEEN 3 AND 99 OR id = 500"
# What a new world has counted before isn't looked at.
ROWS = "SELECT count(*) FROM ses_notifications WHERE feedback_id NOT LIKE 'seeded-%'"


def line(kind: str = "Permanent", address: str = "user21@example.com", at: float = AT) -> str:
    return json.dumps(notifications.bounce(kind, "General", [address], at))


def signed(world: World, told: dict[str, Any], version: str = "1") -> str:
    """A notification as SNS delivers it in this world."""
    return notifications.sns(told, AT, Signer(world.facts["sns_key"], world.facts["aws"]), version)


def write(world: World, *lines: str) -> str:
    path = world.home / "bounces.jsonl"
    path.write_text("".join(f"{each}\n" for each in lines))
    return str(path)


def queue(world: World) -> tuple[Any, str]:
    client = world.aws("sqs")
    return client, client.get_queue_url(QueueName=notifications.QUEUE)["QueueUrl"]


def depth(world: World) -> list[int]:
    client, url = queue(world)
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return [int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])]


def killing(owner: Any, name: str, *, after: bool) -> Callable[[], None]:
    """What makes a child kill itself at the second call of a method, before or after it."""

    def arm() -> None:
        method, calls = getattr(owner, name), []

        def killed(*args: Any, **how: Any) -> Any:
            calls.append(1)
            found = method(*args, **how) if after or len(calls) < 2 else None
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        setattr(owner, name, killed)

    return arm


def seeded(world: World) -> None:
    """What the queue of a new world comes to, once each."""
    assert (world.count(STATUS.format("bounced")), world.count(STATUS.format("complained"))) == (8, 5)
    assert world.count(ADDED) == 9
    assert world.count(ROWS) == 25
    [aside] = world.ledger.parent.glob("aside-*")
    [kept] = map(json.loads, aside.read_text().splitlines())
    assert kept["reason"].startswith("it is not the JSON of a notification")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert depth(world) == [0, 0]


@pytest.mark.parametrize("driver", ["postgres", "rds-data"])
def test_the_queue_of_a_new_world(world: World, driver: str) -> None:
    world.configure({'driver = "postgres"': f'driver = "{driver}"'})
    dry = told(world, "bounces", "process", "--queue", "-n", code=3)
    assert dry["changes"][0]["impact"] == {"count": 29, "unit": "messages"}
    assert depth(world) == [29, 0]
    done = told(world, "bounces", "process", "--queue", "-y")
    assert {name: done["changes"][0]["evidence"][name] for name in SEEDED} == SEEDED
    seeded(world)
    assert told(world, "bounces", "process", "--queue", "-y")["result"] == "unchanged"


@pytest.mark.parametrize(("owner", "name", "after"), [(Sqs, "receive", True), (BounceStore, "count", True), (Sqs, "delete", True)])
def test_killed_in_the_middle_of_a_batch_each_is_counted_once(world: World, owner: Any, name: str, after: bool) -> None:
    """The second batch was taken, or counted, and not deleted: it comes back, and is met again."""
    world.configure({'visibility = "3s"': 'visibility = "2s"'})
    killed = world.opsctl("bounces", "process", "--queue", "-y", before=killing(owner, name, after=after))
    assert killed.code == -signal.SIGKILL
    [run] = world.runs()
    resumed = world.opsctl("-o", "json", "runs", "resume", run, check=0).json
    assert resumed["result"] == "changed"
    seeded(world)


def test_standard_input_survives_a_kill_and_goes_when_it_is_done(world: World) -> None:
    # More than one batch holds.
    lines = "".join(f"{line('Transient', f'user{31 + n % 10}@example.com', AT + n)}\n" for n in range(2_100))
    killed = world.opsctl("bounces", "process", "-", "-y", input=lines, before=killing(BounceStore, "count", after=True))
    assert killed.code == -signal.SIGKILL
    [spooled] = world.ledger.parent.glob("spool-*")
    assert stat.S_IMODE(spooled.stat().st_mode) == 0o600
    [run] = world.runs()
    world.opsctl("runs", "resume", run, check=0)
    assert world.count(ROWS) == 2_100
    assert world.count("SELECT min(bounce_count) + max(bounce_count) FROM users WHERE id BETWEEN 31 AND 40") == 420
    assert list(world.ledger.parent.glob("spool-*")) == []
    assert told(world, "bounces", "process", write(world, *lines.splitlines()), "-n")["result"] == "unchanged"


def test_a_saved_plan_asks_for_standard_input_again(world: World) -> None:
    plan = str(world.home / "plan.json")
    world.opsctl("bounces", "process", "-", "-n", "--save", plan, input=f"{line()}\n", check=3)
    assert "user21" not in (world.home / "plan.json").read_text()
    assert list(world.ledger.parent.glob("spool-*")) == []
    assert "which is empty now" in refusal(world.opsctl("apply", plan, "-y"), 7)
    assert "has changed since the plan" in refusal(world.opsctl("apply", plan, "-y", input="another\n"), 4)
    world.opsctl("apply", plan, "-y", input=f"{line()}\n", check=0)
    assert world.count(ROWS) == 1


def test_two_at_once_count_each_once(world: World) -> None:
    lines = [line("Transient", f"user{31 + n % 5}@example.com", AT + n) for n in range(300)]
    one, other = write(world, *lines), world.home / "other.jsonl"
    other.write_text("".join(f"{each}\n" for each in reversed(lines)))
    running = [world.opsctl.start("bounces", "process", path, "-y", env={"XDG_STATE_HOME": f"{path}-state"}) for path in (one, str(other))]
    assert [each.wait().code for each in running] == [0, 0]
    assert world.count(ROWS) == 300
    assert world.count("SELECT sum(bounce_count) FROM users WHERE id BETWEEN 31 AND 35") == 300


def test_an_odd_address_meets_its_user(world: World) -> None:
    with world.database() as connection:
        connection.execute("UPDATE users SET email = 'Jörg@Müller.example' WHERE id = 31")
    file = write(world, line(address="jörg@xn--mller-kva.example"), line(address="Somebody <USER21@EXAMPLE.com>"))
    assert told(world, "bounces", "process", file, "-y")["changes"][0]["evidence"]["bounced"] == 2
    assert world.count(STATUS.format("bounced")) == 2
    told(world, "bounces", "mark", "JÖRG@MÜLLER.EXAMPLE", "--soft", "--notification", "by-hand", "-y")
    assert world.count("SELECT bounce_count FROM users WHERE id = 31") == 1


def test_addresses_stay_out_of_the_plan_and_the_ledger(world: World) -> None:
    told(world, "bounces", "process", write(world, line(address="user22@example.com"), line()), "-y")
    told(world, "bounces", "process", "--queue", "-y")
    told(world, "bounces", "mark", "user23@example.com", "--soft", "--notification", "by-hand", "-y")
    with contextlib.closing(sqlite3.connect(world.ledger)) as ledger:
        assert ledger.execute("SELECT text FROM personal").fetchall() == [("user23@example.com",)]
        kept = [str(ledger.execute(f"SELECT * FROM {table}").fetchall()) for table in ("runs", "steps", "events", "locks")]
    assert "user2" not in "".join(kept)


def test_forged_ones_are_kept_aside(world: World) -> None:
    foreign = signed(world, json.loads(line())).replace(notifications.ACCOUNT, "210987654321")
    done = told(
        world, "bounces", "process", write(world, foreign, line(address="user22@example.com")), "--aside", str(world.home / "a"), "-y"
    )
    assert done["changes"][0]["evidence"]["kept aside"] == 1
    assert "not in `topics`" in (world.home / "a").read_text()
    assert "unreadable messages are in" in done["changes"][0]["why"]
    assert world.count(STATUS.format("bounced")) == 1
    assert told(world, "bounces", "process", str(world.home / "a"), "-n", code=3)["changes"][0]["impact"]["count"] == 1


def test_what_sns_didnt_sign_counts_for_nobody(world: World) -> None:
    told_of = notifications.complaint("abuse", ["user21@example.com"], AT)
    whole = json.loads(signed(world, told_of))
    forged = [
        whole | {"Signature": "NOT A SIGNATURE"},
        whole | {"Message": whole["Message"].replace("user21@", "user22@")},
        whole | {"SigningCertURL": f"https://sns.{notifications.REGION}.amazonaws.com/SimpleNotificationService-0123abcd.pem"},
        whole | {"SigningCertURL": f"{world.facts['aws']}/SimpleNotificationService-0123abcd.pem"},
        whole | {"SigningCertURL": f"{world.facts['notices']}/SimpleNotificationService-0123abcd.pem"},
    ]
    file = write(world, *map(json.dumps, forged))
    found = told(world, "bounces", "process", file, "--aside", str(world.home / "a"), "-y", code=1)["changes"][0]
    assert (found["evidence"]["counted"], found["evidence"]["kept aside"]) == (0, 5)
    kept = (world.home / "a").read_text()
    assert kept.count("its signature is not valid") == 2
    assert kept.count("not from Amazon") == 2
    assert kept.count("no such signing certificate") == 1
    assert world.count(ROWS) == 0
    for version in ("1", "2"):
        again = notifications.complaint("abuse", [f"user2{version}@example.com"], AT)
        shown = told(world, "bounces", "process", write(world, signed(world, again, version)), "-n", code=3)["changes"][0]
        assert "signature" not in shown["impact"].get("note", "")
        told(world, "bounces", "process", str(world.home / "bounces.jsonl"), "-y")
    assert world.count(STATUS.format("complained")) == 2


def test_what_carries_no_signature_is_said_to(world: World) -> None:
    shown = world.opsctl("bounces", "process", write(world, line()), "-n", check=3)
    assert "without an SNS signature: 1 (anybody who can write to that file may have made them)" in " ".join(
        (shown.out + shown.err).split()
    )
    world.configure({"[bounces]\n": f'[bounces]\ntopics = ["{notifications.TOPIC}"]\n'})
    found = told(world, "bounces", "process", write(world, line(), signed(world, json.loads(line("Transient")))), "-y")
    assert (found["changes"][0]["evidence"]["counted"], found["changes"][0]["evidence"]["kept aside"]) == (1, 1)


def test_a_certificate_that_cant_be_fetched_puts_nothing_aside(world: World) -> None:
    file = write(world, signed(world, json.loads(line())))
    world.fault("aws", "*", "fail", times=50)
    done = world.opsctl("bounces", "process", file, "-y", check=1)
    assert "Traceback" not in done.err
    assert not list(world.ledger.parent.glob("aside-*"))


def test_somebody_who_is_out_of_office_is_not_deactivated(world: World) -> None:
    """SES makes a transient bounce of each automatic answer; the runbook's threshold is five."""
    harmless = [("Transient", "General", False), ("Undetermined", "Undetermined", False), ("Transient", "MessageTooLarge", True)]
    harmless += [("Transient", each, True) for each in ("ContentRejected", "AttachmentRejected", "CustomTimeoutExceeded")]
    harmless += [("Permanent", "OnAccountSuppressionList", True), ("Permanent", "UnsubscribedRecipient", True)]
    now = time.time()
    told_of = [
        notifications.bounce(kind, subtype, [f"user{60 + number}@example.com"], now - 3_600 * n, report=report)
        for number, (kind, subtype, report) in enumerate(harmless)
        for n in range(1, 8)
    ]
    told(world, "bounces", "process", write(world, *map(json.dumps, told_of)), "-y")
    assert world.count("SELECT sum(bounce_count) FROM users WHERE id IN (60, 61)") == 0
    told(world, "bounces", "enforce", "--accept-outage", "-y")
    assert world.count("SELECT count(*) FROM users WHERE is_active IS NOT TRUE AND id BETWEEN 60 AND 67") == 0


def test_a_file_with_nothing_for_us_changes_nothing(world: World) -> None:
    delivery = json.dumps({"notificationType": "Delivery", "mail": {}})
    for lines, why in (([], "it is empty"), ([delivery], "it contains nothing to count (other notification types: 1)")):
        shown = told(world, "bounces", "process", write(world, *lines), "-y")
        assert (shown["result"], shown["changes"][0]["why"]) == ("unchanged", why)


def test_a_file_of_which_nothing_can_be_read_doesnt_pass_for_an_empty_one(world: World) -> None:
    delivery = json.dumps({"notificationType": "Delivery", "mail": {}})
    shown = told(world, "bounces", "process", write(world, delivery, "nonsense", "more of it"), "-y")
    assert shown["changes"][0]["why"].startswith(
        "2 of its 3 messages can't be read, and the others are of other types; unreadable messages are"
    )
    shown = told(world, "bounces", "process", write(world, line(), "nonsense"), "-y")
    assert shown["changes"][0]["why"].startswith("all 1 readable notifications in it are already counted; unreadable messages are in")


UNREADABLE = {"words": b"nonsense\nmore of it\n", "zlib": zlib.compress(b"{}"), "utf-16": b"\xff\xfe{", "numbers": b"[1, 2]"}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_of_which_nothing_at_all_can_be_read_fails_each_time(world: World, content: bytes) -> None:
    path = world.home / "bounces"
    path.write_bytes(content)
    for _ in range(2):
        done = world.opsctl("bounces", "process", str(path), "-y", check=1)
        assert re.search(r"none of its \d+ messages can be read \(the first: .+\)", done.err)
    assert world.count(ROWS) == 0


def test_a_queue_of_which_nothing_can_be_read_fails(world: World) -> None:
    told(world, "bounces", "process", "--queue", "-y")
    client, url = queue(world)
    for number in range(3):
        client.send_message(QueueUrl=url, MessageBody=f"nonsense {number}")
    done = world.opsctl("bounces", "process", "--queue", "--aside", str(world.home / "a"), "-y", check=1)
    assert "3 messages were done, then: None of the messages can be read" in done.err
    assert len((world.home / "a").read_text().splitlines()) == 3


@pytest.mark.parametrize("members", [1, 2])
def test_a_gzip_file_is_read(world: World, members: int) -> None:
    """Several files that were packed one by one and put together are one gzip file too."""
    path = world.home / "bounces.gz"
    path.write_bytes(b"".join(gzip.compress(f"{line(address=f'user{30 + n}@example.com')}\n".encode()) for n in range(members)))
    assert told(world, "bounces", "process", str(path), "-y")["changes"][0]["evidence"]["counted"] == members
    assert world.count(ROWS) == members
    assert told(world, "bounces", "process", str(path), "-y")["result"] == "unchanged"


@pytest.mark.parametrize("how", [["--queue"], ["FILE"]])
def test_a_file_of_somebody_elses_is_refused_before_anything_is_done(world: World, how: list[str]) -> None:
    os.mkfifo(world.home / "pipe")
    (world.home / "notes").write_text("Call the provider.\n")
    how = [write(world, "nonsense") if each == "FILE" else each for each in how]
    for name, why in (("pipe", "it is a pipe, not a regular file"), ("notes", "it contains something else")):
        for mode in ("-n", "-y"):
            assert why in refusal(world.opsctl("bounces", "process", *how, "--aside", str(world.home / name), mode), 2)
    assert (world.home / "notes").read_text() == "Call the provider.\n"
    assert depth(world) == [29, 0]


def test_more_than_may_be_affected_is_refused(world: World) -> None:
    file = write(world, *(line(at=AT + n) for n in range(3)))
    assert "3 notifications, above the limit of 2" in refusal(world.opsctl("bounces", "process", file, "-y", "--max-affected", "2"), 4)
    assert world.count(ROWS) == 0


def test_without_the_table_it_is_said_how_to_make_it(world: World) -> None:
    with world.database() as connection:
        connection.execute("DROP TABLE ses_notifications")
    for words in (
        ["process", write(world, line())],
        ["process", "--queue"],
        ["mark", "user5@example.com", "--hard", "--notification", "x"],
    ):
        done = world.opsctl("bounces", *words, "-y")
        assert "opsctl does not create the table itself" in refusal(done, 1)
        assert "ses_notifications.sql" in done.err
    assert depth(world) == [29, 0]


def test_a_message_that_is_delayed_is_said(world: World) -> None:
    client, url = queue(world)
    client.purge_queue(QueueUrl=url)
    client.send_message(QueueUrl=url, MessageBody=line(), DelaySeconds=900)
    done = told(world, "bounces", "process", "--queue", "-y")
    assert done["changes"][0]["why"] == "the queue is empty, except 1 delayed messages, which can't be received yet"


@pytest.mark.parametrize("action", ["throttle", "fail"])
def test_a_bad_day_of_the_queue_loses_nothing(world: World, action: str) -> None:
    world.configure({'visibility = "3s"': 'visibility = "1s"'})
    for operation in ("ReceiveMessage", "DeleteMessageBatch"):
        world.fault("aws", f"sqs.{operation}", action, times=1)
    for _ in range(3):
        done = world.opsctl("bounces", "process", "--queue", "-y")
        assert "Traceback" not in done.err
        if done.code == 0:
            break
    until(lambda: world.opsctl("bounces", "process", "--queue", "-y").code == 0 and depth(world) == [0, 0])
    seeded(world)


def test_a_queue_that_is_not_there_is_named(world: World) -> None:
    world.configure({'queue = "ses-notifications"': 'queue = "nowhere"'})
    assert "sqs:GetQueueUrl" in refusal(world.opsctl("bounces", "process", "--queue", "-y"), 1)
    for wrong in ('visibility = "0s"', 'visibility = "13h"'):
        world.configure({'visibility = "3s"': wrong})
        assert "from 1s to 12h" in refusal(world.opsctl("bounces", "process", "--queue", "-y"), 2)
    world.configure({'queue = "ses-notifications"\n': ""})
    assert "names no queue" in refusal(world.opsctl("bounces", "process", "--queue", "-y"), 2)


def test_a_mark_needs_a_user_a_kind_and_an_id(world: World) -> None:
    assert "No user has the address nobody@example.com" in refusal(
        world.opsctl("bounces", "mark", "nobody@example.com", "--hard", "--notification", "x", "-y"), 1
    )
    wrong = [["--hard"], ["--notification", "x"], ["--hard", "--soft", "--notification", "x"], ["--hard", "--notification", "a b"]]
    for words in wrong:
        assert world.opsctl("bounces", "mark", "user5@example.com", *words, "-y").code == 2
    named = world.opsctl("bounces", "mark", "Jane <user5@example.com>", "--hard", "--notification", "x", "-y", check=2)
    assert "bare address" in named.err
    assert world.opsctl("bounces", "mark", "user5", "--hard", "--notification", "x", "-y").code == 2
    assert world.opsctl("bounces", "process").code == world.opsctl("bounces", "process", "-", "--queue").code == 2
    assert world.count(ROWS) == 0


def test_a_mark_that_a_notification_says_too_is_not_taken_back(world: World) -> None:
    """The status would stay, whatever the undo said."""
    marked = told(world, "bounces", "mark", "user70@example.com", "--hard", "--notification", "by-hand", "-y")
    told(world, "bounces", "process", write(world, line(address="user70@example.com")), "-y")
    for how in ("-n", "-y"):
        assert "another notification also reports that this address bounced" in refusal(world.opsctl("runs", "undo", marked["run"], how), 4)
    assert (world.count(STATUS.format("bounced")), world.count(ROWS)) == (1, 2)
    with world.database() as connection:
        connection.execute("DELETE FROM ses_notifications WHERE feedback_id = 'by-hand'")
    assert "the status stays" in told(world, "runs", "undo", marked["run"], "-n")["changes"][0]["why"]
    # Where the address had bounced before, there is no status to give back.
    again = told(world, "bounces", "mark", "user70@example.com", "--hard", "--notification", "again", "-y")
    told(world, "runs", "undo", again["run"], "-y")
    assert (world.count(STATUS.format("bounced")), world.count(ROWS)) == (1, 1)


def test_a_mark_and_its_notification_count_once(world: World) -> None:
    told_of = json.loads(line())["bounce"]["feedbackId"]
    marked = told(world, "bounces", "mark", "User21@example.com", "--hard", "--notification", told_of, "-y")
    assert marked["changes"][0]["before"] == "ok"
    assert told(world, "bounces", "process", write(world, line()), "-y")["result"] == "unchanged"
    told(world, "runs", "undo", marked["run"], "-y")
    assert (world.count(STATUS.format("bounced")), world.count(ROWS)) == (0, 0)
