"""WAF: web ACLs, address sets, and the traffic that meets them. moto has neither samples nor who is over a limit, checks no rule, and
keeps what an update of an ACL leaves out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.traffic import AclRules, counted, sampled
from opsctl.sandbox.aws.wire import Answer, AwsError, Request

LOAD_BALANCER = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:loadbalancer/app/safawinet-prod/50dc6c495c0c9188"
ACL = "safawinet-prod"
SETS = {"safawinet-blocked-v4": "IPV4", "safawinet-blocked-v6": "IPV6"}
CAPACITY = {"AWSManagedRulesCommonRuleSet": 700}
MOST_CAPACITY = 5_000

_LOCK = "AWS WAF couldn't save your changes because someone changed the resource after you started to edit it. Reapply your changes."
_ABSENT = "AWS WAF couldn't perform the operation because your resource doesn't exist."

_ACL_FIELDS = (
    "DefaultAction",
    "Description",
    "Rules",
    "VisibilityConfig",
    "DataProtectionConfig",
    "CustomResponseBodies",
    "CaptchaConfig",
    "ChallengeConfig",
    "TokenDomains",
    "AssociationConfig",
    "OnSourceDDoSProtectionConfig",
    "ApplicationConfig",
)


class FakeWaf:
    """The calls of WAF about ACLs and address sets; rule groups and patterns are moto's."""

    def __init__(self, timeline: EventLog) -> None:
        self._timeline = timeline
        self._held: dict[str, dict[str, dict[str, Any]]] = {"webacl": {}, "ipset": {}}
        self._tokens: dict[str, str] = {}
        self._behind: dict[str, str] = {}
        self.operations: dict[str, Callable[[Request], Mapping[str, Any] | Answer]] = {
            "CreateWebACL": self._create_acl,
            "GetWebACL": self._get_acl,
            "UpdateWebACL": self._update_acl,
            "DeleteWebACL": lambda request: self._delete(request, "webacl"),
            "ListWebACLs": lambda request: self._list(request, "webacl", "WebACLs"),
            "AssociateWebACL": self._associate,
            "DisassociateWebACL": self._disassociate,
            "GetWebACLForResource": self._of_resource,
            "ListResourcesForWebACL": self._resources,
            "CheckCapacity": lambda request: {"Capacity": capacity(request.params.get("Rules", []))},
            "GetSampledRequests": self._samples,
            "GetRateBasedStatementManagedKeys": self._over,
            "CreateIPSet": self._create_set,
            "GetIPSet": self._get_set,
            "UpdateIPSet": self._update_set,
            "DeleteIPSet": lambda request: self._delete(request, "ipset"),
            "ListIPSets": lambda request: self._list(request, "ipset", "IPSets"),
        }

    def seed(self) -> None:
        """An ACL of one managed group before the load balancer, and two address sets that no rule refers to yet."""
        group = {"VendorName": "AWS", "Name": "AWSManagedRulesCommonRuleSet"}
        managed = {
            "Name": "AWSManagedRulesCommonRuleSet",
            "Priority": 10,
            "Statement": {"ManagedRuleGroupStatement": group},
            "OverrideAction": {"None": {}},
            "VisibilityConfig": _visibility("AWSManagedRulesCommonRuleSet"),
        }
        arn = self._make(
            "webacl",
            ACL,
            "REGIONAL",
            {
                "DefaultAction": {"Allow": {}},
                "Description": "In front of the API",
                "Rules": [managed],
                "VisibilityConfig": _visibility(ACL),
                "CustomResponseBodies": {"slow-down": {"ContentType": "TEXT_PLAIN", "Content": "Slow down."}},
                "CaptchaConfig": {"ImmunityTimeProperty": {"ImmunityTime": 120}},
                "TokenDomains": ["safawinet.com"],
                "AssociationConfig": {"RequestBody": {"CLOUDFRONT": {"DefaultSizeInspectionLimit": "KB_16"}}},
            },
        )
        self._behind[LOAD_BALANCER] = arn
        for name, version in SETS.items():
            self._make("ipset", name, "REGIONAL", {"IPAddressVersion": version, "Addresses": [], "Description": "Who is kept out"})

    def _make(self, kind: str, name: str, scope: str, content: Mapping[str, Any], region: str = REGION) -> str:
        id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{region}/{scope}/{kind}/{name}"))
        arn = f"arn:aws:wafv2:{region}:{ACCOUNT}:{'global' if scope == 'CLOUDFRONT' else 'regional'}/{kind}/{name}/{id}"
        self._held[kind][arn] = {"Name": name, "Id": id, "ARN": arn, **content}
        self._tokens[arn] = str(uuid.uuid4())
        return arn

    def _of(self, request: Request, kind: str) -> list[dict[str, Any]]:
        """What the caller's scope and region have."""
        cloudfront = _scope(request) == "CLOUDFRONT"
        place = f":{request.region}:{ACCOUNT}:{'global' if cloudfront else 'regional'}/"
        return [held for arn, held in self._held[kind].items() if place in arn]

    def _existing(self, request: Request, kind: str) -> dict[str, Any]:
        params = request.params
        if arn := params.get("ARN") or params.get("WebAclArn") or params.get("WebACLArn"):
            found = self._held[kind].get(str(arn))
        else:
            wanted = (params.get("Name", params.get("WebACLName")), params.get("Id", params.get("WebACLId")))
            found = next((held for held in self._of(request, kind) if (held["Name"], held["Id"]) == wanted), None)
        if found is None:
            raise AwsError("WAFNonexistentItemException", _ABSENT)
        return found

    def _locked(self, request: Request, kind: str) -> dict[str, Any]:
        found = self._existing(request, kind)
        if request.params.get("LockToken") != self._tokens[found["ARN"]]:
            raise AwsError("WAFOptimisticLockException", _LOCK)
        return found

    def _changed(self, arn: str) -> dict[str, Any]:
        self._tokens[arn] = str(uuid.uuid4())
        return {"NextLockToken": self._tokens[arn]}

    def _list(self, request: Request, kind: str, key: str) -> dict[str, Any]:
        """A page, whose marker is the number of what came before it."""
        all_, begin = self._of(request, kind), int(request.params.get("NextMarker") or 0)
        end = begin + int(request.params.get("Limit") or 100)
        marker = {"NextMarker": str(end)} if end < len(all_) else {}
        return {key: [self._summary(held) for held in all_[begin:end]], **marker}

    def _summary(self, held: Mapping[str, Any]) -> dict[str, Any]:
        told = {name: held.get(name, "") for name in ("Name", "Id", "ARN", "Description")}
        return {**told, "LockToken": self._tokens[held["ARN"]]}

    def _delete(self, request: Request, kind: str) -> dict[str, Any]:
        arn = self._locked(request, kind)["ARN"]
        if arn in self._behind.values() or any(arn in str(acl["Rules"]) for acl in self._held["webacl"].values()):
            raise AwsError("WAFAssociatedItemException", "AWS WAF couldn't perform the operation because your resource is being used.")
        del self._held[kind][arn]
        return {}

    def _create_acl(self, request: Request) -> dict[str, Any]:
        self._new(request, "webacl")
        content = self._checked(request)
        arn = self._make("webacl", str(request.params["Name"]), _scope(request), content, request.region)
        return {"Summary": self._summary(self._held["webacl"][arn])}

    def _new(self, request: Request, kind: str) -> None:
        if any(held["Name"] == request.params.get("Name") for held in self._of(request, kind)):
            raise AwsError("WAFDuplicateItemException", "Some resource in your request is a duplicate of an existing one.")

    def _get_acl(self, request: Request) -> dict[str, Any]:
        found = self._existing(request, "webacl")
        label = f"awswaf:{ACCOUNT}:webacl:{found['Name']}:"
        full = {
            "Description": "",
            **found,
            "Capacity": capacity(found["Rules"]),
            "LabelNamespace": label,
            "ManagedByFirewallManager": False,
        }
        return {"WebACL": full, "LockToken": self._tokens[found["ARN"]]}

    def _update_acl(self, request: Request) -> dict[str, Any]:
        """As AWS does: what the caller leaves out is gone."""
        found = self._locked(request, "webacl")
        content = self._checked(request)
        self._held["webacl"][found["ARN"]] = {**{name: found[name] for name in ("Name", "Id", "ARN")}, **content}
        return self._changed(found["ARN"])

    def _checked(self, request: Request) -> dict[str, Any]:
        params = request.params
        content = {"Rules": [], **{name: params[name] for name in _ACL_FIELDS if name in params}}
        for needed in ("DefaultAction", "VisibilityConfig"):
            if needed not in content:
                raise AwsError("WAFInvalidParameterException", f"{needed} is required.")
        if content.get("Description") == "":
            raise AwsError("ValidationException", "Value '' at 'description' failed to satisfy constraint: length at least 1.")
        check_rules(content["Rules"], set(self._held["ipset"]))
        if capacity(content["Rules"]) > MOST_CAPACITY:
            raise AwsError("WAFLimitsExceededException", f"The web ACL needs more than {MOST_CAPACITY} WCU.")
        return content

    def _associate(self, request: Request) -> dict[str, Any]:
        self._behind[str(request.params["ResourceArn"])] = self._existing(request, "webacl")["ARN"]
        return {}

    def _disassociate(self, request: Request) -> dict[str, Any]:
        self._behind.pop(str(request.params["ResourceArn"]), None)
        return {}

    def _of_resource(self, request: Request) -> dict[str, Any]:
        arn = self._behind.get(str(request.params["ResourceArn"]))
        return {"WebACL": self._held["webacl"][arn]} if arn else {}

    def _resources(self, request: Request) -> dict[str, Any]:
        """Of one kind only; load balancers unless another is asked for."""
        acl = self._existing(request, "webacl")["ARN"]
        word = {"APPLICATION_LOAD_BALANCER": ":elasticloadbalancing:", "API_GATEWAY": ":apigateway:", "APPSYNC": ":appsync:"}
        kind = word.get(str(request.params.get("ResourceType", "APPLICATION_LOAD_BALANCER")), ":nothing:")
        return {"ResourceArns": [arn for arn, by in self._behind.items() if by == acl and kind in arn]}

    def _samples(self, request: Request) -> dict[str, Any]:
        acl, window = self._existing(request, "webacl"), request.params["TimeWindow"]
        end = min(float(window["EndTime"]), self._timeline.now())
        start = max(float(window["StartTime"]), end - 3 * 3600)
        metric = str(request.params["RuleMetricName"])
        known = {rule["VisibilityConfig"]["MetricName"] for rule in acl["Rules"]} | {"ALL", "Default_Action"}
        if metric not in known or start >= end:
            raise AwsError("WAFInvalidParameterException", f"Error reason: invalid metric name or time window: {metric}.")
        most = int(request.params["MaxItems"])
        requests, population = sampled(self._rules(acl), metric, start, end, most)
        return {"SampledRequests": requests, "PopulationSize": population, "TimeWindow": {"StartTime": start, "EndTime": end}}

    def _over(self, request: Request) -> dict[str, Any]:
        acl = self._existing(request, "webacl")
        name = str(request.params["RuleName"])
        if not any(rule["Name"] == name and "RateBasedStatement" in rule["Statement"] for rule in acl["Rules"]):
            raise AwsError("WAFNonexistentItemException", _ABSENT)
        found = counted(self._rules(acl), name)
        four, six = ([one for one in found if (":" in one) is wide] for wide in (False, True))
        return {
            "ManagedKeysIPV4": {"IPAddressVersion": "IPV4", "Addresses": [f"{one}/32" for one in four]},
            "ManagedKeysIPV6": {"IPAddressVersion": "IPV6", "Addresses": [f"{one}/128" for one in six]},
        }

    def _rules(self, acl: Mapping[str, Any]) -> AclRules:
        return AclRules(acl["Rules"], {arn: held["Addresses"] for arn, held in self._held["ipset"].items()})

    def _create_set(self, request: Request) -> dict[str, Any]:
        self._new(request, "ipset")
        params, version = request.params, str(request.params.get("IPAddressVersion"))
        told = {"Description": params["Description"]} if params.get("Description") else {}
        content = {"IPAddressVersion": version, "Addresses": entries(params.get("Addresses", []), version), **told}
        arn = self._make("ipset", str(params["Name"]), _scope(request), content, request.region)
        return {"Summary": self._summary(self._held["ipset"][arn])}

    def _get_set(self, request: Request) -> dict[str, Any]:
        found = self._existing(request, "ipset")
        return {"IPSet": {"Description": "", **found}, "LockToken": self._tokens[found["ARN"]]}

    def _update_set(self, request: Request) -> dict[str, Any]:
        found = self._locked(request, "ipset")
        found["Addresses"] = entries(request.params.get("Addresses", []), found["IPAddressVersion"])
        found.pop("Description", None)
        if told := request.params.get("Description"):
            found["Description"] = told
        return self._changed(found["ARN"])


