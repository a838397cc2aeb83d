"""`opsctl access`: who may do what, what they did, and taking it away."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from customers import refusal, steps, told
from world import World

from opsctl.adapters.aws.iam import Rights
from opsctl.adapters.aws.session import Caller
from opsctl.commands import access
from opsctl.settings import Reference, SecretSettings

USER = "former-contractor"
ADMINISTRATOR = "admin-break-glass"


def events(world: World, *options: str) -> list[dict[str, Any]]:
    """The events that are listed, a JSON object a line."""
    out = world.opsctl("-o", "json", "access", "events", *options, check=0).out
    return [json.loads(line) for line in out.splitlines()]


def allowing(action: str, **more: Any) -> str:
    """A policy document that allows one action."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, **more}]})


def keys(world: World, user: str = USER) -> list[str]:
    """The states of a user's keys."""
    return [key["Status"] for key in world.aws("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]]


def test_review_shows_every_credential_the_worst_first(world: World) -> None:
    rows = told(world, "access", "review")
    assert list(dict.fromkeys(row["user"] for row in rows))[:2] == [USER, "reporting"]
    assert len(rows) == 9
    flags = {row["credential"]: row["flags"] for row in rows if row["user"] != "oncall"}
    assert flags["AKIASANDBOXFORMER001"] == ["old key", "two active keys"]
    assert flags["AKIASANDBOXREPORT001"] == ["old key", "never used"]
    assert flags["AKIASANDBOXMAILER001"] == []
    assert next(row for row in rows if row["user"] == USER)["flags"] == ["no MFA"]
    assert next(row for row in rows if row["user"] == ADMINISTRATOR)["flags"] == ["unused for 200 d", "administrator"]
    older = told(world, "access", "review", "--older-than", "450d")
    assert [row["credential"] for row in older if "old key" in row["flags"]] == ["AKIASANDBOXFORMER001"]


def test_review_of_one_user_says_what_it_may_know_and_how_that_is_rotated(world: World) -> None:
    page = told(world, "access", "review", USER)
    assert {role["role"]: role["by"] for role in page["Roles that it may have sessions of"]} == {
        "database-rescue": "prod-debug",
        "deployer": USER,
        "prod-debug": USER,
    }
    assert "aws:TokenIssueTime" in page["To end the sessions of a role"]["role"]
    secrets = {row["secret"]: row for row in page["Secrets that it may know"]}
    assert {name for name, row in secrets.items() if row["read"]} == {"jwt", "database", "ghcr"}
    assert secrets["jwt"]["then"] == "opsctl secrets rotate jwt --value-from generate --compromised"
    assert secrets["database"]["then"].startswith("Change the role's password")
    assert "GitHub issues it" in secrets["ghcr"]["then"]
    assert secrets["edge-shared-secret"]["may_read"]
    page = told(world, "access", "review", "deploy")
    assert [row["secret"] for row in page["Secrets that it may know"]] == ["mail-key"]


def test_secrets_that_only_a_role_may_read_are_named_with_the_role(world: World) -> None:
    iam, arn = world.aws("iam"), "arn:aws:iam::123456789012"
    iam.create_user(UserName="ci")
    for role, trusted, may in [
        ("on-the-way", f"{arn}:user/ci", ("sts:AssumeRole", "*")),
        ("reader-of-secrets", f"{arn}:role/on-the-way", ("secretsmanager:GetSecretValue", "*")),
    ]:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=allowing("sts:AssumeRole", Principal={"AWS": trusted}))
        iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=allowing(may[0], Resource=may[1]))
    page = told(world, "access", "review", "ci")
    rows = {row["secret"]: row for row in page["Secrets that it may know"]}
    assert {"jwt", "redis", "database", "ghcr"} <= set(rows)
    assert all(row["may_read"] and row["by"] == ["role/reader-of-secrets"] for row in rows.values())
    assert "secretsmanager" in page["Looked for reads of secrets"]["sessions_of_roles"]
    iam.put_user_policy(UserName="ci", PolicyName="own", PolicyDocument=allowing("secretsmanager:GetSecretValue", Resource="*"))
    rows = {row["secret"]: row for row in told(world, "access", "review", "ci")["Secrets that it may know"]}
    assert rows["jwt"]["by"] == ["ci", "role/reader-of-secrets"]
    assert "sessions_of_roles" not in told(world, "access", "review", "reporting")["Looked for reads of secrets"]


