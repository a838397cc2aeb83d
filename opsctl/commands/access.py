"""`opsctl access`: who may do what, what they did, and taking it away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from opsctl.cli.app import group
from opsctl.cli.command import mutating, read_only, requires
from opsctl.cli.types import DURATION
from opsctl.contract import Change, Planning
from opsctl.errors import ExternalError, NotFound
from opsctl.render.shapes import Page
from opsctl.settings import Duration

if TYPE_CHECKING:
    from opsctl.adapters.aws.cloudtrail import EventSource, TrailEvent
    from opsctl.adapters.aws.iam import AccessKey, Credentials, IamAccount, IamUser, Rights
    from opsctl.settings import SecretSettings
    from opsctl.systems import Systems

Rows = list[dict[str, Any]]

AT_ONCE = 4
"""How many users are looked at side by side: IAM slows down whoever asks much."""
IAM_REGIONS = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}
"""Where CloudTrail keeps what was asked of IAM, which is one for all regions of a partition: AWS CloudTrail, "Global service events"."""
MOST_LOOKED_AT = 2_000
UNKNOWN = "the configuration doesn't know it: rotate it where it is issued"
NOT_LOOKED_AT = {
    "sessions_of_roles": "their reads go by the sessions' own names; who has read: opsctl access events --source secretsmanager"
}
WEIGHTS = {"no MFA": 8, "two active keys": 1, "never used": 2, "unused": 2, "old key": 4}

access = group("access")


class SourceType(click.ParamType["EventSource"]):
    """An address, a network, or a service of AWS."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EventSource:
        """Raises a usage error for anything else."""
        from opsctl.adapters.aws.cloudtrail import EventSource

        try:
            return value if isinstance(value, EventSource) else EventSource.parse(value)
        except ValueError as cause:
            self.fail(str(cause), param, ctx)


@access.command()
@requires(
    "cloudtrail:LookupEvents iam:GetAccessKeyLastUsed iam:GetAccountAuthorizationDetails iam:GetLoginProfile iam:GetUser "
    "iam:ListAccessKeys iam:ListMFADevices iam:ListUsers",
)
@click.argument("user", required=False)
@click.option("--older-than", type=DURATION, help="Mark keys older than this; by default access.key-age of the configuration.")
@click.option(
    "--since", type=DURATION, default="30d", show_default=True, help="With USER: how far back to look for secrets that were read."
)
@read_only
def review(systems: Systems, user: str | None, older_than: Duration | None, since: timedelta) -> Rows | Page:
    """Review the credentials of all IAM users, the riskiest first.

    With USER: also the user's rights, roles and the secrets that the user read.

    Examples:
        opsctl access review
        opsctl access review deploy --since 90d
    """
    limit = systems.config.access.key_age if older_than is None else older_than
    if not limit:
        raise click.BadParameter("every key is older than that; give 1d or more.", param_hint="--older-than")
    if user is None:
        account = systems.iam.account()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            people = systems.iam.people()
            looked = pool.map(lambda person: _credentials(systems, person, account.of(person), limit), people)
        return [row for rows in sorted(looked, key=_badness) for row in rows]
    person = systems.iam.person(user)
    account = systems.iam.account()
    rights = account.of(person)
    seen = _seen(systems, person.name, _since(systems, since))
    reached = account.assumable_roles(person.name)
    names = {role.role for role in reached}
    held = {person.name: rights} | {f"role/{role.name}": role.rights for role in account.roles if role.name in names}
    return Page(
        [
            ("Credentials", _credentials(systems, person, rights, limit)),
            ("Rights", [{"policy": name} for name in rights.documents]),
            ("Roles that it may have sessions of", reached),
            ("To end the sessions of a role", _ending(systems, account)),
            ("Secrets that it may know", _secrets(systems, held, seen)),
            ("Looked for reads of secrets", seen.told | (NOT_LOOKED_AT if reached else {})),
        ]
    )


def _badness(rows: Rows) -> tuple[int, str]:
    return -max(_weight(row["flags"]) for row in rows), rows[0]["user"]


def _weight(flags: list[str]) -> int:
    """How bad it is; whoever is an administrator makes it worse, and whoever is revoked is no longer of any concern."""
    if "revoked" in flags:
        return 0
    told = sum(weight for flag in flags for word, weight in WEIGHTS.items() if flag.startswith(word))
    return told * (2 if "administrator" in flags else 1) + ("administrator" in flags)


