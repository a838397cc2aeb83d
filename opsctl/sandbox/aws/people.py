"""IAM as a small company's account has grown it: the caller, a pipeline, an administrator for emergencies, and somebody who has left.

Most calls are moto's; what they find is made here, with ages and last uses.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opsctl.sandbox.aws.event_log import EventLog
from opsctl.sandbox.aws.moto_app import MotoApp
from opsctl.sandbox.aws.moto_internals import backend, part
from opsctl.sandbox.aws.names import ACCOUNT, REGION
from opsctl.sandbox.aws.simulator import Simulator
from opsctl.sandbox.aws.wire import Answer, Request

Operation = Callable[[Request], Mapping[str, Any] | Answer]

DEPLOY_KEY = "AKIASANDBOXDEPLOY001"
CONTRACTOR_KEY = "AKIASANDBOXFORMER001"
CONTRACTOR_NEW_KEY = "AKIASANDBOXFORMER002"
REPORTING_KEY = "AKIASANDBOXREPORT001"
MAIL_KEY = "AKIASANDBOXMAILER001"

_BEGAN = "2015-02-06T18:39:46+00:00"
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each} for each in statements]}


_INCIDENTS = _policy(
    {"Action": ["iam:Get*", "iam:List*", "cloudtrail:LookupEvents"], "Resource": "*"},
    {
        "Action": ["iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:UpdateAccessKey", "iam:DeleteLoginProfile"],
        "Resource": f"arn:aws:iam::{ACCOUNT}:user/*",
    },
    {"Effect": "Deny", "Action": "iam:*User*", "Resource": f"arn:aws:iam::{ACCOUNT}:user/oncall"},
)
_AWS_OWN = {
    "AdministratorAccess": _policy({"Action": "*", "Resource": "*"}),
    "PowerUserAccess": _policy({"NotAction": ["iam:*", "organizations:*", "account:*"], "Resource": "*"}),
    "ReadOnlyAccess": _policy({"Action": ["ecs:Describe*", "ecs:List*", "rds:Describe*", "cloudwatch:Get*"], "Resource": "*"}),
}
_PIPELINE = _policy(
    {"Action": ["ecs:UpdateService", "ecs:RegisterTaskDefinition", "ecr:*"], "Resource": "*"},
    {"Action": "secretsmanager:GetSecretValue", "Resource": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:safawinet/prod/mail-key-*"},
    {"Action": "sts:AssumeRole", "Resource": f"arn:aws:iam::{ACCOUNT}:role/deployer"},
)
_SENDS_MAIL = _policy({"Action": "ses:SendRawEmail", "Resource": "*"})


@dataclass(frozen=True)
class _Key:
    """A key and its age; `used` says how long ago, of which service."""

    id: str
    age: timedelta
    used: timedelta | None = None
    service: str = ""
    active: bool = True


@dataclass(frozen=True)
class _User:
    """A user. `password` says how long ago it was last used."""

    age: timedelta
    keys: tuple[_Key, ...] = ()
    password: timedelta | None = None
    mfa: bool = False
    groups: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    own: tuple[tuple[str, dict[str, Any]], ...] = ()
    path: str = "/"


_GROUPS = {"administrators": ["AdministratorAccess"], "operators": ["PowerUserAccess"]}


def _users(own_key: str) -> dict[str, _User]:
    return {
        "oncall": _User(
            300 * _DAY,
            keys=(_Key(own_key, 20 * _DAY, 0 * _DAY, "sts"),),
            password=2 * _HOUR,
            mfa=True,
            groups=("operators",),
            own=(("incident-response", _INCIDENTS),),
        ),
        "admin-break-glass": _User(700 * _DAY, password=200 * _DAY, mfa=True, groups=("administrators",)),
        "deploy": _User(600 * _DAY, keys=(_Key(DEPLOY_KEY, 410 * _DAY, 1 * _HOUR, "ecs"),), own=(("pipeline", _PIPELINE),)),
        "former-contractor": _User(
            500 * _DAY,
            keys=(_Key(CONTRACTOR_KEY, 490 * _DAY, 5 * _HOUR, "secretsmanager"), _Key(CONTRACTOR_NEW_KEY, 4 * _HOUR, 3 * _HOUR, "iam")),
            password=6 * _HOUR,
            attached=("PowerUserAccess",),
        ),
        "reporting": _User(150 * _DAY, keys=(_Key(REPORTING_KEY, 150 * _DAY),), attached=("ReadOnlyAccess",)),
        "ses-smtp": _User(
            400 * _DAY,
            keys=(_Key(MAIL_KEY, 400 * _DAY, 120 * _DAY, "ses", active=False),),
            own=(("send", _SENDS_MAIL),),
            path="/service/",
        ),
    }


_ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
_ROLES: dict[str, tuple[str, dict[str, str], str]] = {
    "prod-debug": ("/", {"AWS": f"arn:aws:iam::{ACCOUNT}:user/former-contractor"}, "sts:AssumeRole"),
    "deployer": ("/", _ROOT, "sts:AssumeRole"),
    "database-rescue": ("/", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/prod-debug"}, "sts:AssumeRole"),
    "AWSReservedSSO_ReadOnly_0123456789abcdef": (
        f"/aws-reserved/sso.amazonaws.com/{REGION}/",
        {"Federated": f"arn:aws:iam::{ACCOUNT}:saml-provider/AWSSSO_0123456789abcdef_DO_NOT_DELETE"},
        "sts:AssumeRoleWithSAML",
    ),
}


class FakeIam:
    """The users, groups and roles of the account; `own_key` is the sandbox's own, which is oncall's."""

    def __init__(self, timeline: EventLog, own_key: str, moto: MotoApp) -> None:
        self._timeline = timeline
        self._own_key = own_key
        self.services: dict[str, dict[str, Operation]] = {"iam": Simulator(_backend, moto).operations}

    def seed(self) -> None:
        """Put them into moto's own objects, since its calls know no ages."""
        backend, now = _backend(), datetime.fromtimestamp(self._timeline.now(), UTC).replace(microsecond=0)
        _aws_own_policies(backend)
        for name, attached in _GROUPS.items():
            backend.create_group(name)
            for policy in attached:
                backend.attach_group_policy(f"arn:aws:iam::aws:policy/{policy}", name)
        for name, user in _users(self._own_key).items():
            _add(backend, name, user, now, self._own_key)
        for name, (path, principal, action) in _ROLES.items():
            trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": action}]}
            backend.create_role(name, json.dumps(trust), path, None, "", [], "3600")

    def owner(self, key: str) -> str:
        """Whose key it is, as CloudTrail names them: a role's session by its own name."""
        if key == self._own_key:
            return "oncall"
        lent = list(backend("sts.models.sts_backends").assumed_roles)
        return next((str(role.session_name) for role in lent if role.access_key_id == key), "")


