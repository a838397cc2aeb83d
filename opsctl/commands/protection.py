"""`opsctl protection`: Shield and the firewall."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

import click

from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.concurrency import first_error_if_all_failed, gather
from opsctl.contract import Change, Planning
from opsctl.errors import ConfigurationError, OpsctlError, Refused, WrongPlace
from opsctl.render.shapes import Page

if TYPE_CHECKING:
    from opsctl.adapters.aws.waf import AddressSet, WebAcl
    from opsctl.settings import ProtectionSettings
    from opsctl.systems import Systems

Network = IPv4Network | IPv6Network
Rows = list[dict[str, Any]]

LONGEST = 120.0
"""Seconds after which a source is left alone: some answer page by page."""

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
NOISY = 10
"""How many addresses the page names."""

FEW = 8
"""How many entries a refusal names; its next line has them all."""

LEAST, MOST = 10, 2_000_000_000
"""What WAF takes as a limit."""

SECONDS = {"1m": 60, "2m": 120, "5m": 300, "10m": 600}

WIDEST = {4: 16, 6: 32}
"""The shortest prefix that may be blocked: wider ones are whole providers."""

INSIDE = [
    ip_network(cidr)
    for cidr in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
        *("::/127", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
]
"""Addresses from which no request comes over the internet: private, local, multicast and reserved ones."""

PROTECTABLE = re.compile(
    r"arn:[\w-]+:(elasticloadbalancing:[\w-]+:\d{12}:loadbalancer/(app/.+|[^/]+)|cloudfront::\d{12}:distribution/\w+"
    r"|globalaccelerator::\d{12}:accelerator/.+|route53:::hostedzone/\w+|ec2:[\w-]+:\d{12}:eip-allocation/.+)"
)

protection = group("protection")


@protection.command()
@requires(
    "cloudfront:ListDistributionsByWebACLId cloudwatch:GetMetricStatistics shield:DescribeSubscription shield:GetSubscriptionState "
    "shield:ListAttacks shield:ListProtections wafv2:GetIPSet wafv2:GetRateBasedStatementManagedKeys wafv2:GetSampledRequests "
    "wafv2:GetWebACL wafv2:ListIPSets wafv2:ListResourcesForWebACL wafv2:ListWebACLs",
)
@read_only
def status(systems: Systems) -> Page:
    """Show what Shield protects, and what each firewall rule does and which requests it matched.

    Examples:
        opsctl protection status
    """
    settings = systems.environment.protection
    with ThreadPoolExecutor(1) as pool:
        acl = pool.submit(systems.waf.acl, settings.acl, settings.place)
        sources: dict[str, Callable[[], Rows]] = {
            "Shield Advanced": lambda: _subscription(systems),
            "Protected by Shield": lambda: _protected(systems, settings),
            "Attacks in 7 days": lambda: _attacks(systems),
            "Web ACL": lambda: _acl(systems, settings, acl.result()),
            "Requests in 1 h": lambda: _figures(systems, settings, acl.result()),
            "Rules": lambda: _rules(acl.result()),
            "Addresses over the rate limit": lambda: _over(systems, settings, acl.result()),
            "Most sampled addresses, last 5 min": lambda: _noisy(systems, settings, acl.result()),
            "Block list": lambda: _listed(systems, settings),
        }
        found = first_error_if_all_failed(gather(sources, LONGEST))
    told = {name: _said("could not be queried", rows.what) if isinstance(rows, OpsctlError) else rows for name, rows in found.items()}
    return Page(list(told.items()))


def _said(state: str, why: str) -> Rows:
    return [{"state": state, "why": why}]


def _subscription(systems: Systems) -> Rows:
    found = systems.shield.subscription()
    if found is None:
        return [{"subscription": "none", "until": None, "renews": None}]
    return [{"subscription": "active", "until": found.until, "renews": found.renews}]


def _protected(systems: Systems, settings: ProtectionSettings) -> Rows:
    """Everything protected, and what configuration names and isn't."""
    from opsctl.changes.protection import short

    if not systems.shield.subscribed():
        return _said("nothing", "only a subscription protects")
    names = {arn: name for name, arn in settings.resources.items()}
    found = systems.shield.protections()
    rows = [{"resource": names.get(one.resource, short(one.resource)), "protection": one.name, "arn": one.resource} for one in found]
    there = {one.resource for one in found}
    return rows + [{"resource": name, "protection": "NOT PROTECTED", "arn": arn} for arn, name in names.items() if arn not in there]