def _credentials(systems: Systems, person: IamUser, rights: Rights, limit: timedelta) -> Rows:
    """A row for each key and for the password, the worst first; one row for a user without any."""
    held, now = systems.iam.credentials(person.name), systems.now()
    always = ["revoked"] if rights.denied else ["administrator"] if _administrator(systems, person, rights) else []
    unused = systems.config.access.unused
    rows: Rows = [
        {
            "user": person.name,
            "credential": key.id,
            "state": "active" if key.active else "inactive",
            "age_days": (now - key.created).days,
            "used": key.used,
            "by": f"{key.service} {key.region}".strip(),
            "flags": (_key_flags(key, held, now, limit, unused) if key.active else []) + always,
        }
        for key in held.keys
    ]
    if held.password:
        row: dict[str, Any] = {"user": person.name, "credential": "password", "state": "active", "age_days": (now - held.password).days}
        flags = ([] if held.mfa else ["no MFA"]) + _use(person.password_used, held.password, now, unused)
        rows.append({**row, "used": person.password_used, "by": "console" if person.password_used else "", "flags": flags + always})
    if not rows:
        rows.append({"user": person.name, "credential": None, "state": None, "age_days": None, "used": None, "by": "", "flags": always})
    return sorted(({**row, "mfa": held.mfa > 0} for row in rows), key=lambda row: -_weight(row["flags"]))


def _administrator(systems: Systems, person: IamUser, rights: Rights) -> bool:
    return person.name in systems.config.access.administrators or rights.administrator


def _key_flags(key: AccessKey, held: Credentials, now: datetime, limit: timedelta, unused: timedelta) -> list[str]:
    flags = ["old key"] if now - key.created > limit else []
    if sum(each.active for each in held.keys) > 1:
        flags.append("two active keys")
    return flags + _use(key.used, key.created, now, unused)


def _use(used: datetime | None, created: datetime, now: datetime, unused: timedelta) -> list[str]:
    if used is None:
        return ["never used"] if now - created > timedelta(days=1) else []
    return [f"unused for {(now - used).days} d"] if now - used > unused else []


def _ending(systems: Systems, account: IamAccount) -> dict[str, str]:
    """What ends the sessions of a role that began before now, whoever began them; IAM's own console does the same."""
    older = {"DateLessThan": {"aws:TokenIssueTime": f"{systems.now():%Y-%m-%dT%H:%M:%SZ}"}}
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": older}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    put = f"aws iam put-role-policy --role-name ROLE --policy-name AWSRevokeOlderSessions --policy-document '{document}'"
    centre = {"SSO": "who signs in by IAM Identity Center is no IAM user: disable them there, and delete their sessions"}
    return {"role": put} | (centre if account.identity_centre else {})


class Seen(msgspec.Struct, frozen=True):
    """The events of one user that were looked through, and how far."""

    reads: list[TrailEvent]
    told: dict[str, Any]


def _seen(systems: Systems, name: str, since: datetime) -> Seen:
    """The secrets that a user read, as CloudTrail tells; of somebody busy only the newest events are looked through."""
    try:
        events = list(islice(systems.cloudtrail.events(_regions(systems), since, systems.now(), user=name), MOST_LOOKED_AT))
    except ExternalError as cause:
        return Seen([], {"state": "could not be queried", "why": cause.what})
    cut = len(events) == MOST_LOOKED_AT
    told = {"events": len(events), "since": events[-1].time if cut else since, "complete": not cut}
    return Seen([event for event in events if event.event == "GetSecretValue" and not event.error], told)


def _secrets(systems: Systems, held: dict[str, Rights], seen: Seen) -> Rows:
    """Every secret that a user has read, or may read `by` its own rights or a role's, and how it is rotated; those that were read first."""
    read = {resource: event.time for event in reversed(seen.reads) for resource in event.resources}
    rows = []
    for name, secret in sorted(systems.config.secrets.items()):
        mine = [resource for resource in read if _names(secret, resource)]
        by = [holder for holder, rights in held.items() if any(rights.allow(action, arn) for action, arn in _reading(systems, secret))]
        if by or mine:
            when = max((read.pop(resource) for resource in mine), default=None)
            rows.append({"secret": name, "read": when, "may_read": bool(by), "by": by, "then": _procedure(name, secret)})
    rows += [{"secret": other, "read": when, "may_read": None, "by": [], "then": UNKNOWN} for other, when in read.items()]
    return sorted(rows, key=lambda row: row["read"] is None)


def _kept_at(secret: SecretSettings) -> list[tuple[str, str | None]]:
    """Where Secrets Manager keeps a secret: id and region."""
    here = [] if secret.kind == "function" else [(secret.id, secret.region)]
    return here + ([(secret.store_in.aws, secret.store_in.region)] if secret.store_in and secret.store_in.aws else [])


def _names(secret: SecretSettings, resource: str) -> bool:
    """Whether a request named this secret: by its id, or by its ARN, to which Secrets Manager adds a dash and six characters."""
    _, arn, name = resource.rpartition(":secret:")
    return any(id in ((name, name[:-7]) if arn else (resource,)) for id, _ in _kept_at(secret))


