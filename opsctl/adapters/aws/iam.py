"""AWS IAM: users, access keys, policies and sign-ins. IAM is global."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from opsctl.adapters.aws import policies
from opsctl.adapters.aws.patience import retry_throttled
from opsctl.adapters.aws.policies import Document
from opsctl.adapters.aws.session import AwsSession, utc
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import ExternalError, NotFound

NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
MFA = "aws:MultiFactorAuthPresent"
SSO_PATH = "/aws-reserved/sso.amazonaws.com/"
DETAILS = ["User", "Group", "Role", "LocalManagedPolicy", "AWSManagedPolicy"]


class AccessKey(Struct, frozen=True):
    """One access key; its id is no secret. `used`, `service` and `region` are of its last use, empty if it was never used."""

    id: str
    active: bool
    created: datetime
    used: datetime | None = None
    service: str = ""
    region: str = ""


class IamUser(Struct, frozen=True):
    """One IAM user; `password_used` is their last sign-in to the console."""

    name: str
    arn: str
    created: datetime
    password_used: datetime | None = None


class Credentials(Struct, frozen=True):
    """The credentials of a user; `password` is the creation time of the console password."""

    keys: list[AccessKey]
    password: datetime | None
    mfa: int

    @property
    def usable(self) -> bool:
        """Whether one of them works."""
        return self.password is not None or any(key.active for key in self.keys)


class Rights(Struct, frozen=True):
    """A user's policy documents by name, empty where unreadable; `X (group operators)` is from a group.

    `boundary` is the permissions boundary, empty where unreadable.
    """

    arn: str
    documents: dict[str, Document]
    boundary: Document | None = None

    @property
    def denied(self) -> bool:
        """Whether everything is denied, as after `access revoke`."""
        return policies.denies_all(self.documents.values())

    @property
    def unreadable_policies(self) -> list[str]:
        """The policies and groups without a readable document: they may allow anything."""
        return sorted(name for name, document in self.documents.items() if not document)

    @property
    def administrator(self) -> bool:
        """Whether they may allow this user to get any permission."""
        bounded = self.boundary is not None and not policies.administers([self.boundary], self.arn)
        return not bounded and policies.administers(self.documents.values(), self.arn)

    def allow(self, action: str, resource: str) -> bool:
        """Whether they may allow it, ignoring a policy that denies everything, which is temporary."""
        weighed = [each for each in self.documents.values() if not policies.denies_all([each])]
        return policies.allows(weighed, action, resource)

    def certainly_allows(self, action: str, resource: str) -> bool:
        """Whether they allow it under all conditions. The organisation's policies are not checked."""
        within = self.boundary is None or policies.certainly_allows([self.boundary], action, resource)
        return within and policies.certainly_allows(self.documents.values(), action, resource)


class IamRole(Struct, frozen=True):
    """A role, its trust policy and its policies."""

    name: str
    path: str
    trust: Document
    rights: Rights


class ReachableRole(Struct, frozen=True):
    """A role that can be assumed, `by` the user or another role."""

    role: str
    arn: str
    by: str


class IamAccount(Struct, frozen=True):
    """The account: every user's policies, by name, and every role."""

    rights: dict[str, Rights]
    roles: list[IamRole]

    @property
    def identity_centre(self) -> bool:
        """Whether people also sign in with IAM Identity Center (SSO), without IAM users."""
        return any(role.path.startswith(SSO_PATH) for role in self.roles)

    def of(self, person: IamUser) -> Rights:
        """A user's policies; empty for a user created since the listing."""
        return self.rights.get(person.name) or Rights(person.arn, {})

    def assumable_roles(self, name: str) -> list[ReachableRole]:
        """The roles that a user can assume, directly or through other roles, sorted by name."""
        ahead = [(name, self.rights[name])] if name in self.rights else []
        found: dict[str, ReachableRole] = {}
        for by, rights in ahead:
            for role in self.roles:
                if role.name not in found and _may_assume(rights, role):
                    found[role.name] = ReachableRole(role.name, role.rights.arn, by)
                    ahead.append((role.name, role.rights))
        return [found[role] for role in sorted(found)]


