"""Changes to who handles an alarm. None of them changes an alarm's state, because that would run its actions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from opsctl.changes import raw
from opsctl.changes.notices import page
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Irreversible, OutcomeKnownBy, Pending, Skipped
from opsctl.permissions import Permissions, needs
from opsctl.shell import Message, Question

if TYPE_CHECKING:
    from opsctl.adapters.aws.cloudwatch import Alarm
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback, RunHistory
    from opsctl.shell import Statement
    from opsctl.systems import Systems

ALARM = "ALARM"


def key_of(alarm: str, transition: datetime) -> str:
    """The pager's deduplication key of one transition. What triggers the pager must use the same key."""
    return f"{alarm[:200]}@{transition:%Y-%m-%dT%H:%M:%SZ}"


class SetAcknowledgement(Change, frozen=True, kw_only=True):
    """Whether somebody here handles an alarm since its `transition`. The ledger records it; with `page` the pager is notified too.

    Acknowledging a key that the pager doesn't know, or acknowledging twice, has no effect. The pager's event can't be undone.
    """

    outcome_known_by: ClassVar[OutcomeKnownBy] = "idempotency_key"
    permissions: ClassVar[Permissions] = needs(check="cloudwatch:DescribeAlarms", apply="pagerduty")
    target_template: ClassVar[str] = "alarm/{alarm}"

    alarm: str
    transition: datetime
    acknowledged: bool = True
    page: bool = False

    @property
    def summary(self) -> str:
        """What is recorded, for which transition."""
        which = f"the alarm {self.alarm} (in ALARM since {self.transition:%Y-%m-%d %H:%M:%S} UTC)"
        if self.acknowledged:
            return f"acknowledge {which}{', here and in the pager' if self.page else ''}"
        kept = "; the pager stays acknowledged until that expires" if self.page else ""
        return f"withdraw the acknowledgement of {which}{kept}"

    def difference(self) -> tuple[Any, Any]:
        """Whether the alarm is acknowledged."""
        words = {True: "acknowledged", False: "not acknowledged"}
        return words[not self.acknowledged], words[self.acknowledged]

    def check(self, read: Systems) -> Finding:
        """Reads the ledger for this transition, and CloudWatch to see whether the transition is current."""
        known = acknowledged(read.history, self.alarm, self.transition)
        if self.acknowledged and known:
            return Done(f"{known.by} acknowledged it, in run {known.run}", known.at)
        if not self.acknowledged:
            return Pending(1, "alarms") if known else Done("nobody has acknowledged it")
        (alarm,) = read.cloudwatch.alarms([self.alarm])
        if alarm.state not in (ALARM, "OK"):
            return Skipped(f"the alarm is {alarm.state}: it is unknown whether its cause is over, and there is nothing to acknowledge")
        return _of(alarm, self.transition, "there is nothing to acknowledge")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Notifies the pager. The acknowledgement itself is this step's record in the ledger."""
        if not (self.acknowledged and self.page):
            return {"why": "recorded in the ledger"}
        return {
            "why": "recorded in the ledger and in the pager",
            "dedup_key": write.pagerduty.acknowledge(key_of(self.alarm, self.transition)),
        }

    def inverse(self) -> Change | Irreversible:
        """The opposite change."""
        return SetAcknowledgement(alarm=self.alarm, transition=self.transition, acknowledged=not self.acknowledged, page=self.page)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The pager's command, if a pager is configured. CloudWatch has no acknowledgement, and a script can't write to the ledger."""
        tell = f"{self.summary}: only opsctl's ledger would record it. Tell your team."
        if not (self.acknowledged and self.page):
            return [Question(line=tell)]
        event = {"event_action": "acknowledge", "dedup_key": key_of(self.alarm, self.transition)}
        return [*page(environment, event), Message(line=tell)]


class SetAlarmReason(Change, frozen=True, kw_only=True):
    """An alarm that is in ALARM since `transition` shows `after` as its reason in AWS.

    SetAlarmState is called with the current state, which runs no actions. The alarm's next evaluation may replace the reason.
    """

    permissions: ClassVar[Permissions] = needs(
        check="cloudwatch:DescribeAlarms",
        apply="cloudwatch:DescribeAlarms cloudwatch:SetAlarmState",
    )
    target_template: ClassVar[str] = "alarm-reason/{alarm}"
    summary_template: ClassVar[str] = "set the state reason of the alarm {alarm} to: {after}"

    alarm: str
    transition: datetime
    before: str
    after: str

    def difference(self) -> tuple[Any, Any]:
        """The two reasons."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Reads the state first: in any state other than ALARM nothing may be set."""
        (alarm,) = read.cloudwatch.alarms([self.alarm])
        found = _of(alarm, self.transition, "its reason is the former one")
        if isinstance(found, Pending) and alarm.reason == self.after:
            return Done("its reason is the given text", alarm.updated)
        if isinstance(found, Pending) and alarm.reason != self.before:
            return Drifted(f"its reason has changed since the plan: {alarm.reason!r}")
        return found

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """One SetAlarmState."""
        write.cloudwatch.annotate(self.alarm, self.transition, self.after)
        return {}

    def inverse(self) -> Change | Irreversible:
        """Restores the former reason."""
        return SetAlarmReason(alarm=self.alarm, transition=self.transition, before=self.after, after=self.before)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The AWS command, only while the alarm is in ALARM: any other state would run its actions."""
        look = raw.aws(environment, "cloudwatch", "describe-alarms", AlarmNames=[self.alarm])
        state = {"AlarmName": self.alarm, "StateValue": ALARM, "StateReason": self.after}
        return [
            *raw.as_reviewed(look, "MetricAlarms[0].StateValue || CompositeAlarms[0].StateValue", ALARM, f"The alarm {self.alarm}"),
            raw.aws(environment, "cloudwatch", "set-alarm-state", **state),
        ]


def _of(alarm: Alarm, transition: datetime, otherwise: str) -> Finding:
    """None if the alarm is still in the ALARM that began at `transition`; otherwise a finding, `otherwise` for any other state."""
    if alarm.updated is None:
        return Skipped(f"CloudWatch lists no alarm {alarm.name}: it was deleted, or these credentials may not read it")
    if alarm.state != ALARM:
        return Done(f"{otherwise}: the alarm is {alarm.state}", alarm.updated)
    if alarm.updated != transition:
        return Drifted(f"it went into ALARM again at {alarm.updated:%Y-%m-%d %H:%M:%S} UTC, after the plan was made")
    return Pending(1, "alarms")


class Acknowledgement(NamedTuple):
    """Who acknowledged an alarm's transition, when, and in which run."""

    by: str
    at: datetime
    run: str


def acknowledged(history: RunHistory, alarm: str, transition: datetime) -> Acknowledgement | None:
    """The acknowledgement of this transition of an alarm; None if there is none or it was undone."""
    applied = (past for past in history.past(SetAcknowledgement, f"alarm/{alarm}") if past.state == "applied")
    last = next((past for past in applied if past.change.transition == transition), None)
    if last is None or last.ended is None or not last.change.acknowledged:
        return None
    return Acknowledgement(last.operator, last.ended, last.run)
