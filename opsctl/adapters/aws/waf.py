"""AWS WAF: a web ACL's rules and address sets. An update replaces them completely, so everything else is sent back as it was read."""

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
"""The value of the Rule dimension for all rules of an ACL."""

GUARDED = ("APPLICATION_LOAD_BALANCER", "API_GATEWAY", "APPSYNC", "COGNITO_USER_POOL", "APP_RUNNER_SERVICE", "VERIFIED_ACCESS_INSTANCE")
"""The resource types of ListResourcesForWebACL, one per call."""

Rule = dict[str, Any]
"""A rule of WAF, with bytes as `{"$bytes": base64}`, so that a plan can contain it."""

Network = IPv4Network | IPv6Network


class WebAcl(Struct, frozen=True):
    """A web ACL; `default` is the default action, `metric` its name in CloudWatch, `capacity` in WCU.

    `unknown` are members that the installed SDK doesn't know; a write would delete them.
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
        """The entries as networks, because WAF has its own notation for IPv6."""
        return {ip_network(entry) for entry in self.entries}


class Sample(Struct, frozen=True):
    """A sampled request, which represents `weight` requests; `address` is the first of the forwarded header, if configured."""

    address: str
    action: str
    weight: int
    country: str
    path: str


class Samples(Struct, frozen=True):
    """Sampled requests, the number of all requests, and the time in seconds."""

    requests: tuple[Sample, ...]
    population: int
    seconds: float


class Waf(Adapter):
    """Web ACLs and address sets by name; every method raises NotFound for one that isn't there."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def acl(self, name: str, place: WafPlace) -> WebAcl:
        """The current state of a web ACL."""
        answer, sent = self._acl(name, place)
        raw = answer["WebACL"]
        rules = sorted((to_json(rule) for rule in raw.get("Rules", [])), key=lambda rule: int(rule["Priority"]))
        default = next(iter(raw["DefaultAction"]), "")
        metric = raw["VisibilityConfig"]["MetricName"]
        return WebAcl(raw["Name"], raw["Id"], raw["ARN"], default.lower(), metric, raw.get("Capacity", 0), tuple(rules), sent.unknown)

    def addresses(self, name: str, place: WafPlace) -> AddressSet:
        """The current state of an address set."""
        raw = self._set(name, place)[0]["IPSet"]
        return AddressSet(raw["Name"], raw["Id"], raw["ARN"], raw["IPAddressVersion"], tuple(raw["Addresses"]))

    def guards(self, acl: WebAcl, place: WafPlace) -> list[str]:
        """The ARNs of the resources that an ACL protects."""
        if place.scope == "CLOUDFRONT":
            found = self._aws.call("cloudfront", "list_distributions_by_web_acl_id", region=place.region, WebACLId=acl.arn)
            return sorted(item["ARN"] for item in found["DistributionList"].get("Items", []))

        def behind(kind: str) -> list[str]:
            return list(self._call(place, "list_resources_for_web_acl", WebACLArn=acl.arn, ResourceType=kind).get("ResourceArns", []))

        with ThreadPoolExecutor(len(GUARDED)) as pool:
            return sorted(arn for arns in pool.map(behind, GUARDED) for arn in arns)

    def samples(self, acl: WebAcl, place: WafPlace, since: datetime, until: datetime, header: str | None = None) -> Samples:
        """Sampled requests within the last three hours, with the address in `header` if given."""
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
        """The addresses over a rate-based rule's limit now, whether it counts or blocks; at most 10,000."""
        where = {"WebACLName": acl.name, "WebACLId": acl.id, "RuleName": rule}
        answer = self._call(place, "get_rate_based_statement_managed_keys", Scope=place.scope, **where)
        return [each for kind in ("ManagedKeysIPV4", "ManagedKeysIPV6") for each in answer.get(kind, {}).get("Addresses", [])]

    @writes
    def put_rule(self, name: str, place: WafPlace, rule: str, before: Rule | None, after: Rule | None) -> None:
        """Set an ACL's rule `rule` to `after` (None: delete it); everything else stays.

        Raises DriftError unless it is `before`, and ExternalError when others change the ACL at the same time.
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
        """Set the entries to what `listed` returns for the present ones; called again when others change the set meanwhile."""

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
        """Run a change that reads first; repeated once if somebody else changed it meanwhile."""

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
        """The members of an ACL that UpdateWebACL accepts; it deletes members that are not sent. An empty description is invalid."""
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
        """An answer and the members that the SDK doesn't know, except lock tokens."""
        answer, sent = self._aws.call_complete("wafv2", operation, region=place.region, Name=name, Id=id, Scope=place.scope)
        return answer, SentAnswer(sent.raw, tuple(path for path in sent.unknown if not path.endswith(".LockToken")))

    def _id_by_name(self, place: WafPlace, operation: str, key: str, name: str, word: str) -> str:
        found = {each["Name"]: str(each["Id"]) for each in self._listed(place, operation, key)}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            where = f"{place.scope}, region {place.region or self._aws.config.region}"
            raise NotFound(f"There is no {word} {name} ({where}). Known: {known}.", "Correct [protection] in the configuration.")
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
    """botocore's value as JSON."""
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: to_json(each) for name, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`."""
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
