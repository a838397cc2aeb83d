"""Rehearsals of what is watched: an alarm that somebody looks after."""

from __future__ import annotations

from scenario import Scenario
from world import World

ALARM = "Safawinet-RDS-Connections"
REASON = "Too many connections, we look into it"


def reason(world: World) -> str:
    """What the alarm says."""
    (alarm,) = world.aws("cloudwatch").describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]
    return str(alarm["StateReason"])


def looked_after(world: World) -> bool:
    """Whether the ledger has it, the pager was told of one transition, and the alarm says so, as it stood in ALARM all the time."""
    told = {sent["dedup_key"] for sent in world.sent()["pagerduty"] if sent["event_action"] == "acknowledge"}
    states = world.aws("cloudwatch").describe_alarm_history(AlarmName=ALARM)["AlarmHistoryItems"]
    named = all(key.startswith(f"{ALARM}@") for key in told)
    return world.acknowledged() == [f"alarm/{ALARM}"] and len(told) == 1 and named and reason(world) == REASON and len(states) == 1


def another_reason(world: World) -> None:
    """Somebody else writes another reason."""
    world.aws("cloudwatch").set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="somebody else looks into it")


SCENARIOS = {
    "alarms ack": [
        Scenario(
            f"alarms ack {ALARM} --annotate '{REASON}'",
            looked_after,
            meddle=another_reason,
            reversible=True,
        )
    ]
}
