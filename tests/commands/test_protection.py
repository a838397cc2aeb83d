"""Shield and the firewall by the command line: looked at, limited, blocked, and taken back."""

from __future__ import annotations

from typing import Any

from world import World

ACL, RULE = "safawinet-prod", "safawinet-rate-limit"
THEIR_ACL = 'acl = "safawinet-prod"'
FOUR, SIX = "safawinet-blocked-v4", "safawinet-blocked-v6"
LOAD_BALANCER = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/safawinet-prod/50dc6c495c0c9188"
FOREIGN = "arn:aws:elasticloadbalancing:us-east-1:999999999999:loadbalancer/app/x/1"
BEHIND_CDN = {'window = "5m"': 'window = "5m"\nforwarded-header = "X-Forwarded-For"'}


def typed(world: World, *words: str, check: int = 0) -> Any:
    return world.opsctl("-o", "json", "protection", *words, "-y", check=check)


def page(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.opsctl("-o", "json", "protection", "status", check=0).json
    return found


def rule(world: World, name: str = RULE) -> dict[str, Any]:
    return next((each for each in world.firewall()[ACL]["Rules"] if each["Name"] == name), {})


def put_rule(world: World, ours: dict[str, Any]) -> None:
    """Somebody else puts a rule in."""
    client, where = world.aws("wafv2"), {"Name": ACL, "Id": world.firewall()[ACL]["Id"], "Scope": "REGIONAL"}
    answer = client.get_web_acl(**where)
    acl = answer["WebACL"]
    seen = {"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": ours["Name"]}
    kept = {name: acl[name] for name in ("DefaultAction", "VisibilityConfig")}
    client.update_web_acl(**where, **kept, Rules=[*acl["Rules"], {"VisibilityConfig": seen, **ours}], LockToken=answer["LockToken"])


def managed(name: str, priority: int, group: str = "AWSManagedRulesBotControlRuleSet") -> dict[str, Any]:
    """A managed group of 50 WCU, or, the common rule set, of 700."""
    statement = {"ManagedRuleGroupStatement": {"VendorName": "AWS", "Name": group}}
    return {"Name": name, "Priority": priority, "OverrideAction": {"None": {}}, "Statement": statement}


def unsubscribe(world: World) -> None:
    world.aws("shield").delete_subscription()


def test_the_page_shows_shield_the_rules_and_who_sends_most(world: World) -> None:
    found = page(world)
    assert found["Shield Advanced"][0]["subscription"] == "active"
    assert {row["resource"]: row["protection"] for row in found["Protected by Shield"]} == {
        "cdn": "safawinet-cdn",
        "load-balancer": "NOT PROTECTED",
    }
    assert [row["vectors"] for row in found["Attacks in 7 days"]] == [["HTTP_FLOOD", "SYN_FLOOD"]]
    (acl,) = found["Web ACL"]
    assert acl["guards"] == ["safawinet-prod"]
    (figures,) = found["Requests in 1 h"]
    assert figures["allowed"] > figures["blocked"] > figures["counted"] == 0
    assert [row["rule"] for row in found["Rules"]] == ["AWSManagedRulesCommonRuleSet"]
    noisy = found["Most sampled addresses, last 5 min"]
    assert [(row["address"], row["requests"], row["action"]) for row in noisy[:2]] == [
        ("203.0.113.66", 1500, ["allow"]),
        ("2001:db8:bad::7", 1200, ["allow"]),
    ]
    assert found["Block list"] == []


def test_without_a_subscription_the_page_says_so_and_nothing_is_bought(world: World) -> None:
    unsubscribe(world)
    found = page(world)
    assert found["Shield Advanced"][0]["subscription"] == "none"
    assert "only a subscription" in str(found["Attacks in 7 days"])
    refused = typed(world, "enable-shield", "load-balancer", check=4)
    assert "a commitment of a year" in refused.err
    assert world.aws("shield").get_subscription_state()["SubscriptionState"] == "INACTIVE"


def test_what_cannot_be_asked_is_said_and_hides_nothing_else(world: World) -> None:
    world.fault("aws", "shield.*", "refuse", times=0)
    found = page(world)
    assert "AWS denied shield:GetSubscriptionState" in found["Shield Advanced"][0]["why"]
    assert found["Rules"][0]["rule"] == "AWSManagedRulesCommonRuleSet"
    world.fault("aws", "wafv2.*", "throttle", times=0)
    failed = world.opsctl("protection", "status", check=1)
    assert "next:" in failed.err


def test_a_limit_counts_then_blocks_and_keeps_all_else_in_the_acl(world: World) -> None:
    before = world.firewall()[ACL]
    refused = typed(world, "rate-limit", "1000", "--block", check=4)
    assert "without having counted first: it isn't there" in refused.err
    counted = typed(world, "rate-limit", "1000").json
    assert world.firewall()[ACL] == {**before, "Capacity": before["Capacity"] + 2, "Rules": [*before["Rules"], rule(world)]}
    assert rule(world)["Statement"] == {"RateBasedStatement": {"Limit": 1000, "EvaluationWindowSec": 300, "AggregateKeyType": "IP"}}
    over = page(world)["Addresses over the rate limit"]
    assert [row["address"] for row in over] == ["203.0.113.66/32", "2001:db8:bad::7/128"]
    assert "it is set to count above 1,000" in typed(world, "rate-limit", "900", "--block", check=4).err
    blocked = typed(world, "rate-limit", "1000", "--block").json
    assert rule(world)["Action"] == {"Block": {}}
    assert page(world)["Most sampled addresses, last 5 min"][0]["action"] == ["block"]
    for run in (blocked, counted):
        world.opsctl("runs", "undo", run["run"], "-y", check=0)
    assert world.firewall()[ACL] == before


def test_what_a_refused_limit_advises_lets_it_block(world: World) -> None:
    for limit, window in (("1000", "10m"), ("1000", "5m"), ("900", "1m")):
        block = ("rate-limit", limit, "--block", "--window", window)
        told = typed(world, *block, check=4).err
        assert "without having counted first" in told
        advised = told.partition("Count first: opsctl protection ")[2].partition(".")[0]
        typed(world, *advised.split())
        assert typed(world, *block, "-n", check=3).json["result"] == "would-change"


def test_a_dry_run_says_whom_the_limit_would_have_hit(world: World) -> None:
    planned = world.opsctl("-o", "json", "protection", "rate-limit", "1000", "-n", check=3).json["changes"][0]
    assert "of 23 addresses sampled in the last 300 s, 2 sent more" in planned["why"]
    assert (planned["before"], planned["after"]) == (None, "count above 1,000 requests in 300 s by address")
    world.fault("aws", "wafv2.GetSampledRequests", "refuse", times=0)
    planned = world.opsctl("-o", "json", "protection", "rate-limit", "1000", "-n", check=3).json["changes"][0]
    assert "no sample of requests" in planned["why"]


def test_what_blocks_is_not_lightly_made_to_count_again_or_to_block_earlier(world: World) -> None:
    typed(world, "rate-limit", "1000")
    typed(world, "rate-limit", "1000", "--block")
    world.configure({"protected = false": "protected = true"})
    for words in (["500"], ["500", "--block"], ["1000", "--block", "--window", "10m"]):
        assert "--confirm firewall/safawinet-prod/safawinet-rate-limit" in typed(world, "rate-limit", *words, check=7).err
    typed(world, "rate-limit", "2000", "--block")


def test_behind_a_cdn_the_forwarded_address_counts(world: World) -> None:
    world.configure(BEHIND_CDN)
    typed(world, "rate-limit", "1000")
    statement = rule(world)["Statement"]["RateBasedStatement"]
    assert statement["AggregateKeyType"] == "FORWARDED_IP"
    assert statement["ForwardedIPConfig"] == {"HeaderName": "X-Forwarded-For", "FallbackBehavior": "NO_MATCH"}
    typed(world, "block", "203.0.113.66")
    first = rule(world, "safawinet-blocked")["Statement"]["OrStatement"]["Statements"][0]["IPSetReferenceStatement"]
    assert first["IPSetForwardedIPConfig"]["Position"] == "ANY"


def test_what_a_rule_says_besides_its_limit_stays(world: World) -> None:
    field = {"SingleHeader": {"Name": "user-agent"}}
    match = {"SearchString": b"\x00\xff", "FieldToMatch": field, "TextTransformations": [{"Priority": 0, "Type": "NONE"}]}
    scope = {"ByteMatchStatement": {**match, "PositionalConstraint": "CONTAINS"}}
    rate = {"Limit": 400, "EvaluationWindowSec": 300, "AggregateKeyType": "IP", "ScopeDownStatement": scope}
    put_rule(world, {"Name": RULE, "Priority": 3, "Action": {"Count": {}}, "Statement": {"RateBasedStatement": rate}})
    before = rule(world)
    run = typed(world, "rate-limit", "500", "--block").json["run"]
    after = rule(world)
    assert (after["Priority"], after["VisibilityConfig"]) == (3, before["VisibilityConfig"])
    assert after["Statement"]["RateBasedStatement"] == {**before["Statement"]["RateBasedStatement"], "Limit": 500}
    world.undo(run)
    assert rule(world) == before


def test_a_rule_of_that_name_made_for_something_else_is_left_alone(world: World) -> None:
    put_rule(world, {"Name": RULE, "Priority": 3, "Action": {"Count": {}}, "Statement": {"GeoMatchStatement": {"CountryCodes": ["NL"]}}})
    before = world.firewall()
    assert "made it for something else" in typed(world, "rate-limit", "500", check=4).err
    assert world.firewall() == before


def test_a_lost_answer_is_found_out_and_a_throttled_call_changes_nothing(world: World) -> None:
    world.fault("aws", "wafv2.UpdateWebACL", "timeout-after-effect")
    assert typed(world, "rate-limit", "1000").json["result"] == "changed"
    assert rule(world)["Statement"]["RateBasedStatement"]["Limit"] == 1000
    world.fault("aws", "wafv2.UpdateIPSet", "refuse", times=0)
    failed = typed(world, "block", "203.0.113.66", check=1)
    assert "AWS denied wafv2:UpdateIPSet" in failed.err
    assert world.firewall()[FOUR]["Addresses"] == []


def test_listed_addresses_are_kept_out_and_only_ours_are_taken_back(world: World) -> None:
    first = typed(world, "block", "203.0.113.66,2001:db8:bad::7").json
    again = typed(world, "block", "203.0.113.66", "198.51.100.0/25").json
    assert [change["state"] for change in again["changes"]] == ["done", "applied"]
    found = {row["address"]: row["action"] for row in page(world)["Most sampled addresses, last 5 min"]}
    assert [found[one] for one in ("203.0.113.66", "2001:db8:bad::7", "198.51.100.23")] == [["block"]] * 3
    assert typed(world, "block", "198.51.100.7").json["result"] == "unchanged", "it is in a listed range"
    world.undo(again["run"])
    assert world.firewall()[FOUR]["Addresses"] == ["203.0.113.66/32"]
    typed(world, "block", "192.0.2.9")
    world.opsctl("runs", "undo", first["run"], "-y", check=0)
    assert world.firewall()[FOUR]["Addresses"] == ["192.0.2.9/32"]
    assert rule(world, "safawinet-blocked"), "somebody else rests on it"


def test_an_address_within_a_listed_range_is_not_unblocked_alone(world: World) -> None:
    typed(world, "block", "203.0.113.0/24")
    refused = typed(world, "unblock", "203.0.113.66", check=4)
    assert "next: opsctl protection unblock 203.0.113.0/24" in refused.err
    typed(world, "unblock", "203.0.113.0/24")
    assert world.firewall()[FOUR]["Addresses"] == []
    assert typed(world, "unblock", "203.0.113.0/24", "2001:db8::1").json["result"] == "unchanged"


def test_a_range_with_listed_addresses_in_it_is_not_said_to_be_free(world: World) -> None:
    typed(world, "block", "203.0.113.66", "203.0.113.70", "198.51.100.23", "2001:db8:bad::1")
    refused = typed(world, "unblock", "203.0.113.0/24", check=4)
    assert "203.0.113.66/32, 203.0.113.70/32" in refused.err
    assert "next: opsctl protection unblock 203.0.113.66/32 203.0.113.70/32" in refused.err
    refused = typed(world, "unblock", "198.51.100.23", "203.0.113.0/24", check=4)
    assert "next: opsctl protection unblock 198.51.100.23/32 203.0.113.66/32 203.0.113.70/32" in refused.err
    refused = typed(world, "unblock", "2001:db8:bad::/48", check=4)
    assert "next: opsctl protection unblock 2001:db8:bad::1/128" in refused.err
    assert len(world.firewall()[FOUR]["Addresses"]) == 3
    typed(world, "unblock", "203.0.113.66/32", "203.0.113.70/32", "198.51.100.23")
    assert world.firewall()[FOUR]["Addresses"] == []


def test_an_address_and_its_range_are_unblocked_together(world: World) -> None:
    typed(world, "block", "203.0.113.66")
    typed(world, "block", "203.0.113.0/24")
    for one in ("203.0.113.0/24", "203.0.113.66"):
        refused = typed(world, "unblock", one, check=4)
        assert "next: opsctl protection unblock 203.0.113.0/24 203.0.113.66/32" in refused.err
    typed(world, "unblock", "203.0.113.0/24", "203.0.113.66/32")
    assert world.firewall()[FOUR]["Addresses"] == []


def test_what_a_refused_unblock_advises_is_accepted(world: World) -> None:
    for one in ("203.0.113.66", "203.0.113.70", "203.0.113.64/28", "198.51.100.23", "203.0.113.0/24", "2001:db8:bad::7"):
        typed(world, "block", one)
    refused = typed(world, "unblock", "203.0.113.66", "2001:db8:bad::7", check=4)
    advised = refused.err.partition("next: opsctl protection ")[2].split()
    assert advised == ["unblock", "203.0.113.0/24", "203.0.113.64/28", "203.0.113.66/32", "203.0.113.70/32", "2001:db8:bad::7/128"]
    typed(world, *advised)
    assert world.firewall()[FOUR]["Addresses"] == ["198.51.100.23/32"]


def test_a_rule_of_another_name_that_blocks_them_is_enough(world: World) -> None:
    sets = [{"IPSetReferenceStatement": {"ARN": world.firewall()[name]["ARN"]}} for name in (FOUR, SIX)]
    put_rule(world, {"Name": "theirs", "Priority": 0, "Action": {"Block": {}}, "Statement": {"OrStatement": {"Statements": sets}}})
    run = typed(world, "block", "203.0.113.66").json
    assert [change["state"] for change in run["changes"]] == ["done", "applied"]
    assert not rule(world, "safawinet-blocked")


def test_a_rule_that_looks_at_another_address_does_not_block_them(world: World) -> None:
    def looks_at() -> list[str | None]:
        either = rule(world, "safawinet-blocked")["Statement"]["OrStatement"]["Statements"]
        return [each["IPSetReferenceStatement"].get("IPSetForwardedIPConfig", {}).get("HeaderName") for each in either]

    typed(world, "block", "203.0.113.5")
    before = rule(world, "safawinet-blocked")
    world.configure(BEHIND_CDN)
    run = typed(world, "block", "198.51.100.7").json
    assert [change["state"] for change in run["changes"]] == ["applied", "applied"]
    assert run["changes"][0]["before"] != run["changes"][0]["after"]
    assert looks_at() == ["X-Forwarded-For"] * 2
    assert typed(world, "block", "198.51.100.7").json["result"] == "unchanged"
    world.undo(run["run"])
    assert rule(world, "safawinet-blocked") == before
    typed(world, "block", "198.51.100.7")
    world.configure()
    typed(world, "block", "198.51.100.7")
    assert looks_at() == [None] * 2, "no longer behind one"


def test_theirs_is_not_enough_where_it_looks_at_another_address(world: World) -> None:
    world.configure(BEHIND_CDN)
    first = {"HeaderName": "X-Forwarded-For", "FallbackBehavior": "NO_MATCH", "Position": "FIRST"}
    arns = [{"ARN": world.firewall()[name]["ARN"]} for name in (FOUR, SIX)]
    for priority, extra in ((7, {}), (8, {"IPSetForwardedIPConfig": first})):
        sets = [{"IPSetReferenceStatement": {**arn, **extra}} for arn in arns]
        put_rule(
            world,
            {
                "Name": f"theirs-{priority}",
                "Priority": priority,
                "Action": {"Block": {}},
                "Statement": {"OrStatement": {"Statements": sets}},
            },
        )
    assert [change["state"] for change in typed(world, "block", "203.0.113.66").json["changes"]] == ["applied", "applied"]


WRONG = [
    (["rate-limit", "0"], 2, "is not in the range"),
    (["rate-limit", "9"], 2, "is not in the range"),
    (["rate-limit", "2000000001"], 2, "is not in the range"),
    (["rate-limit", "some"], 2, "is not a valid integer"),
    (["rate-limit", "500", "--window", "3m"], 2, "is not one of"),
    (["enable-shield", "nothing"], 2, "it knows: cdn, load-balancer"),
    (["enable-shield", "arn:aws:rds:us-east-1:123456789012:db:x"], 2, "can't protect"),
    (["enable-shield", LOAD_BALANCER.replace("/app/", "/net/")], 2, "can't protect"),
    (["enable-shield", FOREIGN], 4, "is in account 999999999999"),
    (["enable-shield", LOAD_BALANCER.replace("50dc", "0000")], 1, "InvalidResourceException"),
    (["block"], 2, "Missing argument"),
    (["block", "nonsense"], 2, "neither an address nor a range"),
    (["block", "203.0.113.256"], 2, "neither an address nor a range"),
    (["block", "203.0.113.7/24"], 2, "203.0.113.0/24 is the range"),
    (["block", "2001:db8:bad::7%eth0"], 2, "has a zone: 2001:db8:bad::7 is the address"),
    (["block", "2001:db8:bad::%25/48"], 2, "has a zone: 2001:db8:bad::/48 is the address"),
    (["block", "2001:db8:bad::7%"], 2, "neither an address nor a range"),
    (["block", "203.0.113.7%eth0"], 2, "neither an address nor a range"),
    (["unblock", "fe80::1%1"], 2, "has a zone"),
    (["block", ","], 2, "neither an address nor a range"),
    (["block", "0.0.0.0/0"], 4, "wider than /16"),
    (["block", "::/0"], 4, "wider than /32"),
    (["block", "203.0.113.66", "10.1.2.3"], 4, "no address on the internet"),
    (["block", "198.51.100.0/24"], 4, "our own (monitoring)"),
    (["block", "2001:db8:5afa::7"], 4, "our own (monitoring)"),
    (["unblock", "nonsense"], 2, "neither an address nor a range"),
]


def test_what_is_wrong_is_said_and_nothing_is_changed(world: World) -> None:
    before = world.firewall(), world.protected()
    for words, code, why in WRONG:
        wrong = typed(world, *words, check=code)
        assert why in wrong.err, wrong
        assert "Traceback" not in wrong.err
    assert (world.firewall(), world.protected()) == before


CONFIGURED = [
    (
        {'acl = "safawinet-prod"': 'acl = "absent"'},
        ["rate-limit", "500"],
        "no web ACL absent (REGIONAL, region us-east-1). Known: safawinet-prod",
    ),
    (
        {'acl = "safawinet-prod"': 'acl = "safawinet-prod"\nscope = "CLOUDFRONT"'},
        ["rate-limit", "500"],
        "CLOUDFRONT, region us-east-1). Known: none",
    ),
    ({'blocked-v6 = "safawinet-blocked-v6"': ""}, ["block", "2001:db8::1"], "No address set is configured for IPv6"),
    ({'window = "5m"': 'window = "3m"'}, ["status"], "expected a window of 1m, 2m, 5m or 10m"),
    ({'office = ["192.0.2.250/32"]': 'office = ["here"]'}, ["status"], "protection"),
    ({"[protection]": "[protections]"}, ["status"], "protections"),
]


def test_a_wrong_configuration_is_named(world: World) -> None:
    for replace, words, why in CONFIGURED:
        world.configure(replace)
        wrong = world.opsctl("protection", *words)
        assert wrong.code in (1, 2)
        assert why in wrong.err, wrong
        assert "Traceback" not in wrong.err


def test_a_full_acl_and_a_priority_that_is_taken_meanwhile_are_refused(world: World) -> None:
    plan = str(world.home / "plan")
    world.opsctl("protection", "rate-limit", "500", "-n", "--save", plan, check=3)
    put_rule(world, managed("first", 0))
    stopped = world.opsctl("apply", plan, "-y", check=4)
    assert "Priority 0 of safawinet-prod is now used by the rule first" in stopped.err
    for number in range(20, 26):
        put_rule(world, managed(f"{number}", number, "AWSManagedRulesCommonRuleSet"))
    put_rule(world, managed("last", 30))
    assert "uses 5,000 of 5,000 WCU" in typed(world, "rate-limit", "500", check=4).err


def test_a_protection_of_somebody_else_is_not_taken_back(world: World) -> None:
    run = typed(world, "enable-shield", "load-balancer").json
    shield = world.aws("shield")
    assert typed(world, "enable-shield", LOAD_BALANCER).json["result"] == "unchanged"
    shield.delete_protection(ProtectionId=shield.describe_protection(ResourceArn=LOAD_BALANCER)["Protection"]["Id"])
    shield.create_protection(Name="theirs", ResourceArn=LOAD_BALANCER)
    refused = world.undo(run["run"])
    assert refused.code == 4
    assert "it is protected as theirs" in refused.err
    assert world.protected()[LOAD_BALANCER] == "theirs"


def test_the_procedure_protects_counts_blocks_lists_and_scales(world: World) -> None:
    line = ("playbook", "run", "ddos", "limit=1000", "list=given", "addresses=198.51.100.23, 203.0.113.0/24")
    before = world.firewall(), world.protected()
    world.opsctl(*line, "-n", check=3)
    assert (world.firewall(), world.protected()) == before
    done = world.opsctl("-o", "json", *line, "--assume-answers", "-y", check=0).json
    assert done["result"] == "changed"
    assert rule(world)["Action"] == {"Block": {}}
    assert world.firewall()[FOUR]["Addresses"] == ["198.51.100.23/32", "203.0.113.0/24"]
    assert LOAD_BALANCER in world.protected()
    assert world.service("api")["desiredCount"] == 4
    world.opsctl("runs", "undo", done["run"], "-y", check=0)
    assert (world.firewall(), world.protected()) == before
