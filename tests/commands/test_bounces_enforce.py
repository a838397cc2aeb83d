"""`opsctl bounces stats`, `list` and `enforce`: what SES says beside the database, and who is deactivated for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from customers import refusal, told
from world import World

RDS_DATA = {'driver = "postgres"': 'driver = "rds-data"'}
DRIVERS = pytest.mark.parametrize("replace", [{}, RDS_DATA], ids=["postgres", "rds-data"])
CAUGHT = sorted({n for n in range(500, 10_001, 500) if n % 2500})
"""Every 500th user has five bounces, but those of every 2,500th are older than the window."""


def inactive(world: World) -> list[int]:
    with world.database() as connection:
        return [row[0] for row in connection.execute("SELECT id FROM users WHERE NOT is_active ORDER BY id").fetchall()]


def run(world: World, statement: str) -> None:
    with world.database() as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def come_back(world: World, users: range, times: int, at: str) -> None:
    """Mail to these users comes back so many times; the k-th at `at`."""
    run(
        world,
        "INSERT INTO ses_notifications (feedback_id, recipient, domain, kind, type, subtype, at)"
        f" SELECT 'x' || id || '-' || k, email, split_part(email, '@', 2), 'bounce', 'Transient', 'General', {at}"
        f" FROM users, generate_series(1, {times}) AS k WHERE id BETWEEN {users.start} AND {users.stop - 1}",
    )


def configured(world: World, line: str, replace: dict[str, str] | None = None) -> None:
    """The sandbox's configuration, with a line at the end of [bounces]."""
    world.configure({"# Watching.": f"{line}\n# Watching.", **(replace or {})})


@DRIVERS
def test_who_bounced_too_often_within_the_window_is_deactivated_and_put_back(world: World, replace: dict[str, str]) -> None:
    world.configure(replace)
    run(world, "UPDATE users SET is_active = false WHERE id IN (500, 7)")
    done = told(world, "bounces", "enforce", "-y")
    (change,) = done["changes"]
    assert (change["impact"], change["evidence"]) == ({"count": len(CAUGHT) - 1, "unit": "users"}, {"deactivated": len(CAUGHT) - 1})
    assert inactive(world) == [7, *CAUGHT]
    (again,) = told(world, "bounces", "enforce", "-y")["changes"]
    assert (again["state"], again["why"]) == ("done", f"all {len(CAUGHT)} are inactive")
    # Somebody else lets one in again and another's account is gone: undo has nothing to do there.
    run(world, "UPDATE users SET is_active = true WHERE id = 1000; DELETE FROM refresh_sessions WHERE user_id = 1500")
    run(world, "DELETE FROM users WHERE id = 1500")
    (planned,) = told(world, "runs", "undo", done["run"], "-n", code=3)["changes"]
    assert planned["summary"].startswith(f"reactivate {len(CAUGHT) - 1} users (those still inactive), deactivated for 5 bounces")
    assert planned["impact"]["count"] == len(CAUGHT) - 3
    assert planned["why"].endswith("; 2 skipped, because they are active again or deleted: users 1000, 1500")
    (back,) = told(world, "runs", "undo", done["run"], "-y")["changes"]
    assert back["evidence"] == {"reactivated": len(CAUGHT) - 3}
    # Those who were inactive before stay so.
    assert inactive(world) == [7, 500]


def test_whom_somebody_deactivated_after_an_undo_stays_so(world: World) -> None:
    first = told(world, "bounces", "enforce", "-y")["run"]
    told(world, "runs", "undo", first, "-y")
    run(world, "UPDATE users SET is_active = false WHERE id = 500")
    assert told(world, "runs", "undo", first, "-y")["result"] == "unchanged"
    assert inactive(world) == [500]
    second = told(world, "bounces", "enforce", "-y")["run"]
    # It is another run that has deactivated them now.
    assert told(world, "runs", "undo", first, "-y")["result"] == "unchanged"
    assert inactive(world) == CAUGHT
    told(world, "runs", "undo", second, "-y")
    assert inactive(world) == [500]


def test_a_saved_plan_stops_where_somebody_else_deactivated_one(world: World) -> None:
    path = str(world.home / "plan.json")
    world.opsctl("bounces", "enforce", "-n", "--save", path, check=3)
    run(world, "UPDATE users SET is_active = false WHERE id = 500")
    assert "user 500: deactivated or deleted by somebody else since the plan" in refusal(world.opsctl("apply", path, "-y"), 4)
    assert inactive(world) == [500]


def test_many_go_a_hundred_a_change(world: World) -> None:
    come_back(world, range(1001, 1206), 9, "now() - interval '1 day' * k")
    done = told(world, "bounces", "enforce", "--threshold", "9", "--accept-outage", "-y")
    assert [change["impact"]["count"] for change in done["changes"]] == [100, 100, 5]
    assert len(inactive(world)) == 205
    assert "above the limit" in refusal(world.opsctl("bounces", "enforce", "--max-affected", "10", "-y"), 4)