def test_a_secret_that_the_configuration_does_not_know_is_named(world: World) -> None:
    world.aws("secretsmanager").create_secret(Name="nobody/knows", SecretString="x")
    world.aws("secretsmanager").get_secret_value(SecretId="nobody/knows")
    page = told(world, "access", "review", "oncall", "--since", "1h")
    (row,) = [row for row in page["Secrets that it may know"] if row["secret"] == "nobody/knows"]
    assert "doesn't know it" in row["then"]


def test_a_trail_that_cannot_be_asked_hides_nothing_else(world: World) -> None:
    world.fault("aws", "cloudtrail.LookupEvents", "refuse", times=0)
    page = told(world, "access", "review", USER)
    assert page["Looked for reads of secrets"]["state"] == "could not be queried"
    assert {"jwt", "redis", "database"} <= {row["secret"] for row in page["Secrets that it may know"]}
    assert "cloudtrail:LookupEvents" in refusal(world.opsctl("access", "events"), 1)


def test_events_by_user_source_and_what_is_unusual(world: World) -> None:
    mine = events(world, "--user", USER)
    assert len(mine) == 13
    assert {event["region"] for event in mine} == {"us-east-1", "us-west-2"}
    assert {event["user"] for event in events(world, "--source", "203.0.113.0/24", "--since", "14d")} == {USER}
    assert {event["event"] for event in events(world, "--source", "ecs")} == {"UpdateService", "RegisterTaskDefinition"}
    assert {event["unusual"] for event in events(world, "--unusual")} == {
        "changes rights",
        "denied",
        "failed sign-in",
        "opens access to others",
        "signed in without MFA",
    }
    assert len(events(world, "--since", "14d")) > len(events(world)) > len(events(world, "--since", "5h")) > 0


def test_what_opsctl_does_is_told_too(world: World) -> None:
    told(world, "access", "revoke", USER, "-y")
    assert [event["event"] for event in events(world, "--user", "oncall", "--since", "1m")][-3:] == [
        "UpdateAccessKey",
        "UpdateAccessKey",
        "PutUserPolicy",
    ]


def test_throttled_nothing_is_lost(world: World) -> None:
    world.fault("aws", "cloudtrail.LookupEvents", "throttle", times=1)
    assert len(events(world, "--user", USER)) == 13


@pytest.mark.parametrize("line", [["review"], ["events", "--user"], ["revoke"]])
@pytest.mark.parametrize("name", ["nobody", "a b", "né", "x" * 65, "*"])
def test_a_user_who_is_not_there_is_named(world: World, line: list[str], name: str) -> None:
    said = refusal(world.opsctl("access", *line, name), 1)
    assert f"no IAM user {name!r}" in said


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "0s"],
        ["--since", "91d"],
        ["--since", "-1h"],
        ["--since", "soon"],
        ["--until", "2026-02-30"],
        ["--until", "2020-01-01"],
        ["--source", "!!"],
        ["--source", "999.1.1.1"],
    ],
)
def test_what_cannot_be_looked_up_is_a_usage_error(world: World, options: list[str]) -> None:
    done = world.opsctl("access", "events", *options)
    assert done.code == 2
    assert "Error: " in done.err
    assert "Traceback" not in done.err


def test_a_key_of_no_age_is_a_usage_error(world: World) -> None:
    assert "1d or more" in world.opsctl("access", "review", "--older-than", "0s", check=2).err


