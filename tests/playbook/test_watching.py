"""The playbooks of sections 4.1 and 6: every line of the runbook has its step, and each answer leads where it should."""

from __future__ import annotations

import pytest
from world import World

from opsctl.config import shipped
from opsctl.playbook import conditions, loader
from opsctl.playbook.schema import Playbook

PROSE = {
    "high-response-times": ["4.1 High Response Times", "Check CloudWatch metrics", "Scale up service"],
    "alert-response": [
        "6.1 Critical Alerts",
        "ALB 5xx errors > 1%",
        "ECS CPU > 70% for 5 minutes",
        "RDS connections > 80%",
        "Redis memory > 80%",
        "Sentry error rate > 5%",
        "6.2 Alert Response",
        "Check alert status",
        "Acknowledge alert",
    ],
}
RDS = "Safawinet-RDS-Connections"


def playbook(name: str) -> Playbook:
    found, problems = loader.inspect(shipped("playbooks") / f"{name}.yaml")
    assert problems == []
    assert found is not None
    return found.playbook


def lines(name: str, **known: str) -> list[str]:
    return [step.text for step in playbook(name).steps if step.kind != "ask" and conditions.evaluate(step, known)]


@pytest.mark.parametrize("name", PROSE)
def test_every_line_of_the_runbook_has_its_step(name: str) -> None:
    there = "\n".join("\n".join([step.section, *step.items]) for step in playbook(name).steps)
    assert [line for line in PROSE[name] if line not in there] == []
    assert all(step.section for step in playbook(name).steps)
    assert playbook(name).about


@pytest.mark.parametrize("cause", ["database", "other"])
def test_only_a_lack_of_tasks_is_scaled_away(cause: str) -> None:
    scale = "service scale {service} {count}"
    assert scale in lines("high-response-times", cause="tasks")
    assert scale not in lines("high-response-times", cause=cause)


@pytest.mark.parametrize("alert", ["alb-5xx", "ecs-cpu", "rds-connections", "redis-memory", "sentry-errors", "none"])
def test_whatever_fires_is_acknowledged_first_and_proven_over_last(alert: str) -> None:
    found = lines("alert-response", alert=alert, outcome="fixed")
    assert found[0] == "alarms ack {alarm} --annotate {reason}"
    assert found[-2:] == ["alarms check", "alarms list {alarm}"]
    helped = lines("alert-response", alert=alert, outcome="others")
    assert helped[-3].startswith("notify page")
    assert helped[-2:] == found[-2:], "that others were called doesn't end the alert"


def test_an_alert_is_looked_after_from_end_to_end(world: World) -> None:
    line = ("playbook", "run", "alert-response", f"alarm={RDS}", "reason=We look into it", "-y", "--assume-answers")
    stopped = world.opsctl(*line, check=1)
    assert "state is ALARM, expected OK" in stopped.err
    assert world.acknowledged() == [f"alarm/{RDS}"]
    (alarm,) = world.aws("cloudwatch").describe_alarms(AlarmNames=[RDS])["MetricAlarms"]
    assert (alarm["StateReason"], alarm["StateValue"]) == ("We look into it", "ALARM")
    world.aws("cloudwatch").set_alarm_state(AlarmName=RDS, StateValue="OK", StateReason="as CloudWatch would")
    run = world.opsctl("-o", "json", "runs", "list").json[0]["run"]
    world.opsctl("runs", "resume", run, "-y", check=0)


def test_it_stops_as_long_as_something_fires(world: World) -> None:
    world.configure({"[alerts.ecs-cpu]\nabove = 70": "[alerts.ecs-cpu]\nabove = 10"})
    done = world.opsctl("playbook", "run", "alert-response", f"alarm={RDS}", "-y", "--assume-answers")
    assert done.code == 1
    assert "Check over failed: ECS CPU (api)" in done.err
    assert "runs resume" in done.err


def test_slow_answers_from_end_to_end(world: World) -> None:
    world.opsctl("playbook", "run", "high-response-times", "count=3", "-y", "--assume-answers", check=0)
    assert world.service("api")["desiredCount"] == 3
