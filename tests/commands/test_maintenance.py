"""`opsctl maintenance announce`, and health that is proven: `service status --healthy`, `service redeploy`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from world import World

from opsctl.commands.maintenance import in_words
from opsctl.settings import Duration

SAID = "Scheduled maintenance in 30 minutes"

WRONG = [
    (("--duration", "1h"), "Missing option '--message'"),
    (("--message", SAID), "Missing option '--duration'"),
    (("--message", " ", "--duration", "1h"), "printable characters"),
    (("--message", "x" * 1_001, "--duration", "1h"), "printable characters"),
    (("--message", "\x1b[2J", "--duration", "1h"), "printable characters"),
    (("--message", SAID, "--duration", "0s"), "longer than nothing"),
    (("--message", SAID, "--duration", "31d"), "30 days at most"),
    (("--message", SAID, "--duration", "2 hours"), "expected a duration"),
    (("--message", SAID, "--duration", "1h", "--at", "2027-02-29T02:00"), "is not a time"),
    (("--message", SAID, "--duration", "1h", "--at", "tomorrow"), "is not a time"),
    (("--message", SAID, "--duration", "1h", "--at", "2020-02-29T02:00"), "is in the past"),
    (("--message", SAID, "--duration", "1h", "--at", "2999-01-01"), "more than a year ahead"),
    (("--message", SAID, "--duration", "1h", "--at", "0001-01-01T00:00+23:00"), "is not a time"),
    (("--message", SAID, "--duration", "1h", "--at", "9999-12-31T23:59-23:00"), "is not a time"),
]
"""What is typed wrong, and what is said."""


def announce(world: World, *args: str, code: int = 0) -> str:
    return world.opsctl("maintenance", "announce", *args, "-y", check=code).err


def test_what_is_wrong_is_said_and_nobody_is_told(world: World) -> None:
    for args, said in WRONG:
        assert said in announce(world, *args, code=2), args
    assert world.announcements() == []


def test_a_window_ahead_is_told_in_words_and_once(world: World) -> None:
    begins = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    window = ("--message", SAID, "--duration", "90m", "--at", begins.isoformat())
    announce(world, *window)
    announce(world, *window)
    (told,) = world.announcements()
    assert (told["message"], told["duration"]) == (SAID, "90 minutes")
    assert datetime.fromisoformat(told["at"]) == begins
    announce(world, *window, "--again")
    assert len(world.announcements()) == 2


def test_a_duration_is_told_as_people_say_it() -> None:
    given = {"1h": "1 hour", "2h": "2 hours", "48h": "2 days", "90s": "90 seconds", "90m": "90 minutes"}
    assert {each: in_words(Duration.parse(each)) for each in given} == given


def test_a_lost_answer_is_never_sent_again(world: World) -> None:
    world.fault("api", "POST /v1/notifications/maintenance", "timeout-after-effect")
    line = ("maintenance", "announce", "--message", SAID, "--duration", "2h")
    lost = world.opsctl("-o", "json", *line, "-y", check=6)
    assert "runs settle" in lost.err
    for typed_again in ("-y", "-n"):
        assert f"runs settle {lost.json['run']} 1" in world.opsctl(*line, typed_again, check=6).err
    assert len(world.announcements()) == 1
    world.opsctl(*line, "-y", "--again", check=0)
    assert len(world.announcements()) == 2


def test_without_an_api_a_person_is_asked(world: World) -> None:
    text = (world.config / "sandbox.toml").read_text()
    api = text[text.index("[api]") : text.index("# Mail that bounces.")]
    world.configure({api: ""})
    waiting = world.opsctl("maintenance", "announce", "--message", SAID, "--duration", "2h", "-y", check=7)
    assert f"Tell the users of a maintenance from now, for 2 hours: {SAID}" in waiting.err


def test_health_is_proven_or_not(world: World) -> None:
    good = world.opsctl("-o", "json", "service", "status", "--healthy", check=0).json
    assert {check["name"]: check["ok"] for check in good["checks"]}["api calls itself healthy"] is True
    world.fault("api", "GET /health", "fail", times=0)
    bad = world.opsctl("-o", "json", "service", "status", "api", "--healthy", check=1).json
    assert [check["name"] for check in bad["checks"] if not check["ok"]] == ["api calls itself healthy"]
    world.opsctl("service", "status", "worker", "--healthy", check=0)
    world.aws("ecs").update_service(cluster="safawinet-prod", service="safawinet-worker-prod", desiredCount=0)
    none = world.opsctl("-o", "json", "service", "status", "worker", "--healthy", check=1).json
    assert [check["ok"] for check in none["checks"]] == [None]


def test_a_rollout_is_done_when_the_service_is_healthy(world: World) -> None:
    world.fault("api", "GET /health", "fail", times=0)
    dry = world.opsctl("-o", "json", "service", "redeploy", "api", "--again", "-n", check=3).json
    assert "its health check fails" in dry["changes"][0]["why"]
    unproven = world.opsctl("service", "redeploy", "api", "--again", "-y", "--timeout", "1s", check=6)
    assert "is not verified" in unproven.err
    world.heal()
    (run,) = [word for line in unproven.err.splitlines() if "runs resume" in line for word in line.split()[-1:]]
    resumed = world.opsctl("-o", "json", "runs", "resume", run, check=0).json
    assert resumed["changes"][0]["why"].endswith("its health check passes")


def test_a_sick_service_of_new_tasks_is_not_promised_a_redeploy(world: World) -> None:
    world.opsctl("service", "redeploy", "api", "--again", "-y", check=0)
    deployed = world.service("api")["deployments"]
    world.fault("api", "GET /health", "fail", times=0)
    for way in ("-n", "-y"):
        refused = world.opsctl("service", "redeploy", "api", "worker", way, check=4)
        assert "No task of api is old enough" in refused.err
        assert "its health check fails" in refused.err
        assert "opsctl service redeploy api --again" in refused.err
    assert world.service("api")["deployments"] == deployed
    world.heal()
    assert world.opsctl("-o", "json", "service", "redeploy", "api", "-y", check=0).json["result"] == "unchanged"
