"""AWS WAF: a web ACL's rules and address sets. WAF replaces both as a whole, so that what isn't ours is sent back as it was read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws.sent import SentAnswer, refuse_loss
from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import DriftError, ExternalError, NotFound, Retry
from opsctl.retry import Policy, TryAgain, retry
from opsctl.settings.security import WafPlace

LOCKED = "WAFOptimisticLockException"
ONCE_MORE = Policy(tries=2, deadline=60.0, first=0.0)
BYTES = "$bytes"
MOST_SAMPLES = 500
ALL = "ALL"
"""The value of the Rule dimension that stands for all of an ACL's rules."""

GUARDED = ("APPLICATION_LOAD_BALANCER", "API_GATEWAY", "APPSYNC", "COGNITO_USER_POOL", "APP_RUNNER_SERVICE", "VERIFIED_ACCESS_INSTANCE")
"""What ListResourcesForWebACL has to be asked for, a kind at a time."""

Rule = dict[str, Any]
"""A rule as WAF gives it, its bytes as `{"$bytes": base64}`, so that it can stand in a plan."""

Network = IPv4Network | IPv6Network


class WebAcl(Struct, frozen=True):
    """A web ACL; `default` is what becomes of a request that no rule stops, `metric` its name in CloudWatch, `capacity` in WCU.

    `unknown` are the members that the installed SDK doesn't know: it drops them from an answer, and they would be lost in a write.
    """

    name: str
    id: str
    arn: str
    default: str
    metric: str
    capacity: int
    rules: tuple[Rule, ...]
    unknown: tuple[str, ...] = ()

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule["Name"] == name), None)


class AddressSet(Struct, frozen=True):
    """A set of addresses; `entries` as WAF writes them."""

    name: str
    id: str
    arn: str
    version: str
    entries: tuple[str, ...]

    @property
    def networks(self) -> set[Network]:
        """The entries as networks, since WAF has its own way of writing IPv6."""
        return {ip_network(entry) for entry in self.entries}


class Sample(Struct, frozen=True):
    """A sampled request, which stands for `weight` others; `address` is the first of the forwarded header where one was asked for."""

    address: str
    action: str
    weight: int
    country: str
    path: str


class Samples(Struct, frozen=True):
    """Sampled requests, of how many they were taken, and over how many seconds."""

    requests: tuple[Sample, ...]
    population: int
    seconds: float