def _attacks(systems: Systems) -> Rows:
    from opsctl.changes.protection import short

    if not systems.shield.subscribed():
        return _said("not known", "only a subscription tells")
    attacks = systems.shield.attacks(systems.now() - WEEK, systems.now())
    return [
        {"resource": short(one.resource), "began": one.begin, "ended": one.end or "goes on", "vectors": list(one.vectors)}
        for one in attacks
    ]


def _acl(systems: Systems, settings: ProtectionSettings, acl: WebAcl) -> Rows:
    """The ACL, and what stands behind it."""
    from opsctl.changes.protection import short

    behind = [short(arn) for arn in systems.waf.guards(acl, settings.place)]
    return [{"acl": acl.name, "otherwise": acl.default, "guards": behind or ["NOTHING"], "capacity": f"{acl.capacity:,} of 5,000"}]


def _figures(systems: Systems, settings: ProtectionSettings, acl: WebAcl) -> Rows:
    """What became of the last hour's requests."""
    region = settings.place.region
    where = {"WebACL": acl.metric, "Rule": "ALL"}
    # CloudFront's figures have no region among their dimensions.
    if settings.scope == "REGIONAL":
        where["Region"] = region or systems.environment.aws.region

    def count(word: str) -> int:
        since, metric = systems.now() - HOUR, f"{word.capitalize()}Requests"
        points = systems.cloudwatch.metric("AWS/WAFV2", metric, where, since, period=300, statistic="Sum", region=region)
        return round(sum(point.value for point in points))

    words = ("allowed", "blocked", "counted")
    with ThreadPoolExecutor(len(words)) as pool:
        return [dict(zip(words, pool.map(count, words), strict=True))]


def _rules(acl: WebAcl) -> Rows:
    """Each rule, the first one first."""
    from opsctl.changes.rules import matched, rate

    rows = []
    for rule in acl.rules:
        given = rate(rule)
        action = next(iter(rule.get("Action") or rule.get("OverrideAction") or {""}))
        rows.append(
            {
                "priority": rule["Priority"],
                "rule": rule["Name"],
                "action": "the group's own" if action == "None" else action.lower(),
                "whom": matched(rule["Statement"]),
                "limit": given.get("Limit"),
                "seconds": given.get("EvaluationWindowSec"),
                "by": given.get("ForwardedIPConfig", {}).get("HeaderName") or given.get("AggregateKeyType"),
            }
        )
    return rows


def _over(systems: Systems, settings: ProtectionSettings, acl: WebAcl) -> Rows:
    from opsctl.changes.rules import rate

    if not rate(acl.rule(settings.rate_rule)):
        return _said("no limit", f"the rule {settings.rate_rule} isn't there: opsctl protection rate-limit LIMIT")
    return [{"address": one, "rule": settings.rate_rule} for one in systems.waf.rate_limited(acl, settings.place, settings.rate_rule)]


def _noisy(systems: Systems, settings: ProtectionSettings, acl: WebAcl) -> Rows:
    """The addresses with most of the sampled requests, what becomes of them, and how many there were in all, estimated from the sample."""
    samples = systems.waf.samples(acl, settings.place, systems.now() - timedelta(minutes=5), systems.now(), settings.forwarded_header)
    total = sum(one.weight for one in samples.requests)
    seen: dict[str, Rows] = {}
    for one in samples.requests:
        seen.setdefault(one.address, []).append({"weight": one.weight, "action": one.action.lower(), "from": one.country, "path": one.path})
    weights = {address: sum(each["weight"] for each in all_) for address, all_ in seen.items()}
    rows = []
    for address in sorted(weights, key=lambda one: -weights[one])[:NOISY]:
        actions, paths = ({each[key] for each in seen[address]} for key in ("action", "path"))
        passed = sum(each["weight"] for each in seen[address] if each["action"] != "block")
        about, allowed = (round(samples.population * weight / total) for weight in (weights[address], passed))
        where = {"from": seen[address][0]["from"], "path": sorted(paths)[0]}
        rows.append({"address": address, "requests": about, "allowed": allowed, "action": sorted(actions), **where})
    return rows


def _listed(systems: Systems, settings: ProtectionSettings) -> Rows:
    names = [name for name in (settings.blocked_v4, settings.blocked_v6) if name]
    return [
        {"entry": entry, "set": name} for name in names for entry in sorted(map(str, systems.waf.addresses(name, settings.place).networks))
    ]