@DRIVERS
@pytest.mark.parametrize(
    ("at", "said"),
    [("now() - interval '1 day' * k", "of one domain, example.com"), ("date_trunc('hour', now())", "of one hour, ")],
    ids=["domain", "hour"],
)
def test_a_providers_outage_is_not_the_users_doing(world: World, replace: dict[str, str], at: str, said: str) -> None:
    configured(world, "domain-share = 1.0" if "hour" in said else "", replace)
    come_back(world, range(1001, 1031), 5, at)
    assert said in refusal(world.opsctl("bounces", "enforce", "-y"), 4)
    assert inactive(world) == []
    assert told(world, "bounces", "enforce", "--accept-outage", "-n", code=3)["changes"][0]["impact"]["count"] == len(CAUGHT) + 30


def test_one_users_domain_says_nothing(world: World) -> None:
    run(world, "DELETE FROM ses_notifications WHERE recipient <> 'user500@example.com'")
    (change,) = told(world, "bounces", "enforce", "-y")["changes"]
    assert (change["target"], change["before"], change["after"]) == ("user/500", "active", "inactive")


def test_the_exempt_are_spared_and_complaints_do_not_count(world: World) -> None:
    world.configure({"exempt = []": 'exempt = ["User500@Example.com", "@example.org", "example.net"]'})
    run(world, "UPDATE ses_notifications SET kind = 'complaint' WHERE recipient = 'user9500@example.com' AND subtype = 'MailboxFull'")
    (change,) = told(world, "bounces", "enforce", "--accept-outage", "-n", code=3)["changes"]
    assert "more users with as many are exempt" in change["why"]
    left = [n for n in CAUGHT if n % 1000 and n % 1500 and n not in (500, 9500)]
    assert change["impact"]["count"] == len(left)


@DRIVERS
def test_an_address_is_the_same_in_any_spelling(world: World, replace: dict[str, str]) -> None:
    world.configure(replace)
    run(world, "UPDATE users SET email = 'USER500@Example.COM' WHERE id = 500")
    run(world, "UPDATE users SET email = 'Jürgen@müller.EXAMPLE' WHERE id = 1000")
    run(
        world,
        "UPDATE ses_notifications SET recipient = 'jürgen@xn--mller-kva.example', domain = 'xn--mller-kva.example'"
        " WHERE recipient = 'user1000@example.net'",
    )
    told(world, "bounces", "enforce", "-y")
    assert inactive(world) == CAUGHT


def test_an_exemption_that_is_no_address_is_named(world: World) -> None:
    world.configure({"exempt = []": 'exempt = ["user500@"]'})
    assert "'user500@', which is neither an address nor a domain" in refusal(world.opsctl("bounces", "enforce", "-y"), 2)


@pytest.mark.parametrize("option", ["--threshold 0", "--threshold -3", "--threshold many", "--window 0s", "--window 30"])
def test_a_threshold_or_window_of_nothing_is_no_usage(world: World, option: str) -> None:
    done = world.opsctl("bounces", "enforce", *option.split(), "-y", check=2)
    assert "Traceback" not in done.err
    assert inactive(world) == []


def test_nobody_is_said(world: World) -> None:
    (change,) = told(world, "bounces", "enforce", "--window", "1d", "-y")["changes"]
    assert change["why"] == "no user has 5 bounces or more within 1d"


@pytest.mark.parametrize("line", ["stats", "list", "enforce -n"])
def test_without_its_configuration_or_table_it_says_what_is_missing(world: World, line: str) -> None:
    text = (Path(world.config) / "sandbox.toml").read_text()
    start = text.index("[bounces]")
    (Path(world.config) / "sandbox.toml").write_text(text[:start] + text[text.index("\n# Watching") :])
    assert "bounces" in refusal(world.opsctl("bounces", *line.split()), 2)
    world.configure()
    run(world, "DROP TABLE ses_notifications")
    done = world.opsctl("bounces", *line.split())
    if line == "stats":
        assert "ses_notifications" in done.out
        assert done.code == 0
    else:
        assert "ses_notifications" in refusal(done, 1)
        assert "RUNBOOK.md" in done.err