def _scope(request: Request) -> str:
    scope = str(request.params.get("Scope", "REGIONAL"))
    if scope == "CLOUDFRONT" and request.region != REGION:
        raise AwsError("WAFInvalidParameterException", f"Error reason: The scope is not valid., field: SCOPE_VALUE, parameter: {scope}")
    return scope


def _visibility(metric: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": metric}


def entries(addresses: list[str], version: str) -> list[str]:
    """Addresses as WAF keeps them: each once, IPv6 written out. Raises AwsError for what it doesn't take."""
    found: dict[str, None] = {}
    for address in addresses:
        try:
            network = ip_network(address)
        except ValueError as error:
            raise _invalid(address) from error
        if "/" not in address or network.prefixlen == 0 or f"IPV{network.version}" != version:
            raise _invalid(address)
        found[f"{network.network_address.exploded}/{network.prefixlen}"] = None
    return list(found)


def _invalid(what: object) -> AwsError:
    return AwsError(
        "WAFInvalidParameterException", f"Error reason: The parameter contains formatting that is not valid., parameter: {what}"
    )


def capacity(rules: list[Any]) -> int:
    """What rules cost, in WCU."""
    return sum(_cost(rule["Statement"]) for rule in rules)


def _cost(statement: Mapping[str, Any]) -> int:
    if group := statement.get("ManagedRuleGroupStatement"):
        return CAPACITY.get(group["Name"], 50)
    if rate := statement.get("RateBasedStatement"):
        inner = rate.get("ScopeDownStatement")
        return 2 + (_cost(inner) if inner else 0)
    return sum(_cost(one) for one in statement["OrStatement"]["Statements"]) if "OrStatement" in statement else 1


def check_rules(rules: list[dict[str, Any]], sets: set[str]) -> None:
    """Raise AwsError for rules that WAF doesn't take."""
    for field in ("Name", "Priority"):
        values = [rule[field] for rule in rules]
        if len(set(values)) != len(values):
            raise AwsError("WAFInvalidParameterException", f"Error reason: rules must have unique {field} values.")
    for rule in rules:
        if ("Action" in rule) == ("OverrideAction" in rule):
            raise _invalid(f"{rule['Name']}: exactly one of Action and OverrideAction")
        _check_statement(rule["Statement"], sets)


def _check_statement(statement: Mapping[str, Any], sets: set[str]) -> None:
    if rate := statement.get("RateBasedStatement"):
        if not 10 <= rate["Limit"] <= 2_000_000_000 or rate.get("EvaluationWindowSec", 300) not in (60, 120, 300, 600):
            raise _invalid(rate)
        if (rate["AggregateKeyType"] == "FORWARDED_IP") != ("ForwardedIPConfig" in rate):
            raise _invalid(rate)
    for one in statement.get("OrStatement", {}).get("Statements", [statement]):
        if (named := one.get("IPSetReferenceStatement")) and named["ARN"] not in sets:
            raise AwsError("WAFNonexistentItemException", _ABSENT)