@protection.command("enable-shield")
@requires(changes="protect unprotect")
@click.argument("resource")
@mutating
def enable_shield(planning: Planning, resource: str) -> Iterator[Change]:
    """Protect a resource (an ARN, or a name of [protection.resources]) with Shield Advanced.

    The account must already be subscribed; opsctl never subscribes it.

    Examples:
        opsctl protection enable-shield load-balancer -n
    """
    from opsctl.changes.protection import Protect, short

    systems = planning.systems
    settings = systems.environment.protection
    arn = resource if resource.startswith("arn:") else settings.resources.get(resource, "")
    if not arn:
        known = ", ".join(sorted(settings.resources)) or "none"
        raise ConfigurationError(
            f"{systems.environment.name} knows no resource {resource!r}; it knows: {known}.",
            "Give its ARN, or name it in [protection.resources].",
        )
    if not PROTECTABLE.fullmatch(arn):
        raise ConfigurationError(
            f"Shield Advanced can't protect {arn}: it protects application and classic load balancers, CloudFront distributions,"
            " Global Accelerators, Route 53 hosted zones and Elastic IPs.",
            "Behind a network load balancer protect its Elastic IPs.",
        )
    account = arn.split(":")[4]
    if account and account != systems.environment.aws.account:
        raise WrongPlace(
            f"{arn} is in account {account}, and the environment is account {systems.environment.aws.account}.",
            "Name another environment with --env.",
        )
    name = re.sub(r"[^\w.-]", "-", short(arn))[:80]
    yield Protect(resource=arn, name=f"opsctl-{name}-{planning.now:%Y%m%d-%H%M%S}")


@protection.command("rate-limit")
@requires("wafv2:GetWebACL wafv2:ListWebACLs", changes="limit-rate")
@click.argument("limit", type=click.IntRange(LEAST, MOST))
@click.option("--block", is_flag=True, help="Block clients above the limit; refused until the rule has counted.")
@click.option(
    "--window", type=click.Choice(list(SECONDS)), help="The time window in which requests are counted.  [default: the configuration's]"
)
@mutating
def rate_limit(planning: Planning, limit: int, block: bool, window: str | None) -> Iterator[Change]:
    """Count the clients that send more than LIMIT requests within a time window; with --block, block them.

    Examples:
        opsctl protection rate-limit 2000 -n
        opsctl protection rate-limit 2000 --block
    """
    from opsctl.changes.firewall import LimitRate
    from opsctl.changes.rules import limiting, rate

    settings = planning.systems.environment.protection
    acl = planning.systems.waf.acl(settings.acl, settings.place)
    before = acl.rule(settings.rate_rule)
    if before and rate(before).get("AggregateKeyType") not in ("IP", "FORWARDED_IP"):
        raise Refused(
            f"The rule {settings.rate_rule} of {settings.acl} isn't one that counts by address: somebody made it for something else.",
            "Name another in protection.rate-rule of the configuration.",
        )
    seconds = SECONDS[window] if window else int(settings.window.total_seconds())
    yield LimitRate(
        acl=settings.acl,
        place=settings.place,
        rule=settings.rate_rule,
        before=before,
        after=limiting(acl, settings.rate_rule, limit, seconds, block=block, header=settings.forwarded_header),
        follows=planning.follows is not None,
    )


@protection.command()
@requires("wafv2:GetIPSet wafv2:GetWebACL wafv2:ListIPSets wafv2:ListWebACLs", changes="block-listed list-addresses")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@mutating
def block(planning: Planning, addresses: tuple[str, ...]) -> Iterator[Change]:
    """Add addresses or ranges (CIDR) to the firewall's block list, and check that a rule blocks them.

    Examples:
        opsctl protection block 203.0.113.7 -n
        opsctl protection block 203.0.113.0/24 --incident INC-42
    """
    from opsctl.changes.addresses import ListAddresses, uncovered
    from opsctl.changes.firewall import BlockListed
    from opsctl.changes.rules import refusing

    systems = planning.systems
    settings = systems.environment.protection
    wanted = parsed(addresses)
    for network in wanted:
        _blockable(network, settings)
    acl = systems.waf.acl(settings.acl, settings.place)
    sets = [(systems.waf.addresses(name, settings.place), those) for name, those in _by_set(settings, wanted)]
    arns = tuple(each.arn for each, _ in sets)
    # The rule first, so that taking it all back can find out whether anybody else is left on the lists.
    yield BlockListed(
        acl=settings.acl,
        place=settings.place,
        rule=settings.block_rule,
        before=acl.rule(settings.block_rule),
        after=refusing(acl, settings.block_rule, arns, settings.forwarded_header),
        sets=arns,
    )
    for now, those in sets:
        if those:
            missing = uncovered(now, those)
            kept = tuple(one for one in those if one not in missing)
            yield ListAddresses(name=now.name, place=settings.place, addresses=those, kept=kept, listed=True)


