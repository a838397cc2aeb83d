"""Changes to one rule of a web ACL: add, change or remove it; everything else in the ACL stays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.changes.rules import Rule, blocking, blocks, describe_rule, estimate, holds, named, rate
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Pending, Skipped
from opsctl.errors import ExternalError, Refused
from opsctl.permissions import Permissions, needs
from opsctl.settings.security import WafPlace
from opsctl.shell import File, Program, Put, Variable, capture, joined, run

if TYPE_CHECKING:
    from opsctl.adapters.aws.waf import WebAcl
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Statement
    from opsctl.systems import Systems

MOST_CAPACITY = 5_000
"""The WCU that an ACL may have."""

RULE_CAPACITY = 2
"""The WCU of a rate-based rule, and of a rule over two address sets."""

# The AWS CLI prints bytes in base64. As input, version 1 takes them as text, version 2 in base64.
WITH_RULE = Program(
    "acl_with_rule",
    """
import base64, json, sys
held, name, before, after, scope, version = sys.argv[1:]
answer, before, after = (json.load(open(file)) for file in (held, before, after))
def plain(value):
    if isinstance(value, dict):
        return {k: {"$bytes": v} if k == "SearchString" and isinstance(v, str) else plain(v) for k, v in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
def wire(value):
    if isinstance(value, dict) and "$bytes" in value:
        return base64.b64decode(value["$bytes"]).decode() if version.startswith("aws-cli/1.") else value["$bytes"]
    if isinstance(value, dict):
        return {k: wire(v) for k, v in value.items()}
    return [wire(each) for each in value] if isinstance(value, list) else value
acl = answer["WebACL"]
rules = plain(acl.get("Rules", []))
if next((rule for rule in rules if rule["Name"] == name), None) != before:
    sys.exit(f"the rule {name} has changed since the plan.")
rules = [rule for rule in rules if rule["Name"] != name] + ([after] if after else [])
told = ("ARN", "Capacity", "LabelNamespace", "ManagedByFirewallManager", "PreProcessFirewallManagerRuleGroups",
        "PostProcessFirewallManagerRuleGroups", "RetrofittedByFirewallManager")
kept = {k: v for k, v in acl.items() if k not in told and v != ""}
try:
    json.dump({**kept, "Rules": wire(rules), "Scope": scope, "LockToken": answer["LockToken"]}, sys.stdout)
except UnicodeDecodeError:
    sys.exit("a rule contains bytes that AWS CLI version 1 can't send; use version 2")
""",
)
"""Writes the update of a web ACL, of what WAF says of it and the rule as it was and is to be."""


class RuleChange(Change, frozen=True, kw_only=True):
    """The rule `rule` of a web ACL is `after`, and was `before`; None means no such rule. Both are as WAF writes them.

    `back` means that a former rule is restored.
    """

    under_way: ClassVar[float] = 0
    target_template: ClassVar[str] = "firewall/{acl}/{rule}"

    acl: str
    place: WafPlace
    rule: str
    before: Rule | None
    after: Rule | None
    back: bool = False

    @property
    def depends_on(self) -> frozenset[str]:
        """On undo, the later changes to the same rule, which are undone first."""
        return frozenset({self.target}) if self.back else frozenset()

    def difference(self) -> tuple[Any, Any]:
        """Both rules in a few words."""
        return describe_rule(self.before), describe_rule(self.after)

    def check(self, read: Systems) -> Finding:
        """Compares the rule, then checks that the ACL has enough capacity."""
        acl = read.waf.acl(self.acl, self.place)
        now = acl.rule(self.rule)
        if holds(now, self.after):
            return Done(f"it is set to {describe_rule(now)}" if now else f"there is no rule {self.rule}")
        if now != self.before:
            return Drifted(f"the rule {_set(now)}; in the plan it {_set(self.before)}")
        self._fits(acl)
        unguarded = (
            f"The installed AWS SDK doesn't know {', '.join(acl.unknown[:5])} of {self.acl}, and would delete it." if acl.unknown else ""
        )
        newer = "Install a newer botocore (pip install --upgrade botocore boto3)." if acl.unknown else ""
        return Pending(1, "rules", self._note(read, acl), unguarded, newer)

    def _fits(self, acl: WebAcl) -> None:
        if self.after is None:
            return
        there = next((rule["Name"] for rule in acl.rules if rule["Priority"] == self.after["Priority"]), self.rule)
        if there != self.rule:
            raise Refused(
                f"Priority {self.after['Priority']} of {self.acl} is now used by the rule {there}.",
                "Make a new plan: run the command again.",
            )
        if self.before is None and acl.capacity + RULE_CAPACITY > MOST_CAPACITY:
            raise Refused(f"{self.acl} uses {acl.capacity:,} of {MOST_CAPACITY:,} WCU; another rule doesn't fit.", "Remove a rule first.")

    def _note(self, read: Systems, acl: WebAcl) -> str:
        return ""

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateWebACL with the ACL's lock token."""
        write.waf.put_rule(self.acl, self.place, self.rule, self.before, self.after)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The WAF commands: WAF replaces a whole ACL, under its lock token, and drops what isn't sent."""
        where: dict[str, Any] = {"region": self.place.region, "Scope": self.place.scope}
        before, after, held, whole = File("rule-before"), File("rule-after"), File("acl"), File("whole-acl")
        get = raw.aws(environment, "wafv2", "get-web-acl", raw.ID, **where, Name=self.acl)
        update = raw.aws(environment, "wafv2", "update-web-acl", region=self.place.region)
        return [
            raw.learn("id", raw.aws(environment, "wafv2", "list-web-acls", **where, Limit=100), raw.id_of("WebACLs", self.acl)),
            capture("version", run("aws", "--version")),
            Put(file=before, words=(json.dumps(self.before),)),
            Put(file=after, words=(json.dumps(self.after),)),
            run(get.program, *get.words, "--output", "json", output=held),
            run(WITH_RULE, held, self.rule, before, after, self.place.scope, Variable("version"), output=whole),
            run(update.program, *update.words, "--cli-input-json", joined("file://", whole)),
        ]


class LimitRate(RuleChange, frozen=True, kw_only=True):
    """The rule counts, or blocks, clients that send more than its limit.

    A rule may block only after it has counted with that limit or a lower one. `follows` means that an earlier step, which may not
    have run yet, makes it count.
    """

    permissions: ClassVar[Permissions] = needs(
        check="wafv2:GetSampledRequests wafv2:GetWebACL wafv2:ListWebACLs",
        apply="wafv2:GetWebACL wafv2:ListWebACLs wafv2:UpdateWebACL",
    )

    follows: bool = False

    @property
    def summary(self) -> str:
        """Which clients are affected."""
        return f"set the rule {self.rule} to {describe_rule(self.after)}" if self.after else f"remove the rule {self.rule} from {self.acl}"

    @property
    def needs_typed_confirmation(self) -> bool:
        """Whether a rule stops blocking, which lets an attack in, or blocks at a lower limit than before, which it never counted with."""
        if self.back or not blocks(self.before):
            return False
        return not blocks(self.after) or not _milder(rate(self.before), rate(self.after))

    def check(self, read: Systems) -> Finding:
        """Like any rule; also checks that the rule has counted."""
        found = super().check(read)
        if isinstance(found, Pending) and not self.follows:
            self._counted()
        return found

    def _counted(self) -> None:
        if self.back or not blocks(self.after) or blocks(self.before):
            return
        wanted = rate(self.after)
        if not _milder(rate(self.before), wanted):
            count = f"opsctl protection rate-limit {wanted['Limit']} --window {wanted['EvaluationWindowSec'] // 60}m"
            raise Refused(
                f"{self.rule} would {describe_rule(self.after)} without having counted first: it {_set(self.before)}."
                " It is unknown whom it would block.",
                f"Count first: {count}. Then check whom it counts: opsctl protection status",
            )

    def _note(self, read: Systems, acl: WebAcl) -> str:
        if self.after is None or self.back:
            return ""
        given, now = rate(self.after), read.now()
        since = now - timedelta(seconds=given["EvaluationWindowSec"])
        try:
            samples = read.waf.samples(acl, self.place, since, now, given.get("ForwardedIPConfig", {}).get("HeaderName"))
        except ExternalError as cause:
            return f"no sample of requests: {cause.what}"
        note = estimate(samples, given["Limit"], given["EvaluationWindowSec"])
        return f"{note}; until then it blocks nobody" if blocks(self.before) and not blocks(self.after) else note

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateWebACL, unless the rule would block without having counted."""
        self._counted()
        return super().apply(write, token, progress)

    def inverse(self) -> LimitRate:
        """Restores the former rule, or none."""
        return LimitRate(acl=self.acl, place=self.place, rule=self.rule, before=self.after, after=self.before, back=True)


class BlockListed(RuleChange, frozen=True, kw_only=True):
    """A rule of the ACL blocks clients in the address sets (ARNs): `rule`, unless another rule already does."""

    permissions: ClassVar[Permissions] = needs(
        check="wafv2:GetIPSet wafv2:GetWebACL wafv2:ListIPSets wafv2:ListWebACLs",
        apply="wafv2:GetWebACL wafv2:ListWebACLs wafv2:UpdateWebACL",
    )

    sets: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which clients are blocked."""
        return f"set the rule {self.rule} to {describe_rule(self.after)}" if self.after else f"remove the rule {self.rule} from {self.acl}"

    @property
    def depends_on(self) -> frozenset[str]:
        """On removal, also the removal of addresses from the lists."""
        return super().depends_on if self.after else super().depends_on | {f"firewall/{named(arn)}" for arn in self.sets}

    def check(self, read: Systems) -> Finding:
        """Reads any rule that blocks the sets, then our own. Ours isn't removed while the lists contain other addresses."""
        acl = read.waf.acl(self.acl, self.place)
        if self.after and not self.back and (by := blocking(acl, self.after)):
            return Done(f"the rule {by} blocks these addresses")
        found = super().check(read)
        if isinstance(found, Pending) and self.after is None:
            for arn in self.sets:
                if others := len(read.waf.addresses(named(arn), self.place).entries):
                    return Skipped(
                        f"{others:,} more addresses on the block list {named(arn)} would no longer be blocked, so the rule stays"
                    )
        return found

    def inverse(self) -> BlockListed:
        """Restores the former rule, or none."""
        return BlockListed(acl=self.acl, place=self.place, rule=self.rule, before=self.after, after=self.before, back=True, sets=self.sets)


def _set(rule: Rule | None) -> str:
    return f"is set to {describe_rule(rule)}" if rule else "isn't there"


def _milder(before: Rule, after: Rule) -> bool:
    """Whether a statement affects no client that the former one didn't."""
    return {**before, "Limit": 0} == {**after, "Limit": 0} and bool(before["Limit"] <= after["Limit"])