def test_revoked_and_given_back(world: World) -> None:
    dry = world.opsctl("access", "revoke", USER, "-n", check=3)
    assert "database-rescue, deployer, prod-debug" in dry.out
    assert "IAM Identity Center" in dry.out
    changed = told(world, "access", "revoke", USER, "-y")
    assert keys(world) == ["Inactive", "Inactive"]
    assert [row["flags"] for row in told(world, "access", "review", USER)["Credentials"] if row["state"] == "active"] == [
        ["no MFA", "revoked"]
    ]
    assert told(world, "access", "revoke", USER, "-y")["result"] == "unchanged"
    world.undo(changed["run"])
    assert keys(world) == ["Active", "Active"]
    assert world.aws("iam").list_user_policies(UserName=USER)["PolicyNames"] == []


def test_a_key_that_was_inactive_before_stays_so(world: World) -> None:
    world.aws("iam").update_access_key(UserName=USER, AccessKeyId="AKIASANDBOXFORMER001", Status="Inactive")
    run = told(world, "access", "revoke", USER, "-y")["run"]
    world.undo(run)
    assert keys(world) == ["Inactive", "Active"]


def test_compromised_it_is_never_given_back(world: World) -> None:
    first = told(world, "access", "revoke", USER, "-y")
    second = told(world, "access", "revoke", USER, "--compromised", "-y")
    assert [step["state"] for step in second["changes"]] == ["applied", "done", "applied"]
    with pytest.raises(world.aws("iam").exceptions.NoSuchEntityException):
        world.aws("iam").get_login_profile(UserName=USER)
    for run in (first["run"], second["run"]):
        assert world.undo(run).code == 4
    assert keys(world) == ["Inactive", "Inactive"]
    assert told(world, "access", "revoke", USER, "-y")["result"] == "unchanged"


def test_a_key_that_turns_up_since_stops_the_run(world: World) -> None:
    plan = str(world.home / "plan.json")
    iam = world.aws("iam")
    iam.delete_access_key(UserName=USER, AccessKeyId="AKIASANDBOXFORMER002")
    told(world, "access", "revoke", USER, "-n", "--save", plan, code=3)
    made = iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    stopped = world.opsctl("apply", plan, "-y")
    assert f"{made} of {USER} became active since the plan" in refusal(stopped, 4)
    assert told(world, "access", "revoke", USER, "-y")["result"] == "changed"
    assert keys(world) == ["Inactive", "Inactive"]


def test_a_deleted_key_is_not_given_back(world: World) -> None:
    run = told(world, "access", "revoke", USER, "-y")["run"]
    world.aws("iam").delete_access_key(UserName=USER, AccessKeyId="AKIASANDBOXFORMER001")
    assert "was deleted since" in world.undo(run).err
    assert keys(world) == ["Inactive"]


def test_never_the_credential_of_this_run(world: World) -> None:
    for options in ([], ["--compromised"], ["-n"]):
        assert "is the user that runs opsctl now" in refusal(world.opsctl("access", "revoke", "oncall", "-y", *options), 4)
    assert keys(world, "oncall") == ["Active"]


def test_what_was_revoked_in_part_is_given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from opsctl.adapters.aws.iam import Iam
    from opsctl.errors import Denied

    whole = Iam.set_key

    def set_key(self: Iam, user: str, key: Any, *, active: bool) -> None:
        if not active and "Inactive" in keys(world):
            raise Denied("iam:UpdateAccessKey is denied.")
        whole(self, user, key, active=active)

    monkeypatch.setattr(Iam, "set_key", set_key)
    failed = world.opsctl("-o", "json", "access", "revoke", USER, "-y", check=1).json
    (step,) = [change for change in failed["changes"] if change["state"] == "failed"]
    assert (failed["result"], step["evidence"]) == ("partial", {"parts": ["1 keys"]})
    assert sorted(keys(world)) == ["Active", "Inactive"]
    assert told(world, "runs", "undo", failed["run"], "-y")["result"] == "changed"
    assert keys(world) == ["Active", "Active"]