@protection.command()
@requires("wafv2:GetIPSet wafv2:ListIPSets", changes="list-addresses")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@mutating
def unblock(planning: Planning, addresses: tuple[str, ...]) -> Iterator[Change]:
    """Remove addresses or ranges (CIDR) from the firewall's block list.

    Examples:
        opsctl protection unblock 203.0.113.7
    """
    from opsctl.changes.addresses import ListAddresses

    settings = planning.systems.environment.protection
    wanted = [
        (planning.systems.waf.addresses(name, settings.place), those) for name, those in _by_set(settings, parsed(addresses)) if those
    ]
    _none_stays(wanted)
    for now, those in wanted:
        absent = tuple(one for one in those if ip_network(one) not in now.networks)
        yield ListAddresses(name=now.name, place=settings.place, addresses=those, kept=absent, listed=False)


def _none_stays(wanted: Sequence[tuple[AddressSet, tuple[str, ...]]]) -> None:
    """Raise Refused where another entry goes on to block some of what is typed: a wider one, or narrower ones."""
    stays: dict[str, list[str]] = {}
    line: list[str] = []
    for now, those in wanted:
        gone: set[Network] = set()
        for one in map(ip_network, those):
            met = [each for each in now.networks if _overlap(one, each)]
            if others := sorted({*map(str, met)}.difference(those)):
                stays[str(one)] = others
            # Whatever overlaps with any of them is within the widest.
            widest = min([one, *met], key=lambda each: each.prefixlen)
            gone |= {each for each in now.networks if _overlap(widest, each)}
        line += sorted(map(str, gone))
    if stays:
        told = "; ".join(f"{one} by {', '.join(others[:FEW])}{' and more' * (len(others) > FEW)}" for one, others in stays.items())
        raise Refused(
            f"It would stay blocked, or a part of it, by what else is on the list ({told}).",
            f"opsctl protection unblock {' '.join(line)}",
        )


def parsed(addresses: Sequence[str]) -> list[Network]:
    """Networks of what was typed, several in one argument parted by commas or spaces; raises a usage error for what is none."""
    found: list[Network] = []
    for word in re.split(r"[\s,]+", " ".join(addresses).strip()):
        try:
            network = ip_network(word)
        except ValueError:
            raise click.BadParameter(_wrong(word), param_hint="ADDRESS") from None
        # A zone is an interface of one machine, which Python takes and WAF doesn't.
        if (zoneless := re.sub("%[^/]*", "", word)) != word:
            raise click.BadParameter(f"{word!r} has a zone: {zoneless} is the address.", param_hint="ADDRESS")
        if network not in found:
            found.append(network)
    return found


def _wrong(word: str) -> str:
    try:
        meant = ip_network(word, strict=False)
    except ValueError:
        return f"{word!r} is neither an address nor a range such as 203.0.113.0/24 or 2001:db8::/48."
    return f"{word!r} has bits beyond its prefix: {meant} is the range, and {word.partition('/')[0]} the address."


def _blockable(network: Network, settings: ProtectionSettings) -> None:
    """Raise Refused for what may not be blocked: ranges of a whole provider, inner addresses, and our own."""
    if network.prefixlen < WIDEST[network.version]:
        raise Refused(
            f"{network} is wider than /{WIDEST[network.version]}: it would block many others too.",
            "Name narrower ranges, or limit the rate: opsctl protection rate-limit LIMIT",
        )
    if inner := next((one for one in INSIDE if _overlap(network, one)), None):
        raise Refused(f"{network} is no address on the internet (it is in {inner}).", "Look who it was once more.")
    for name, cidrs in settings.exempt.items():
        if own := next((cidr for cidr in cidrs if _overlap(network, ip_network(cidr))), None):
            raise Refused(
                f"{network} and {own} overlap, which is our own ({name}) and never blocked.",
                "Name narrower ranges; who is exempt is in [protection.exempt].",
            )


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _by_set(settings: ProtectionSettings, wanted: Sequence[Network]) -> list[tuple[str, tuple[str, ...]]]:
    """Each configured address set, and what of this is for it; raises ConfigurationError where there is none for a kind."""
    found = []
    for version, name in ((4, settings.blocked_v4), (6, settings.blocked_v6)):
        those = tuple(str(network) for network in wanted if network.version == version)
        if name:
            found.append((name, those))
        elif those:
            raise ConfigurationError(f"No address set is configured for IPv{version}.", f"Name one in protection.blocked-v{version}.")
    return found