class Iam(Adapter):
    """IAM users by name; every method that is given one raises NotFound for a user who doesn't exist."""

    def __init__(self, aws: AwsSession) -> None:
        super().__init__(writing=aws.writing)
        self._aws = aws

    def people(self) -> list[IamUser]:
        """Every user."""
        return retry_throttled(lambda: [_person(raw) for page in self._aws.pages("iam", "list_users") for raw in page["Users"]])

    def person(self, name: str) -> IamUser:
        """One user."""
        if not NAME.fullmatch(name):
            raise _nobody(name)
        try:
            return _person(self._aws.call("iam", "get_user", UserName=name)["User"])
        except NotFound as cause:
            raise _nobody(name) from cause

    def keys(self, name: str) -> list[AccessKey]:
        """A user's keys, without their last use."""
        self.person(name)
        return self._keys(name)

    def credentials(self, name: str) -> Credentials:
        """All credentials of a user."""
        return retry_throttled(lambda: self._credentials(name))

    def _credentials(self, name: str) -> Credentials:
        keys = [self._with_use(key) for key in self._keys(name)]
        devices = self._aws.call("iam", "list_mfa_devices", UserName=name)["MFADevices"]
        return Credentials(keys=keys, password=self.password(name), mfa=len(devices))

    def password(self, name: str) -> datetime | None:
        """The creation time of the console password; None without one."""
        try:
            return utc(self._aws.call("iam", "get_login_profile", UserName=name)["LoginProfile"]["CreateDate"])
        except NotFound:
            self.person(name)
            return None

    def inline(self, name: str, policy: str) -> Document | None:
        """A user's own policy of that name; None where there is none."""
        try:
            return _document(self._aws.call("iam", "get_user_policy", UserName=name, PolicyName=policy)["PolicyDocument"])
        except NotFound:
            self.person(name)
            return None

    def account(self) -> IamAccount:
        """All users' policies and all roles, read in one listing."""
        return retry_throttled(self._account)

    def _account(self) -> IamAccount:
        users: list[dict[str, Any]] = []
        groups: dict[str, dict[str, Any]] = {}
        roles: list[dict[str, Any]] = []
        managed: dict[str, Document] = {}
        for page in self._aws.pages("iam", "get_account_authorization_details", Filter=DETAILS):
            users += page.get("UserDetailList", [])
            roles += page.get("RoleDetailList", [])
            groups |= {group["GroupName"]: group for group in page.get("GroupDetailList", [])}
            managed |= {policy["Arn"]: _current(policy) for policy in page.get("Policies", [])}
        return IamAccount(
            rights={user["UserName"]: _rights(user, groups, managed) for user in users}, roles=[_role(role, managed) for role in roles]
        )

    def simulated(self, arn: str, action: str, resource: str, *, mfa: bool) -> bool:
        """Whether AWS's policy simulator allows it, including the boundary, the organisation's policies and conditions.

        The only condition key passed is `mfa`; where another one matters, the result is no. Raises Denied without
        iam:SimulatePrincipalPolicy.
        """
        context = {"ContextKeyName": MFA, "ContextKeyType": "boolean", "ContextKeyValues": [str(mfa).lower()]}
        asked: dict[str, Any] = {"PolicySourceArn": arn, "ActionNames": [action], "ResourceArns": [resource], "ContextEntries": [context]}
        found = [each for page in self._aws.pages("iam", "simulate_principal_policy", **asked) for each in page["EvaluationResults"]]
        return bool(found) and all(each["EvalDecision"] == "allowed" and not each.get("MissingContextValues") for each in found)

    @writes
    def put_policy(self, name: str, policy: str, document: Document) -> None:
        """Add an inline policy to a user; the error for IAM's size limit has a hint."""
        try:
            self._aws.call("iam", "put_user_policy", UserName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
        except ExternalError as no:
            if "LimitExceeded" not in no.what:
                raise
            policy_arn = f"arn:{self._aws.caller.partition}:iam::aws:policy/AWSDenyAll"
            by_hand = f"aws iam attach-user-policy --user-name {name} --policy-arn {policy_arn}"
            raise ExternalError(f"{name} has no room for another inline policy: IAM's size limit is reached.", by_hand) from no

    @writes
    def delete_policy(self, name: str, policy: str) -> None:
        """Delete a user's inline policy, if it exists."""
        with suppress(NotFound):
            self._aws.call("iam", "delete_user_policy", UserName=name, PolicyName=policy)

    @writes
    def set_key(self, name: str, key: str, *, active: bool) -> None:
        """Activate or deactivate an access key."""
        self._aws.call("iam", "update_access_key", UserName=name, AccessKeyId=key, Status="Active" if active else "Inactive")

    @writes
    def delete_password(self, name: str) -> None:
        """Delete a user's console password, if it exists."""
        with suppress(NotFound):
            self._aws.call("iam", "delete_login_profile", UserName=name)

    def _keys(self, name: str) -> list[AccessKey]:
        pages = self._aws.pages("iam", "list_access_keys", UserName=name)
        found = [raw for page in pages for raw in page["AccessKeyMetadata"]]
        return [AccessKey(raw["AccessKeyId"], raw["Status"] == "Active", utc(raw["CreateDate"])) for raw in found]

    def _with_use(self, key: AccessKey) -> AccessKey:
        """A key with its last use; IAM writes N/A for the service and the region of one that was never used."""
        found = self._aws.call("iam", "get_access_key_last_used", AccessKeyId=key.id)["AccessKeyLastUsed"]
        if not found.get("LastUsedDate"):
            return key
        return AccessKey(key.id, key.active, key.created, utc(found["LastUsedDate"]), found["ServiceName"], found["Region"])


def _nobody(name: str) -> NotFound:
    what = f"There is no IAM user {name!r}."
    return NotFound(what, "List the users: opsctl access review. For a user of SSO, disable them in IAM Identity Center.")


def _person(raw: dict[str, Any]) -> IamUser:
    used = raw.get("PasswordLastUsed")
    return IamUser(raw["UserName"], raw["Arn"], utc(raw["CreateDate"]), utc(used) if used else None)


def _role(raw: dict[str, Any], managed: dict[str, Document]) -> IamRole:
    rights = Rights(raw["Arn"], _policies_of(raw, "RolePolicyList", managed))
    return IamRole(raw["RoleName"], raw.get("Path", "/"), _document(raw["AssumeRolePolicyDocument"]), rights)


def _may_assume(rights: Rights, role: IamRole) -> bool:
    how = policies.trusts(role.trust, rights.arn, rights.arn.split(":")[4])
    return how == "by name" or (how == "by account" and rights.allow("sts:AssumeRole", role.rights.arn))


def _rights(user: dict[str, Any], groups: dict[str, dict[str, Any]], managed: dict[str, Document]) -> Rights:
    found = _policies_of(user, "UserPolicyList", managed)
    for name in user.get("GroupList", []):
        held = _policies_of(groups[name], "GroupPolicyList", managed) if name in groups else {"its policies": {}}
        found |= {f"{policy} (group {name})": document for policy, document in held.items()}
    bound = (user.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
    return Rights(user["Arn"], found, managed.get(bound, {}) if bound else None)


def _policies_of(raw: dict[str, Any], own: str, managed: dict[str, Document]) -> dict[str, Document]:
    attached = {each["PolicyName"]: managed.get(each["PolicyArn"], {}) for each in raw.get("AttachedManagedPolicies", [])}
    return attached | {each["PolicyName"]: _document(each["PolicyDocument"]) for each in raw.get(own, [])}


def _current(policy: dict[str, Any]) -> Document:
    versions = policy.get("PolicyVersionList", [])
    return next((_document(each["Document"]) for each in versions if each.get("IsDefaultVersion")), {})


def _document(raw: Any) -> Document:
    """The policy document; botocore leaves text that it can't decode."""
    found: Document = raw if isinstance(raw, dict) else json.loads(raw)
    return found