def test_never_the_last_administrator(world: World) -> None:
    assert "last administrator" in refusal(world.opsctl("access", "revoke", ADMINISTRATOR, "-y"), 4)
    world.aws("iam").add_user_to_group(GroupName="administrators", UserName="ses-smtp")
    assert "last administrator" in refusal(world.opsctl("access", "revoke", ADMINISTRATOR, "-y"), 4)
    for name in ("deploy", "role/deployer"):
        world.configure({"administrators = []": f'administrators = ["{name}"]'})
        assert len(steps(world.opsctl("-o", "json", "access", "revoke", ADMINISTRATOR, "-n", check=3))) == 2
    world.configure({"administrators = []": 'administrators = ["nobody", "role/nothing"]'})
    world.opsctl("access", "revoke", ADMINISTRATOR, "-y", check=4)


def test_where_nobody_can_be_listed_only_a_named_administrator_lets_it_go_on(world: World) -> None:
    world.fault("aws", "iam.GetAccountAuthorizationDetails", "refuse", times=0)
    said = refusal(world.opsctl("access", "revoke", USER, "-y"), 1)
    assert "whether former-contractor is the last administrator" in said
    for name in ("nobody", "ses-smtp", USER):
        world.configure({"administrators = []": f'administrators = ["{name}"]'})
        world.opsctl("access", "revoke", USER, "-y", check=1)
    assert keys(world) == ["Active", "Active"]
    world.configure({"administrators = []": f'administrators = ["{ADMINISTRATOR}"]'})
    assert "couldn't be listed" in world.opsctl("access", "revoke", USER, "-n", check=3).out
    assert told(world, "access", "revoke", USER, "-y")["result"] == "changed"
    assert keys(world) == ["Inactive", "Inactive"]


def test_an_administrator_who_is_revoked_does_not_count_where_nobody_can_be_listed(world: World) -> None:
    world.configure({"administrators = []": 'administrators = ["deploy", "oncall"]'})
    told(world, "access", "revoke", "deploy", "-y")
    world.configure({"administrators = []": 'administrators = ["deploy"]'})
    world.fault("aws", "iam.GetAccountAuthorizationDetails", "refuse", times=0)
    world.opsctl("access", "revoke", USER, "-y", check=1)
    assert keys(world) == ["Active", "Active"]


def test_no_room_for_the_policy_says_what_to_do_instead(world: World) -> None:
    from opsctl.adapters.aws.iam import Iam
    from opsctl.errors import ExternalError

    class Full:
        writing = True
        caller = Caller("123456789012", "arn:aws-cn:iam::123456789012:user/oncall", "oncall")

        def call(self, *_: Any, **__: Any) -> Any:
            raise ExternalError("iam:PutUserPolicy was refused (LimitExceeded): Maximum policy size of 2048 bytes exceeded.")

    with pytest.raises(ExternalError) as caught:
        Iam(Full()).put_policy(USER, "opsctl-deny-all", {})  # type: ignore[arg-type]
    assert "arn:aws-cn:iam::aws:policy/AWSDenyAll" in caught.value.next


