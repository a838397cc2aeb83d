"""WAF and Shield: locks, pages, and the odd answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opsctl.adapters.aws.session import AwsSession
from opsctl.adapters.aws.shield import Shield
from opsctl.adapters.aws.waf import AddressSet, Waf, WebAcl, from_json, to_json
from opsctl.errors import Denied, DriftError, ExternalError, NotFound, ReadOnly, Refused
from opsctl.settings.security import WafPlace

PLACE = WafPlace()
SEEN = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "m"}
RULE = {
    "Name": "ours",
    "Priority": 1,
    "Action": {"Count": {}},
    "Statement": {"RateBasedStatement": {"Limit": 500, "AggregateKeyType": "IP"}},
    "VisibilityConfig": SEEN,
}


class Hurried(Waf):
    """Somebody else changes the ACL between reading and writing, `times` times."""

    times = 1

    def _update_fields(self, place: WafPlace, raw: dict[str, Any]) -> dict[str, Any]:
        kept = super()._update_fields(place, raw)
        if self.times:
            self.times -= 1
            token = self._call(place, "get_web_acl", Name="acl", Id=raw["Id"], Scope="REGIONAL")["LockToken"]
            theirs = {**RULE, "Name": f"theirs-{self.times}", "Priority": 10 + self.times}
            self._call(place, "update_web_acl", **{**kept, "Rules": [theirs]}, Scope="REGIONAL", LockToken=token)
        return kept


@pytest.fixture
def acl(writing: AwsSession) -> str:
    created = writing.call(
        "wafv2", "create_web_acl", Name="acl", Scope="REGIONAL", DefaultAction={"Allow": {}}, Rules=[], VisibilityConfig=SEEN
    )
    return str(created["Summary"]["ARN"])


@pytest.fixture
def addresses(writing: AwsSession) -> None:
    writing.call("wafv2", "create_ip_set", Name="set", Scope="REGIONAL", IPAddressVersion="IPV4", Addresses=["192.0.2.1/32"])


@pytest.mark.usefixtures("acl")
def test_a_rule_goes_in_beside_what_somebody_else_put_in_meanwhile(writing: AwsSession) -> None:
    waf = Hurried(writing)
    waf.put_rule("acl", PLACE, "ours", None, RULE)
    assert {rule["Name"] for rule in waf.acl("acl", PLACE).rules} == {"ours", "theirs-0"}


@pytest.mark.usefixtures("acl")
def test_whoever_is_always_slower_gives_up_and_has_changed_nothing(writing: AwsSession) -> None:
    waf = Hurried(writing)
    waf.times = 2
    with pytest.raises(ExternalError, match="Somebody else is changing acl at the same time"):
        waf.put_rule("acl", PLACE, "ours", None, RULE)
    assert waf.acl("acl", PLACE).rule("ours") is None


@pytest.mark.usefixtures("acl")
def test_a_rule_that_is_not_as_reviewed_is_left_alone(writing: AwsSession) -> None:
    waf = Waf(writing)
    with pytest.raises(DriftError, match="has changed since the plan"):
        waf.put_rule("acl", PLACE, "ours", RULE, None)
    waf.put_rule("acl", PLACE, "ours", None, RULE)
    with pytest.raises(DriftError, match="has changed since the plan"):
        waf.put_rule("acl", PLACE, "ours", None, RULE)


@pytest.mark.usefixtures("addresses")
def test_entries_are_made_of_what_is_there_when_it_is_written(writing: AwsSession) -> None:
    waf, seen = Waf(writing), []

    def listed(now: AddressSet) -> list[str]:
        seen.append(now.entries)
        if len(seen) == 1:
            Waf(writing).put_addresses("set", PLACE, lambda then: [*then.entries, "192.0.2.2/32"])
        return [*now.entries, "192.0.2.3/32"]

    waf.put_addresses("set", PLACE, listed)
    assert len(seen) == 2
    assert waf.addresses("set", PLACE).entries == ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")


@pytest.mark.usefixtures("acl", "addresses")
def test_reading_systems_write_neither_rules_nor_addresses_nor_protections(reading: AwsSession) -> None:
    with pytest.raises(ReadOnly):
        Waf(reading).put_rule("acl", PLACE, "ours", None, RULE)
    with pytest.raises(ReadOnly):
        Waf(reading).put_addresses("set", PLACE, lambda now: [])
    with pytest.raises(ReadOnly):
        Shield(reading).protect("ours", "arn")
    with pytest.raises(ReadOnly):
        Shield(reading).unprotect("id")


@pytest.mark.usefixtures("acl")
def test_what_is_not_there_is_named_with_what_is(reading: AwsSession) -> None:
    with pytest.raises(NotFound, match=r"no web ACL absent \(REGIONAL, region us-east-1\)\. Known: acl\."):
        Waf(reading).acl("absent", PLACE)
    with pytest.raises(NotFound, match="no address set absent"):
        Waf(reading).addresses("absent", PLACE)
    with pytest.raises(NotFound, match="CLOUDFRONT, region us-east-1"):
        Waf(reading).acl("acl", WafPlace("CLOUDFRONT", "us-east-1"))


def test_every_page_is_looked_through(fake: Any) -> None:
    pages = iter([{"WebACLs": [{"Name": "one", "Id": "1"}], "NextMarker": "one"}, {"WebACLs": [{"Name": "two", "Id": "2"}]}])
    config = {"Name": "two", "Id": "2", "ARN": "arn", "DefaultAction": {"Block": {}}, "VisibilityConfig": SEEN, "Rules": []}
    fake.answer = lambda: (200, json.dumps(next(pages, {"WebACL": config, "LockToken": "t"})))
    found = Waf(AwsSession(fake.config, sandbox=True, writing=False)).acl("two", PLACE)
    assert (found.id, found.default) == ("2", "block")


def test_distributions_are_behind_an_acl_of_cloudfront(reading: AwsSession) -> None:
    acl = WebAcl("acl", "1", "arn:aws:wafv2:us-east-1:123456789012:global/webacl/acl/1", "allow", "m", 0, ())

    class Answering(AwsSession):
        def call(self, service: str, operation: str, /, *, region: str | None = None, **parameters: Any) -> dict[str, Any]:
            assert (service, operation, region) == ("cloudfront", "list_distributions_by_web_acl_id", "us-east-1")
            assert parameters == {"WebACLId": acl.arn}
            return {"DistributionList": {"Items": [{"ARN": "arn:aws:cloudfront::123456789012:distribution/E1"}]}}

    aws = Answering(reading.config, sandbox=False, writing=False)
    assert Waf(aws).guards(acl, WafPlace("CLOUDFRONT", "us-east-1")) == ["arn:aws:cloudfront::123456789012:distribution/E1"]


def test_a_denied_call_names_the_permission(fake: Any) -> None:
    fake.answer = lambda: (400, json.dumps({"__type": "AccessDeniedException", "message": "no"}))
    with pytest.raises(Denied, match="wafv2:ListWebACLs"):
        Waf(AwsSession(fake.config, sandbox=True, writing=False)).acl("acl", PLACE)


def test_what_is_gone_between_two_calls_is_not_found(fake: Any) -> None:
    gone = {"__type": "WAFNonexistentItemException", "message": "AWS WAF couldn't perform the operation."}
    fake.answer = lambda: (400, json.dumps(gone))
    with pytest.raises(NotFound):
        Waf(AwsSession(fake.config, sandbox=True, writing=False)).acl("acl", PLACE)


def test_bytes_of_a_rule_can_stand_in_a_plan() -> None:
    rule = {"Statement": {"ByteMatchStatement": {"SearchString": b"\x00\xff"}}, "Labels": [{"Name": "a"}], "Priority": 1}
    assert json.loads(json.dumps(to_json(rule))) == to_json(rule)
    assert from_json(to_json(rule)) == rule


def test_a_member_that_the_sdk_doesnt_know_is_never_written_away(fake: Any) -> None:
    """WAF replaces an ACL as a whole, and the SDK drops from an answer what its model doesn't have."""
    rule = {
        "Name": "theirs",
        "Priority": 0,
        "Action": {"Block": {"QuantumResponse": {"Code": 1}}},
        "Statement": {"AndStatement": {"Statements": [{"GeoMatchStatement": {"CountryCodes": ["CH"], "Since": "2027"}}]}},
        "VisibilityConfig": {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": "m"},
    }
    config = {"Name": "acl", "Id": "1", "ARN": "arn", "DefaultAction": {"Allow": {}}, "VisibilityConfig": rule["VisibilityConfig"]}
    whole = {"WebACL": {**config, "Rules": [rule], "LockToken": "t", "Mood": "calm"}, "LockToken": "t"}
    listed = {"WebACLs": [{"Name": "acl", "Id": "1"}], "IPSets": [{"Name": "acl", "Id": "1"}]}
    addresses = {"Name": "acl", "Id": "1", "ARN": "a", "IPAddressVersion": "IPV4", "Addresses": [], "Mood": "calm"}
    fake.answer = lambda: (200, json.dumps({**listed, **whole, "IPSet": addresses}))
    lost = (
        "WebACL.Rules.0.Statement.AndStatement.Statements.0.GeoMatchStatement.Since",
        "WebACL.Rules.0.Action.Block.QuantumResponse",
        "WebACL.Mood",
    )
    unknown = Waf(AwsSession(fake.config, sandbox=True, writing=False)).acl("acl", PLACE).unknown
    assert set(lost) <= set(unknown)
    writing = Waf(AwsSession(fake.config, sandbox=True, writing=True))
    with pytest.raises(Refused, match="QuantumResponse") as refused:
        writing.put_rule("acl", PLACE, "ours", None, RULE)
    assert "pip install --upgrade botocore" in str(refused.value.next.first)
    with pytest.raises(Refused, match=r"IPSet\.Mood"):
        writing.put_addresses("acl", PLACE, lambda now: ["192.0.2.1/32"])
    assert b"LockToken" not in fake.bodies["wafv2"], "the last call was still one that reads"
    assert fake.seen["wafv2"] == 6