class Waf(Adapter):
    """Web ACLs and address sets by name; every method raises NotFound for one that isn't there."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def acl(self, name: str, place: WafPlace) -> WebAcl:
        """Return a web ACL as it stands."""
        answer, sent = self._acl(name, place)
        raw = answer["WebACL"]
        rules = sorted((to_json(rule) for rule in raw.get("Rules", [])), key=lambda rule: int(rule["Priority"]))
        default = next(iter(raw["DefaultAction"]), "")
        metric = raw["VisibilityConfig"]["MetricName"]
        return WebAcl(raw["Name"], raw["Id"], raw["ARN"], default.lower(), metric, raw.get("Capacity", 0), tuple(rules), sent.unknown)

    def addresses(self, name: str, place: WafPlace) -> AddressSet:
        """Return an address set as it stands."""
        raw = self._set(name, place)[0]["IPSet"]
        return AddressSet(raw["Name"], raw["Id"], raw["ARN"], raw["IPAddressVersion"], tuple(raw["Addresses"]))

    def guards(self, acl: WebAcl, place: WafPlace) -> list[str]:
        """Return the ARNs of what stands behind an ACL."""
        if place.scope == "CLOUDFRONT":
            found = self._aws.call("cloudfront", "list_distributions_by_web_acl_id", region=place.region, WebACLId=acl.arn)
            return sorted(item["ARN"] for item in found["DistributionList"].get("Items", []))

        def behind(kind: str) -> list[str]:
            return list(self._call(place, "list_resources_for_web_acl", WebACLArn=acl.arn, ResourceType=kind).get("ResourceArns", []))

        with ThreadPoolExecutor(len(GUARDED)) as pool:
            return sorted(arn for arns in pool.map(behind, GUARDED) for arn in arns)

    def samples(self, acl: WebAcl, place: WafPlace, since: datetime, until: datetime, header: str | None = None) -> Samples:
        """Return sampled requests of a time within the last three hours; by the address in `header` where one is given."""
        answer = self._call(
            place,
            "get_sampled_requests",
            WebAclArn=acl.arn,
            RuleMetricName=ALL,
            Scope=place.scope,
            TimeWindow={"StartTime": since, "EndTime": until},
            MaxItems=MOST_SAMPLES,
        )
        window = answer.get("TimeWindow") or {"StartTime": since, "EndTime": until}
        seconds = (window["EndTime"] - window["StartTime"]).total_seconds()
        return Samples(tuple(_sample(raw, header) for raw in answer["SampledRequests"]), answer.get("PopulationSize", 0), seconds)

    def rate_limited(self, acl: WebAcl, place: WafPlace, rule: str) -> list[str]:
        """Return the addresses that are over a rate-based rule's limit now, whether it counts or blocks; 10,000 at most."""
        where = {"WebACLName": acl.name, "WebACLId": acl.id, "RuleName": rule}
        answer = self._call(place, "get_rate_based_statement_managed_keys", Scope=place.scope, **where)
        return [each for kind in ("ManagedKeysIPV4", "ManagedKeysIPV6") for each in answer.get(kind, {}).get("Addresses", [])]

    @writes
    def put_rule(self, name: str, place: WafPlace, rule: str, before: Rule | None, after: Rule | None) -> None:
        """Have an ACL's rule `rule` be `after` (None: not be), everything else in the ACL as it is.

        Raises DriftError unless it is `before`, and ExternalError where others change the ACL faster than it can be read.
        """

        def change() -> None:
            answer, sent = self._acl(name, place)
            refuse_loss(sent.unknown, f"the web ACL {name}")
            raw, others = answer["WebACL"], []
            now = None
            for each in raw.get("Rules", []):
                if each["Name"] == rule:
                    now = to_json(each)
                else:
                    others.append(each)
            if now != before:
                raise DriftError(f"The rule {rule} of {name} has changed since the plan.", "Check it, then make a new plan.")
            rules = others if after is None else [*others, from_json(after)]
            self._call(
                place,
                "update_web_acl",
                **{**self._update_fields(place, raw), "Rules": rules, "LockToken": answer["LockToken"]},
                Scope=place.scope,
            )

        self._locking(name, change)

    @writes
    def put_addresses(self, name: str, place: WafPlace, listed: Callable[[AddressSet], list[str]]) -> None:
        """Give a set the entries that `listed` makes of those it has; it is asked again when others change the set meanwhile."""

        def change() -> None:
            answer, sent = self._set(name, place)
            refuse_loss(sent.unknown, f"the address set {name}")
            raw = answer["IPSet"]
            entries = listed(AddressSet(raw["Name"], raw["Id"], raw["ARN"], raw["IPAddressVersion"], tuple(raw["Addresses"])))
            description = {"Description": raw["Description"]} if raw.get("Description") else {}
            where = {"Name": raw["Name"], "Id": raw["Id"], "Scope": place.scope, "LockToken": answer["LockToken"]}
            self._call(place, "update_ip_set", **where, **description, Addresses=entries)

        self._locking(name, change)

    def _locking(self, name: str, change: Callable[[], None]) -> None:
        """Make a change over what was just read; once more if somebody else was quicker."""

        def once() -> None:
            try:
                change()
            except ExternalError as no:
                if no.code != LOCKED:
                    raise
                what = f"Somebody else is changing {name} at the same time."
                raise TryAgain(ExternalError(what, Retry("Wait a moment"), code=no.code, words=no.words)) from no

        retry(once, ONCE_MORE)

    def _update_fields(self, place: WafPlace, raw: dict[str, Any]) -> dict[str, Any]:
        """All of an ACL that UpdateWebACL takes: what it isn't sent it forgets. An empty description is none."""
        takes = self._aws.client("wafv2", place.region).meta.service_model.operation_model("UpdateWebACL").input_shape.members
        return {name: value for name, value in raw.items() if name in takes and value != ""}

    def _acl(self, name: str, place: WafPlace) -> tuple[dict[str, Any], SentAnswer]:
        found = self._id_by_name(place, "list_web_acls", "WebACLs", name, "web ACL")
        answer, sent = self._whole(place, "get_web_acl", name, found)
        if "Rules" not in answer["WebACL"] and answer["WebACL"].get("Capacity"):
            raise ExternalError(f"WAF returned no rules for the web ACL {name}, but reports that they use capacity (WCU).", Retry())
        return answer, sent

    def _set(self, name: str, place: WafPlace) -> tuple[dict[str, Any], SentAnswer]:
        found = self._id_by_name(place, "list_ip_sets", "IPSets", name, "address set")
        return self._whole(place, "get_ip_set", name, found)

    def _whole(self, place: WafPlace, operation: str, name: str, id: str) -> tuple[dict[str, Any], SentAnswer]:
        """An answer, and what of it the SDK doesn't know; a lock token is no content, wherever it stands."""
        answer, sent = self._aws.call_complete("wafv2", operation, region=place.region, Name=name, Id=id, Scope=place.scope)
        return answer, SentAnswer(sent.raw, tuple(path for path in sent.unknown if not path.endswith(".LockToken")))

    def _id_by_name(self, place: WafPlace, operation: str, key: str, name: str, word: str) -> str:
        found = {each["Name"]: str(each["Id"]) for each in self._listed(place, operation, key)}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            where = f"{place.scope}, region {place.region or self._aws.config.region}"
            raise NotFound(f"There is no {word} {name} ({where}). There is: {known}.", "Correct [protection] in the configuration.")
        return found[name]

    def _listed(self, place: WafPlace, operation: str, key: str) -> Iterator[dict[str, Any]]:
        """botocore has no paginators for WAF."""
        marker: dict[str, str] = {}
        while True:
            answer = self._call(place, operation, Scope=place.scope, Limit=100, **marker)
            yield from answer.get(key, [])
            if not answer.get("NextMarker") or not answer.get(key):
                return
            marker = {"NextMarker": answer["NextMarker"]}

    def _call(self, place: WafPlace, operation: str, **parameters: Any) -> dict[str, Any]:
        return self._aws.call("wafv2", operation, region=place.region, **parameters)


def to_json(value: Any) -> Any:
    """What botocore gives, as JSON can hold it."""
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: to_json(each) for name, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    """What `plain` was made of."""
    if isinstance(value, dict):
        return base64.b64decode(value[BYTES]) if BYTES in value else {name: from_json(each) for name, each in value.items()}
    return [from_json(each) for each in value] if isinstance(value, list) else value


def _sample(raw: dict[str, Any], header: str | None) -> Sample:
    request = raw["Request"]
    address = request.get("ClientIP", "")
    if header:
        given = {each["Name"].lower(): each["Value"] for each in request.get("Headers", [])}
        address = given.get(header.lower(), "").partition(",")[0].strip() or address
    return Sample(address, raw.get("Action", ""), raw.get("Weight", 1), request.get("Country", ""), request.get("URI", ""))