def second_administrator(
    world: World, *, policy: dict[str, Any] | None = None, boundary: dict[str, Any] | None = None, mfa: bool = False
) -> Any:
    """Somebody else who can sign in, and may do everything or what `policy` says."""
    iam = world.aws("iam")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.create_user(UserName="second")
    iam.create_login_profile(UserName="second", Password="x-Y3-never-used")
    iam.put_user_policy(UserName="second", PolicyName="own", PolicyDocument=document(policy or everything))
    if boundary:
        arn = iam.create_policy(PolicyName="limit", PolicyDocument=document(boundary))["Policy"]["Arn"]
        iam.put_user_permissions_boundary(UserName="second", PermissionsBoundary=arn)
    if mfa:
        codes = {"AuthenticationCode1": "123456", "AuthenticationCode2": "654321"}
        iam.enable_mfa_device(UserName="second", SerialNumber="arn:aws:iam::123456789012:mfa/second", **codes)
    return iam


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
S3 = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
WITH_MFA = {**ALL, "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
FROM_HOME = {**ALL, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}
NO_IAM = {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}


@pytest.mark.parametrize("simulator", [True, False])
@pytest.mark.parametrize(
    ("how", "sure"),
    [
        ({}, True),
        ({"boundary": ALL}, True),
        ({"boundary": S3}, False),
        ({"boundary": FROM_HOME}, False),
        ({"policy": FROM_HOME}, False),
        ({"policy": {"Effect": "Allow", "Action": "iam:PutUserPolicy", "Resource": "*"}}, False),
        ({"policy": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}, False),
        ({"policy": {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}}, True),
    ],
)
def test_another_administrator_counts_only_where_it_is_sure(world: World, simulator: bool, how: dict[str, Any], sure: bool) -> None:
    second_administrator(world, **how)
    if not simulator:
        world.fault("aws", "iam.SimulatePrincipalPolicy", "refuse", times=0)
    done = world.opsctl("access", "revoke", ADMINISTRATOR, "-n")
    assert done.code == (3 if sure else 4), done
    if not sure:
        assert "last administrator" in done.err
        assert "access.administrators" in done.err
    else:
        assert ("estimated from the account's policies" in " ".join((done.out + done.err).split())) is not simulator


@pytest.mark.parametrize("mfa", [True, False])
def test_the_simulator_is_told_whether_somebody_signs_in_with_mfa(world: World, mfa: bool) -> None:
    second_administrator(world, policy=WITH_MFA, mfa=mfa)
    assert world.opsctl("access", "revoke", ADMINISTRATOR, "-n").code == (3 if mfa else 4)
    world.fault("aws", "iam.SimulatePrincipalPolicy", "refuse", times=0)
    assert world.opsctl("access", "revoke", ADMINISTRATOR, "-n").code == 4, "without it a condition is never sure"


def test_who_is_bounded_is_no_administrator_in_the_review(world: World) -> None:
    second_administrator(world, boundary=S3)
    flags = {row["user"]: row["flags"] for row in world.opsctl("-o", "json", "access", "review", check=0).json}
    assert "administrator" not in flags["second"]
    assert "administrator" in flags[ADMINISTRATOR]


def test_a_deny_beats_every_allow(world: World) -> None:
    iam = second_administrator(world)
    for statement in (NO_IAM, {**NO_IAM, "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}):
        iam.put_user_policy(UserName="second", PolicyName="no", PolicyDocument=document(statement))
        assert "last administrator" in refusal(world.opsctl("access", "revoke", ADMINISTRATOR, "-y"), 4)


@pytest.mark.parametrize(
    ("partition", "region", "iam"),
    [("aws", "eu-west-1", "us-east-1"), ("aws-us-gov", "us-gov-east-1", "us-gov-west-1"), ("aws-cn", "cn-northwest-1", "cn-north-1")],
)
def test_secrets_are_found_in_every_partition_of_aws(partition: str, region: str, iam: str) -> None:
    """A policy names resources by the ARNs of its own partition."""
    secret = SecretSettings(id="edge/KEY", kind="function", store_in=Reference(aws="kept"))
    systems: Any = SimpleNamespace(
        caller=Caller("123456789012", f"arn:{partition}:iam::123456789012:user/oncall", "oncall"),
        environment=SimpleNamespace(aws=SimpleNamespace(account="123456789012", region=region)),
        config=SimpleNamespace(secrets={"edge": secret}, functions={}),
    )
    held = [
        {
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": f"arn:{partition}:secretsmanager:{region}:*:secret:kept-*",
        },
        {"Effect": "Allow", "Action": "lambda:Get*", "Resource": f"arn:{partition}:lambda:{region}:123456789012:function:edge"},
    ]
    for statement in held:
        rights = Rights(f"arn:{partition}:iam::123456789012:user/eve", {"own": {"Statement": [statement]}})
        [row] = access._secrets(systems, {"eve": rights}, access.Seen([], {}))
        assert (row["secret"], row["by"]) == ("edge", ["eve"])
    assert access._regions(systems) == sorted({region, iam})