def _reading(systems: Systems, secret: SecretSettings) -> Iterator[tuple[str, str]]:
    """Each action that reads a secret, and of what."""
    aws, partition = systems.environment.aws, systems.caller.partition
    for id, region in _kept_at(secret):
        yield "secretsmanager:GetSecretValue", f"arn:{partition}:secretsmanager:{region or aws.region}:{aws.account}:secret:{id}-??????"
    if secret.kind == "function":
        function = secret.id.partition("/")[0]
        where = f"{secret.region or aws.region}:{aws.account}"
        yield "lambda:GetFunctionConfiguration", f"arn:{partition}:lambda:{where}:function:{function}"


def _procedure(name: str, secret: SecretSettings) -> str:
    if secret.kind in ("database", "redis"):
        return secret.procedure or "rotate it together with what it opens"
    source = "generate" if secret.generate != "none" or secret.kind == "managed" else "-"
    line = f"opsctl secrets rotate {name} --value-from {source} --compromised"
    return line if source == "generate" or not secret.procedure else f"{line} ({secret.procedure})"


@access.command()
@requires("cloudtrail:LookupEvents iam:GetUser")
@click.option("--user", help="Only events of this IAM user or role session (its name).")
@click.option(
    "--source", type=SourceType(), help="Only events from this IP address or network, or of this AWS service (iam, signin, rds ...)."
)
@click.option("--since", type=DURATION, default="24h", show_default=True, help="How far back, at most 90d.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Only events before this time (UTC).")
@click.option("--unusual", is_flag=True, help="Only unusual events.")
@read_only
def events(
    systems: Systems, user: str | None, source: EventSource | None, since: timedelta, until: datetime | None, unusual: bool
) -> Iterator[dict[str, Any]]:
    """List CloudTrail events, newest first, one line each (`-o json`: one JSON object a line).

    The line of an unusual event ends with the reason.

    Examples:
        opsctl access events --user deploy --since 24h
        opsctl access events --unusual --since 7d
    """
    began, end = _since(systems, since), until.replace(tzinfo=UTC) if until else systems.now()
    if end <= began:
        raise click.BadParameter("it ends before it begins; give a longer --since too.", param_hint="--until")
    found = systems.cloudtrail.events(_regions(systems), began, end, user=user, source=source)
    first = next(found, None)
    if first is None:
        if user is not None:
            _known(systems, user)
        return iter(())
    return (_shown(event) for event in chain([first], found) if event.unusual or not unusual)


def _shown(event: TrailEvent) -> dict[str, Any]:
    shown = msgspec.structs.asdict(event)
    del shown["id"]
    return shown


def _known(systems: Systems, user: str) -> None:
    """Raise NotFound for a user whom neither IAM nor CloudTrail knows."""
    try:
        systems.iam.person(user)
    except NotFound as cause:
        what = f"There is no IAM user {user!r}, and CloudTrail has nothing of that name in this time."
        raise NotFound(
            what, "Who there is: opsctl access review. A role's session has its own name; look further back: --since 90d"
        ) from cause


def _since(systems: Systems, since: timedelta) -> datetime:
    """The moment so long ago; raises a usage error for none, and beyond what CloudTrail keeps."""
    from opsctl.adapters.aws.cloudtrail import KEPT

    if not timedelta(0) < since <= KEPT:
        raise click.BadParameter(f"CloudTrail answers for 1s to {KEPT.days}d; for longer ask the trail's own bucket.", param_hint="--since")
    return systems.now() - since


def _regions(systems: Systems) -> list[str]:
    """The environment's region, IAM's, and those where secrets and functions are: each has events of its own."""
    config = systems.config
    others = {secret.region for secret in config.secrets.values()} | {function.region for function in config.functions.values()}
    iam = IAM_REGIONS.get(systems.caller.partition)
    return sorted({systems.environment.aws.region, *filter(None, [iam, *others])})


@access.command()
@requires("iam:GetUser iam:ListAccessKeys", changes="delete-password set-denial set-keys")
@click.argument("user")
@click.option("--compromised", is_flag=True, help="Others have the credentials: delete the password too. This can't be undone.")
@mutating
def revoke(planning: Planning, user: str, compromised: bool) -> Iterator[Change]:
    """Revoke an IAM user's access: deny everything first, then deactivate every access key.

    Examples:
        opsctl access revoke deploy -n
        opsctl access revoke deploy --compromised --incident INC-42
    """
    from opsctl.changes.access import DeletePassword, SetDenial, SetKeys

    name = planning.systems.iam.person(user).name
    yield SetDenial(user=name, compromised=compromised)
    keys = tuple(key.id for key in planning.systems.iam.keys(name) if key.active)
    yield SetKeys(user=name, keys=keys, compromised=compromised)
    if compromised:
        yield DeletePassword(user=name)
