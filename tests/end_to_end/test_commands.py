"""Every command once against the world, as a person and as a script reads it: text, JSON, exit codes, guards."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bad_days import plain, runs, taken
from terminal import until
from thieves import Session
from world import CLUSTER, SERVICES, World, table

from opsctl.adapters.aws.ecs import Ecs

TOP = {"run", "environment", "command", "dry_run", "result", "changes"}
CHANGE = {"seq", "kind", "target", "summary", "state", "before", "after", "impact", "reversible", "evidence"}
MORE = {"why", "undo"}
MAIL_KEY = "safawinet/prod/mail-key"


def told(world: World, *line: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    return world.opsctl("-o", "json", *line, check=code).json


@pytest.mark.parametrize(
    "line", ["service scale api 4", "service redeploy api --again", "secrets rotate mail-key --value-from generate", "logout user 15"]
)
def test_the_object_that_a_script_reads(world: World, line: str) -> None:
    command = line.split()
    dry = told(world, *command, "-n", code=3)
    done = told(world, *command, "-y")

    for found, result, state in ((dry, "would-change", "pending"), (done, "changed", "applied")):
        assert set(found) == TOP
        assert found["result"] == result
        assert found["environment"] == "sandbox"
        assert found["command"] == line.replace(" --again", "")
        assert [change["seq"] for change in found["changes"]] == list(range(1, len(found["changes"]) + 1))
        for change in found["changes"]:
            assert set(change) == CHANGE | MORE
            assert change["state"] == state
            assert set(change["impact"]) == {"count", "unit"}
    assert (dry["run"], dry["dry_run"], done["dry_run"]) == (None, True, False)
    assert told(world, "runs", "show", done["run"])["Run"]["command"] == line
    if "--again" not in command:
        again = told(world, *command, "-y")
        assert again["result"] == "unchanged"
        assert {change["state"] for change in again["changes"]} == {"done"}


def test_what_a_person_reads(world: World) -> None:
    dry = world.opsctl("service", "scale", "api", "4", "-n", check=3).out
    for words in ("in sandbox, account 123456789012", "~ 1", "2 -> 4", "undo: set the desired count of api to 2", "nothing was changed"):
        assert words in dry
    done = world.opsctl("service", "scale", "api", "4", "-y", check=0)
    assert "Done. Verified." in done.out
    assert "Nothing to do: already in the wanted state." in world.opsctl("service", "scale", "api", "4", "-y", check=0).out


def test_looking_changes_nothing(world: World) -> None:
    before = world.snapshot()
    page = told(world, "status")
    assert set(page) >= {"API", "Services", "Database", "Redis", "Alarms"}
    assert {row["service"]: row["running"] for row in told(world, "service", "status")} == {"api": 2, "worker": 1}
    assert [row["service"] for row in told(world, "service", "status", "api")] == ["api"]
    assert {row["role"] for row in told(world, "people")} >= {"DevOps Lead", "Security Team", "Database Admin"}
    assert {row["name"] for row in told(world, "secrets", "list")} >= {"jwt", "mail-key", "database"}
    assert told(world, "secrets", "verify", "jwt")["good"] is True
    assert "token-compromise" in {row["name"] for row in told(world, "playbook", "list")}
    assert told(world, "playbook", "show", "token-compromise")["steps"]
    assert told(world, "playbook", "lint")["good"] is True
    sessions = world.opsctl("-o", "json", "sessions", "list", "--user", "user15@example.com", check=0).out.splitlines()
    assert {json.loads(line)["user"] for line in sessions} == {"15"}
    for words in (
        "status",
        "people",
        "secrets list",
        "playbook show token-compromise",
        "sandbox status",
        "runs list",
        "sessions list --user 15",
    ):
        assert world.opsctl(*words.split(), check=0).out.strip()
    assert world.snapshot() == before


def test_sessions_since(world: World) -> None:
    everybody = world.opsctl("-o", "json", "sessions", "list", check=0).out.splitlines()
    assert len(everybody) == 50_000
    recent = world.opsctl("-o", "json", "sessions", "list", "--since", "24h", check=0).out.splitlines()
    assert 0 < len(recent) < 50_000
    assert len(recent) == world.count("SELECT count(*) FROM refresh_sessions WHERE created_at >= now() - interval '24 hours'")


def test_auth_verify_leaves_nothing_and_tells_old_from_new(world: World) -> None:
    before = world.count("SELECT count(*) FROM refresh_sessions")
    first = told(world, "auth", "verify")
    assert first["good"] is True
    told(world, "secrets", "rotate", "jwt", "--value-from", "generate", "-y")
    half = world.opsctl("-o", "json", "auth", "verify")
    assert half.code == 1, "the tasks still hold the former key"
    told(world, "service", "redeploy", "api", "worker", "-y")
    after = told(world, "auth", "verify")
    assert {check["name"]: check["ok"] for check in after["checks"]}["tokens of the former key are refused"] is True
    assert world.count("SELECT count(*) FROM refresh_sessions") == before


@pytest.mark.parametrize("where", ["POST /v1/auth/login", "GET /v1/auth/me", "POST /v1/auth/refresh"])
def test_auth_verify_that_is_killed_leaves_no_session(world: World, where: str) -> None:
    # Other sessions may end meanwhile: those of an earlier login that was killed.
    last = world.count("SELECT max(id) FROM refresh_sessions")
    begun = f"SELECT count(*) FROM refresh_sessions WHERE id > {last}"
    world.fault("api", where, "slow", seconds=8)
    child = world.opsctl.start("auth", "verify")
    until(lambda: world.count(begun) > 0, 60)
    child.kill()
    until(lambda: world.count(begun) == 0, 60)


def test_scale_down_and_back(world: World) -> None:
    run = told(world, "service", "scale", "api", "1", "-y")["run"]
    assert (world.service("api")["desiredCount"], world.bounds()) == (1, (1, 10))
    assert told(world, "runs", "undo", run, "-y")["result"] == "changed"
    assert (world.service("api")["desiredCount"], world.bounds()) == (2, (2, 10))


def test_an_undo_that_somebody_overtook_is_refused(world: World) -> None:
    run = told(world, "service", "scale", "api", "4", "-y")["run"]
    world.aws("ecs").update_service(cluster=CLUSTER, service=SERVICES["api"], desiredCount=5)
    done = world.opsctl("-o", "json", "runs", "undo", run, "-y")
    assert done.code == 4, str(done)
    assert world.service("api")["desiredCount"] == 5


def test_a_tag_that_means_new_code_is_refused_unless_accepted(world: World) -> None:
    def moved() -> None:
        from opsctl.adapters.aws.ecr import Ecr

        Ecr.digest = lambda self, image: "sha256:" + "e" * 64  # type: ignore[method-assign,assignment]

    world.rotate("safawinet/prod/jwt", "secret", "f" * 64)
    before = world.service("api")["deployments"][0]["id"]
    assert "--accept-new-image" in world.opsctl("service", "redeploy", "api", "-n", before=moved).err
    assert "would start a new image" in plain(world.opsctl("service", "redeploy", "api", "-y", before=moved), 4)
    assert world.service("api")["deployments"][0]["id"] == before
    world.opsctl("service", "redeploy", "api", "-y", "--accept-new-image", before=moved, check=0)
    assert world.service("api")["deployments"][0]["id"] != before


def test_a_failed_rollout_of_a_plain_redeploy(world: World) -> None:
    world.rotate("safawinet/prod/jwt", "secret", "f" * 64)
    world.opsctl("sandbox", "fault", "rollout", SERVICES["api"], check=0)
    done = world.opsctl("-o", "json", "service", "redeploy", "api", "-y")
    assert "roll" in plain(done, 1)
    assert done.json["changes"][0]["state"] == "failed"
    assert told(world, "service", "redeploy", "api", "-y")["result"] == "changed"


def test_the_same_value_given_twice_is_rotated_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_KEY", "a-value-given-by-hand")
    line = ("secrets", "rotate", "mail-key", "--value-from", "env:NEW_KEY", "-y")
    assert told(world, *line)["result"] == "changed"
    versions = world.secrets()[MAIL_KEY]
    assert told(world, *line)["result"] == "unchanged"
    assert told(world, *line, "--again")["result"] == "unchanged"
    assert world.secrets()[MAIL_KEY] == versions


def test_a_rollback_twice_does_not_swap_back_and_leaves_the_way_free(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.secret(MAIL_KEY, "key")
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    second = world.secret(MAIL_KEY, "key")
    assert told(world, "secrets", "rollback", "mail-key", "-y")["result"] == "changed"
    assert world.secret(MAIL_KEY, "key") == first
    assert told(world, "secrets", "rollback", "mail-key", "-y")["result"] == "unchanged"
    assert world.secret(MAIL_KEY, "key") == first
    assert told(world, "secrets", "verify", "mail-key")["good"] is True
    monkeypatch.setenv("NEW_KEY", "yet-another-value")
    assert told(world, "secrets", "rotate", "mail-key", "--value-from", "env:NEW_KEY", "-y")["result"] == "changed"
    former = next(v for v in world.secrets()[MAIL_KEY] if world.secret(MAIL_KEY, "key", v) == second)
    assert told(world, "secrets", "rollback", "mail-key", "--to", former, "-y")["result"] == "changed"
    assert world.secret(MAIL_KEY, "key") == second


def test_the_last_rotation_is_the_last_whatever_the_clock_said(world: World) -> None:
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    former = world.secret(MAIL_KEY, "key")
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "--again", "-y")
    with closing(sqlite3.connect(world.ledger)) as ledger, ledger:
        ledger.execute(
            "UPDATE steps SET ended = '2020-01-01T00:00:00+00:00' WHERE run = (SELECT run FROM log ORDER BY number DESC LIMIT 1)"
        )
    told(world, "secrets", "rollback", "mail-key", "-y")
    assert world.secret(MAIL_KEY, "key") == former


def test_somebody_elses_rotation_is_left_alone(world: World) -> None:
    world.aws("secretsmanager").put_secret_value(SecretId=MAIL_KEY, SecretString='{"key": "theirs"}', VersionStages=["AWSPENDING"])
    before = world.secrets()[MAIL_KEY]
    assert "Secrets Manager is rotating it" in plain(world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y"), 4)
    assert world.secrets()[MAIL_KEY] == before


def test_the_line_that_ends_somebody_elses_rotation_is_whole(world: World) -> None:
    client = world.aws("secretsmanager")
    client.put_secret_value(SecretId=MAIL_KEY, SecretString='{"key": "theirs"}', VersionStages=["AWSPENDING"])
    refused = world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y", check=4).err
    given = dict(re.findall(r"--([a-z-]+) (\S+)", refused.partition("update-secret-version-stage")[2]))
    client.update_secret_version_stage(
        SecretId=given["secret-id"], VersionStage=given["version-stage"], RemoveFromVersionId=given["remove-from-version-id"]
    )
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "-y")


@pytest.mark.parametrize("how", [[], ["--compromised"]])
def test_a_label_that_an_ended_rotation_left_bars_no_rotation(world: World, how: list[str]) -> None:
    """Secrets Manager leaves AWSPENDING on the version that it has made current."""
    client = world.aws("secretsmanager")
    [current] = [id for id, stages in client.describe_secret(SecretId=MAIL_KEY)["VersionIdsToStages"].items() if "AWSCURRENT" in stages]
    client.update_secret_version_stage(SecretId=MAIL_KEY, VersionStage="AWSPENDING", MoveToVersionId=current)
    run = told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", *how, "-y")["run"]
    assert "AWSPENDING" not in str(world.secrets()[MAIL_KEY])
    if not how:
        told(world, "runs", "undo", run, "-y")
        stages = client.describe_secret(SecretId=MAIL_KEY)["VersionIdsToStages"][current]
        assert {"AWSCURRENT", "AWSPENDING"} <= set(stages)
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "--again", "-y")


def test_a_label_that_a_former_release_left_on_the_former_version_bars_no_rotation(world: World) -> None:
    client = world.aws("secretsmanager")
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    [former] = [id for id, stages in client.describe_secret(SecretId=MAIL_KEY)["VersionIdsToStages"].items() if "AWSPREVIOUS" in stages]
    client.update_secret_version_stage(SecretId=MAIL_KEY, VersionStage="AWSPENDING", MoveToVersionId=former)
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "--again", "-y")
    assert "AWSPENDING" not in str(world.secrets()[MAIL_KEY])


def test_what_rests_on_a_refused_step_is_made_on_resume(world: World) -> None:
    """The former version of a compromised key keeps no label."""
    world.fault("aws", "secretsmanager.UpdateSecretVersionStage", "refuse")
    failed = world.opsctl("-o", "json", "secrets", "rotate", "mail-key", "--value-from", "generate", "--compromised", "-y", check=1)
    shown = json.loads(failed.out)
    assert [change["state"] for change in shown["changes"]] == ["applied", "failed", "pending"]
    told(world, "runs", "resume", shown["run"], "-y")
    assert "AWSPREVIOUS" not in str(world.secrets()[MAIL_KEY])


def test_a_compromised_value_never_comes_back(world: World) -> None:
    old = world.secret(MAIL_KEY, "key")
    run = told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "--compromised", "-y")["run"]
    new = world.secret(MAIL_KEY, "key")
    assert new != old
    assert "AWSPREVIOUS" not in str(world.secrets()[MAIL_KEY])
    undone = world.opsctl("-o", "json", "runs", "undo", run, "-y")
    assert "compromised" in undone.err
    assert world.secret(MAIL_KEY, "key") == new
    assert "compromised" in plain(world.opsctl("secrets", "rollback", "mail-key", "-y"), 4)
    assert world.secret(MAIL_KEY, "key") == new


def test_undoing_a_rollback_brings_no_compromised_value_back(world: World) -> None:
    def current() -> str:
        return next(version for version, (stages, _) in world.secrets()[MAIL_KEY].items() if "AWSCURRENT" in stages)

    first = current()
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    second = current()
    back = told(world, "secrets", "rollback", "mail-key", "--to", first, "-y")["run"]
    told(world, "secrets", "rollback", "mail-key", "--to", second, "-y")
    told(world, "secrets", "rotate", "mail-key", "--value-from", "generate", "--again", "--compromised", "-y")
    told(world, "secrets", "rollback", "mail-key", "--to", first, "-y")
    assert "because it is compromised" in plain(world.opsctl("-o", "json", "runs", "undo", back, "-y"), 4)
    assert current() == first


def test_logout_bulk_takes_who_meets_all_criteria(world: World) -> None:
    named = world.home / "users.txt"
    named.write_text("# from the ticket\n15\nuser16@example.com\n")
    stolen, other = Session.of(world, 15), Session.of(world, 17)
    assert told(world, "logout", "bulk", "--users-from", str(named), "-y")["result"] == "changed"
    assert stolen.dead
    assert other.opens
    assert told(world, "logout", "bulk", "--users-from", str(named), "--last-login-before", "2000-01-01", "-y")["result"] == "unchanged"


def test_notices_reach_their_channels_once(world: World) -> None:
    for line in ("notify slack --message look", "notify page --message come", "notify status --title T --message wait"):
        assert told(world, *line.split(), "-y")["result"] == "changed"
        assert told(world, *line.split(), "-y")["result"] == "unchanged"
    sent = world.sent()
    assert [len(sent[name]) for name in ("slack", "pagerduty", "statuspage")] == [1, 1, 1]


def test_each_incident_of_a_title_is_told_of_to_its_end(world: World) -> None:
    def say(status: str, message: str) -> str:
        line = ("notify", "status", "--title", "API slow", "--status", status, "--message", message, "-y")
        return str(told(world, *line)["result"])

    for _ in range(2):
        assert say("investigating", "we look into it") == "changed"
        assert say("investigating", "we found it") == "changed"
        assert say("investigating", "we found it") == "unchanged"
        assert say("resolved", "it is over") == "changed"
        assert say("resolved", "it is over") == "unchanged"
    told_of = ["we look into it", "we found it", "it is over"]
    assert [[update["body"] for update in i["incident_updates"]] for i in world.sent()["statuspage"]] == [told_of[::-1]] * 2


def test_without_a_channel_a_person_does_it(world: World) -> None:
    world.configure({table("channels"): ""})
    waiting = world.opsctl("-o", "json", "notify", "slack", "--message", "look", "-y")
    plain(waiting, 7)
    assert waiting.json["result"] == "waiting"
    assert world.opsctl("notify", "slack", "--message", "look", "-y", typed="done\n", check=0)
    assert world.sent()["slack"] == []


@pytest.mark.parametrize(("word", "times"), [("--done", 1), ("--not-done", 2)])
def test_a_message_whose_answer_was_lost_is_settled_by_a_person(world: World, word: str, times: int) -> None:
    world.fault("notices", "*slack*", "timeout-after-effect")
    lost = world.opsctl("-o", "json", "notify", "slack", "--message", "look", "-y")
    plain(lost, 6)
    assert lost.json["result"] == "unknown"
    run = lost.json["run"]
    assert "runs settle" in lost.err
    again = world.opsctl("-o", "json", "runs", "resume", run)
    plain(again, 6)
    assert len(world.sent()["slack"]) == 1, "never sent twice by itself"

    told(world, "runs", "settle", run, "1", word, "--reason", "looked into the channel")

    assert told(world, "runs", "resume", run)["result"] == "changed"
    assert len(world.sent()["slack"]) == times
    assert world.opsctl("runs", "settle", run, "1", "--done", "--reason", "again").code == 4
    assert world.opsctl("runs", "verify", check=0)


def test_a_saved_notice_goes_out_once(world: World) -> None:
    path = str(world.home / "plan.json")
    world.opsctl("notify", "slack", "--message", "look", "-n", "--save", path, check=3)
    for _ in range(2):
        world.opsctl("apply", path, "-y", check=0)
    assert len(world.sent()["slack"]) == 1


def test_a_key_that_somebody_has_put_back_is_rotated_again(world: World) -> None:
    line = ("secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    former = world.aws("secretsmanager").get_secret_value(SecretId="safawinet/prod/mail-key")["SecretString"]
    assert told(world, *line)["result"] == "changed"
    assert told(world, *line)["result"] == "unchanged"
    world.aws("secretsmanager").put_secret_value(SecretId="safawinet/prod/mail-key", SecretString=former)
    assert told(world, *line)["result"] == "changed"
    assert world.aws("secretsmanager").get_secret_value(SecretId="safawinet/prod/mail-key")["SecretString"] != former


def test_what_a_system_can_tell_is_no_persons_to_settle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies() -> None:
        monkeypatch.setattr(Ecs, "set_desired", lambda *args: os.kill(os.getpid(), signal.SIGKILL))

    world.opsctl("service", "scale", "worker", "2", "-y", before=dies)
    run = runs(world)[0]["run"]
    refused = world.opsctl("runs", "settle", run, "1", "--done", "--reason", "I saw it")
    assert "need not be settled" in plain(refused, 4)
    assert f"opsctl runs resume {run}" in refused.err
    assert told(world, "runs", "resume", run)["result"] == "changed"


def test_begun_and_not_waited_for(world: World) -> None:
    world.rotate("safawinet/prod/jwt", "secret", "f" * 64)
    world.fault("aws", "ecs.DescribeTasks", "slow", seconds=0)
    done = world.opsctl("-o", "json", "service", "redeploy", "api", "-y", "--no-wait")
    assert done.code in (0, 6), str(done)
    assert told(world, "runs", "resume", done.json["run"])["result"] == "changed"


def test_a_kept_plan_is_applied_as_reviewed(world: World) -> None:
    plan = world.home / "plan.json"
    told(world, "service", "scale", "api", "4", "-n", "--save", str(plan), code=3)
    assert plan.stat().st_mode & 0o777 == 0o600
    assert told(world, "apply", str(plan), "-y")["result"] == "changed"
    assert world.service("api")["desiredCount"] == 4
    plan.write_text(plan.read_text().replace('"after":4', '"after":9'))
    assert "edited" in plain(world.opsctl("apply", str(plan), "-y"), 4)
    assert world.service("api")["desiredCount"] == 4


def test_the_record_of_a_run(world: World) -> None:
    run = told(world, "logout", "user", "user15@example.com", "-y", "--reason", "ticket 4711")["run"]
    shown = world.opsctl("runs", "show", run, check=0).out
    for word in (run, "ticket 4711", "logout user", "begun", "applied", "oncall"):
        assert word in shown
    record = told(world, "runs", "show", run)
    assert record["Run"]["state"] == "changed"
    assert [step["state"] for step in record["Steps"]] == ["applied"] * 3
    assert told(world, "runs", "list")[0]["run"] == run
    sealed = world.home / "seal"
    told(world, "runs", "seal", "--to", str(sealed))
    assert told(world, "runs", "verify", "--seal", str(sealed))["chains"] == "intact"


def test_what_is_driven_can_be_cancelled(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "slow", seconds=3)
    child = world.opsctl.start("-o", "json", "service", "scale", "api", "4", "-y")
    until(lambda: taken(world))
    run = runs(world)[0]["run"]
    told(world, "runs", "cancel", run)
    world.heal()
    assert "cancelled" in plain(child.wait(), 6)
    assert "cancelled" in plain(world.opsctl("runs", "resume", run), 4)
    assert told(world, "runs", "undo", run, "-y")["result"] == "changed"
    assert world.service("api")["desiredCount"] == 2


def test_what_was_begun_and_killed_is_taken_back_too(world: World) -> None:
    world.fault("aws", "ecs.UpdateService", "timeout-after-effect", seconds=20)
    child = world.opsctl.start("service", "scale", "api", "4", "-y")
    until(lambda: world.service("api")["desiredCount"] == 4)
    child.kill()
    world.heal()
    run = runs(world)[0]["run"]
    assert told(world, "runs", "undo", run, "-y")["result"] == "changed"
    assert (world.service("api")["desiredCount"], world.bounds()) == (2, (2, 10))


@pytest.mark.parametrize("driver", ["postgres", "rds-data"])
def test_both_drivers_log_out_the_same(world: World, driver: str) -> None:
    world.configure({'driver = "postgres"': f'driver = "{driver}"'})
    stolen = [Session.of(world, 15), Session.of(world, 16)]
    dry = told(world, "logout", "user", "15", "16", "-n", code=3)
    assert [change["impact"] for change in dry["changes"]] == [
        {"count": 12, "unit": "sessions"},
        {"count": dry["changes"][1]["impact"]["count"], "unit": "cached sessions"},
        {"count": 2, "unit": "users"},
    ]
    assert told(world, "logout", "user", "15", "16", "-y")["result"] == "changed"
    assert all(session.dead for session in stolen)
    assert told(world, "logout", "all", "-y")["result"] == "changed"
    assert world.count("SELECT count(*) FROM refresh_sessions") == 0
    assert told(world, "logout", "all", "-y")["result"] == "unchanged"
    assert world.opsctl("sessions", "list", check=0).out == ""


def test_outside_of_a_checkout(world: World, tmp_path: Path) -> None:
    """The shipped configuration and playbooks are found from any folder."""
    import os

    def elsewhere() -> None:
        os.environ.pop("OPSCTL_CONFIG")
        os.chdir(tmp_path)

    assert "api" in world.opsctl("service", "status", before=elsewhere, check=0).out
    assert "token-compromise" in world.opsctl("playbook", "list", before=elsewhere, check=0).out