def _backend() -> Any:
    return backend("iam.models.iam_backends")


def _aws_own_policies(backend: Any) -> None:
    """The few of AWS's own policies that are attached to somebody: moto has them all, and takes a second to load them."""
    for name, document in _AWS_OWN.items():
        data = {"Path": "/", "DefaultVersionId": "v1", "Document": document, "CreateDate": _BEGAN, "UpdateDate": _BEGAN}
        policy = part("iam.models.AWSManagedPolicy").from_data(name, ACCOUNT, REGION, data)
        backend.managed_policies[policy.arn] = policy
        backend.aws_managed_policies.append(policy)


def _add(backend: Any, name: str, user: _User, now: datetime, own_key: str) -> None:
    made = backend.create_user(REGION, name, user.path)
    made.create_date = now - user.age
    for key in user.keys:
        held = backend.create_access_key(name, status="Active" if key.active else "Inactive")
        del backend.access_keys[held.access_key_id]
        held.access_key_id, held.create_date = key.id, now - key.age
        if key.id != own_key:
            # Where moto knows a key by its id, it notes each use of it: that of the key which asks would never stand still.
            backend.access_keys[key.id] = held
        if key.used is not None:
            held.last_used = part("iam.models.AccessKeyLastUsed")(now - key.used, key.service, REGION)
    if user.password is not None:
        backend.create_login_profile(name, secrets.token_urlsafe(24))
        made.password_last_used = now - user.password
    if user.mfa:
        backend.enable_mfa_device(name, f"arn:aws:iam::{ACCOUNT}:mfa/{name}", "123456", "654321")
    for group in user.groups:
        backend.add_user_to_group(group, name)
    for policy in user.attached:
        backend.attach_user_policy(f"arn:aws:iam::aws:policy/{policy}", name)
    for policy, document in user.own:
        backend.put_user_policy(name, policy, json.dumps(document))