@DRIVERS
def test_stats_have_sess_figures_and_the_databases(world: World, replace: dict[str, str]) -> None:
    world.configure(replace)
    run(world, "UPDATE users SET email_status = 'bounced', is_active = false WHERE id = 500")
    shown = told(world, "bounces", "stats")
    assert (shown["Account"]["may send"], shown["Account"]["enforcement"]) == (True, "HEALTHY")
    assert [(row["rate"], row["ses_percent"], row["review_at"], row["pause_at"]) for row in shown["Reputation"]] == [
        ("bounces", 4.7, 5.0, 10.0),
        ("complaints", 0.06, 0.1, 0.5),
    ]
    users = {row["email_status"]: row for row in shown["Users"]}
    assert (users["ok"]["users"], users["bounced"]["inactive"], users["bounced"]["bounce_count"]) == (9999, 1, 5)
    assert {row["type"]: row["addresses"] for row in shown["Counted"]} == {"Transient": 100}
    assert 14 <= len(shown["Sent"]) <= 15
    assert shown["Sent"][-2]["bounce_percent"] > shown["Sent"][0]["bounce_percent"]
    assert len(told(world, "bounces", "stats", "--since", "6h")["Sent"]) in (23, 24, 25)
    nothing = told(world, "bounces", "stats", "--since", "1s")
    assert (nothing["Sent"], nothing["Reputation"][0]["sent_percent"]) == ([], None)


@DRIVERS
def test_the_list_says_what_one_has_and_the_other_lacks(world: World, replace: dict[str, str]) -> None:
    world.configure(replace)
    run(
        world,
        "UPDATE users SET email_status = 'bounced' WHERE id IN (21, 500); UPDATE users SET email = 'User21@Example.com' WHERE id = 21",
    )
    rows = {row["address"]: row for row in told(world, "bounces", "list")}
    assert rows["user21@example.com"]["difference"] == ""
    assert rows["user700@example.com"]["difference"] == "not marked in the database"
    assert (rows["user500@example.com"]["difference"], rows["user500@example.com"]["bounces"]) == ("not on SES's list", 5)
    assert rows["former1@example.org"]["difference"] == "no such user"
    complaints: list[dict[str, Any]] = told(world, "bounces", "list", "--reason", "complaint", "--since", "12d")
    assert [row["address"] for row in complaints] == ["user41@example.com", "user42@example.com"]


@DRIVERS
def test_the_list_says_why_an_address_is_marked_and_since_when(world: World, replace: dict[str, str]) -> None:
    """A complaint stays one whatever came back since; the users' addresses stand there as they were typed."""
    world.configure(replace)
    run(
        world,
        "UPDATE users SET email_status = 'complained' WHERE id IN (61, 62, 500); UPDATE users SET email_status = 'bounced' WHERE id = 63",
    )
    run(world, "UPDATE users SET email = 'jan@Müller.example' WHERE id = 61")
    rows = [
        ("jan@xn--mller-kva.example", "complaint", "abuse", 3),
        ("user62@example.com", "complaint", "abuse", 4),
        ("user62@example.com", "bounce", "Transient", 1),
        ("user63@example.com", "bounce", "Permanent", 5),
        ("user63@example.com", "complaint", "not-spam", 1),
    ]
    for number, (address, kind, sort, days) in enumerate(rows):
        run(
            world,
            "INSERT INTO ses_notifications (feedback_id, recipient, domain, kind, type, subtype, at) VALUES"
            f" ('l{number}', '{address}', '{address.partition('@')[2]}', '{kind}', '{sort}', 'General', current_date - {days})",
        )
    shown = {row["address"]: row for row in told(world, "bounces", "list") if row["difference"] == "not on SES's list"}
    days = {row["address"]: row["since"] for row in told(world, "bounces", "list", "--since", "6d") if row["address"] in shown}
    assert sorted(days, key=lambda address: days[address]) == ["user63@example.com", "user62@example.com", "jan@xn--mller-kva.example"]
    assert {address: row["reason"] for address, row in shown.items() if address not in days} == {"user500@example.com": "COMPLAINT"}
    assert shown["user500@example.com"]["since"] is None
    found = {row["address"] for row in told(world, "bounces", "list", "--reason", "complaint")}
    assert found >= {"jan@xn--mller-kva.example", "user62@example.com", "user500@example.com"}
    assert "user63@example.com" not in found


@pytest.mark.parametrize(
    ("line", "operation"), [("stats", "ses.GetAccount"), ("stats", "ses.GetSendStatistics"), ("list", "ses.ListSuppressedDestinations")]
)
def test_denied_and_throttled(world: World, line: str, operation: str) -> None:
    world.fault("aws", operation, "refuse", times=0)
    assert "denied" in refusal(world.opsctl("bounces", line), 1)
    world.heal()
    world.fault("aws", operation, "throttle", times=0)
    assert "throttles" in refusal(world.opsctl("bounces", line), 1)


def test_what_ses_says_is_shown_though_others_can_not_be_asked(world: World) -> None:
    world.fault("aws", "monitoring.GetMetricData", "refuse", times=0)
    shown = told(world, "bounces", "stats")
    assert "could not be queried" in str(shown["Reputation"])
    assert shown["Reputation"][0]["sent_percent"] > 1
    world.heal()
    world.fault("aws", "secretsmanager.GetSecretValue", "refuse", times=0)
    assert "could not be queried" in str(told(world, "bounces", "stats")["Users"])
