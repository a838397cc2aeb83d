"""Changes to an IAM user's access: deny everything, deactivate the keys, and for a compromised user delete the password."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl.changes import raw
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Irreversible, Pending
from opsctl.errors import ExternalError, NotFound, OpsctlError, Refused
from opsctl.permissions import Permissions, needs
from opsctl.shell import Equal, Must, Variable

if TYPE_CHECKING:
    from opsctl.adapters.aws.iam import IamAccount
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems

POLICY = "opsctl-deny-all"
TAKES_ALL = ("iam:AttachUserPolicy", "iam:PutUserPolicy")
"""Whoever may do one of these to themselves may give themselves every other right that their boundary has room for."""
TAKES_BACK = "iam:DeleteUserPolicy"
MOST_NAMED = 8
COMPROMISED = Irreversible("others may know these credentials; give the user new ones instead")


def denial(*, compromised: bool) -> dict[str, Any]:
    """The policy that denies everything. Its Sid shows, also without the ledger, whether it may be undone."""
    sid = "RevokedAsCompromised" if compromised else "Revoked"
    return {"Version": "2012-10-17", "Statement": [{"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*"}]}


class UserChange(Change, frozen=True, kw_only=True):
    """A change to one IAM user. IAM is eventually consistent, so the change is awaited; repeating it has no further effect."""

    independent: ClassVar[bool] = True
    poll: ClassVar[float] = 1
    timeout: ClassVar[float] = 120

    user: str

    @property
    def _policy_options(self) -> str:
        return f"--user-name {self.user}"

    def _iam(self, environment: Environment, operation: str, **how: Any) -> Command:
        return raw.aws(environment, "iam", operation, UserName=self.user, **how)

    def _not_ours(self, read: Systems) -> None:
        """Raises Refused if this run itself uses the credential."""
        person = read.iam.person(self.user)
        if person.arn == read.caller.arn:
            raise Refused(
                f"{self.user} is the user that runs opsctl now: the run would end its own access half way.",
                "Have another administrator run it.",
            )


class SetDenial(UserChange, frozen=True, kw_only=True):
    """The user has an inline policy that denies everything (`denied`), or no longer has it.

    It applies from the next call on, also to console sessions and temporary keys of the user. It doesn't apply to sessions of roles.
    """

    permissions: ClassVar[Permissions] = needs(
        check="iam:GetAccountAuthorizationDetails iam:GetUser iam:GetUserPolicy iam:SimulatePrincipalPolicy",
        apply="iam:DeleteUserPolicy iam:PutUserPolicy",
    )
    target_template: ClassVar[str] = "iam-user/{user}/policy"

    denied: bool = True
    compromised: bool = False

    @property
    def summary(self) -> str:
        """What is denied, for which user."""
        if self.denied:
            return f"deny {self.user} everything (inline policy {POLICY})"
        return f"delete the inline policy {POLICY} of {self.user}"

    def difference(self) -> tuple[Any, Any]:
        """Whether everything is denied."""
        words = ("not denied", "everything denied")
        return words[not self.denied], words[self.denied]

    def check(self, read: Systems) -> Finding:
        """Reads the policy. What prevents a judgement, or forbids this change, also blocks the other changes to the user."""
        try:
            return self._judge_policy(read)
        except OpsctlError as error:
            error.bars = self.denied
            raise

    def _judge_policy(self, read: Systems) -> Finding:
        now = read.iam.inline(self.user, POLICY)
        ours, stronger = denial(compromised=self.compromised), denial(compromised=True)
        if self.denied and now in (ours, stronger):
            return Done(f"{POLICY} denies {self.user} everything")
        if not self.denied and now is None:
            return Done(f"{self.user} has no inline policy {POLICY}")
        # Judged first: the keys may be deactivated even if the policy isn't as reviewed.
        found = self._judged(read) if self.denied else Pending(1, "users")
        if now not in ([None, denial(compromised=False)] if self.denied else [ours]):
            revoked = (
                "revokes the user as compromised"
                if now == stronger
                else f"has other content (aws iam get-user-policy {self._policy_options})"
            )
            return Drifted(f"the policy {POLICY} of {self.user} has changed since the plan: it {revoked}")
        return found

    def _judged(self, read: Systems) -> Pending:
        """What remains possible despite the denial. Raises Refused if it locks out who runs this, or the last administrator."""
        self._not_ours(read)
        try:
            account = read.iam.account()
            if self.user not in account.rights:
                raise ExternalError(f"IAM's list of the account's users doesn't contain {self.user}.", "")
        except ExternalError as cause:
            return self._unlisted(read, cause)
        how = self._not_the_last(read, account)
        return Pending(1, "users", "; ".join(filter(None, (how, _left_over(account, self.user, read.caller.arn)))))

    def _not_the_last(self, read: Systems, account: IamAccount) -> str:
        """A note if the answer is an estimate. Raises Refused unless another user can certainly restore access afterwards."""
        named = set(read.config.access.administrators)
        known = {name for name, rights in account.rights.items() if rights.administrator or (name in named and not rights.denied)}
        perhaps = self.user in known or account.rights[self.user].unreadable_policies
        if not perhaps or named & {f"role/{role.name}" for role in account.roles}:
            return ""
        unsure = []
        for name in sorted(known - {self.user}, key=lambda each: (each not in named, each)):
            credentials = read.iam.credentials(name)
            if not credentials.usable:
                continue
            if name in named:
                return ""
            sure, how = self._rights_it(read, account, name, mfa=credentials.mfa > 0)
            if sure:
                return how
            unsure.append(f"{name} ({how})" if how else name)
        if unsure:
            raise Refused(
                f"{self.user} may be the last administrator: opsctl found no other user who certainly is one. It is uncertain for"
                f" {', '.join(unsure)}, whose policies, boundary or conditions may forbid it.",
                "If one of them is an administrator, add that user to access.administrators in the configuration; else create one first.",
            )
        raise Refused(
            f"{self.user} is the last administrator who can sign in; afterwards nobody could administer the account.",
            "Create another administrator first, or add an existing one to access.administrators in the configuration.",
        )

    def _rights_it(self, read: Systems, account: IamAccount, name: str, *, mfa: bool) -> tuple[bool, str]:
        """Whether a user can certainly remove this denial and grant themselves rights, and a note if that is an estimate."""
        rights, denied = account.rights[name], account.rights[self.user].arn
        try:
            takes = any(read.iam.simulated(rights.arn, action, rights.arn, mfa=mfa) for action in TAKES_ALL)
            return takes and read.iam.simulated(rights.arn, TAKES_BACK, denied, mfa=mfa), ""
        except ExternalError as cause:
            takes = any(rights.certainly_allows(action, rights.arn) for action in TAKES_ALL)
            estimate = f"estimated from the account's policies, without those of the organisation: {cause.what.rstrip('.')}"
            sure = takes and rights.certainly_allows(TAKES_BACK, denied)
            return sure, f"{name} stays an administrator, {estimate}" if sure else estimate

    def _unlisted(self, read: Systems, cause: ExternalError) -> Pending:
        """Continues when users can't be listed, if the configuration names another administrator; otherwise raises ExternalError."""
        for name in set(read.config.access.administrators) - {self.user}:
            with suppress(NotFound):
                if read.iam.inline(name, POLICY) is None and read.iam.credentials(name).usable:
                    return Pending(1, "users", f"the roles that {self.user} may have assumed couldn't be listed: {cause.what}")
        raise ExternalError(
            f"{cause.what} So it is unknown whether {self.user} is the last administrator.",
            "Run it again. If it is urgent, add another administrator (an IAM user) to access.administrators in the configuration.",
        ) from cause

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """PutUserPolicy, or DeleteUserPolicy."""
        if not self.denied:
            write.iam.delete_policy(self.user, POLICY)
            return {}
        write.iam.put_policy(self.user, POLICY, denial(compromised=self.compromised))
        return {"policy": POLICY}

    def inverse(self) -> Change | Irreversible:
        """The opposite change, unless the credentials are compromised."""
        return COMPROMISED if self.compromised else SetDenial(user=self.user, denied=not self.denied)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The IAM command; the script stops if it would remove the access of who runs it."""
        if not self.denied:
            return [self._iam(environment, "delete-user-policy", PolicyName=POLICY)]
        document = json.dumps(denial(compromised=self.compromised))
        mine = raw.aws(environment, "sts", "get-caller-identity")
        return [
            raw.learn("arn", self._iam(environment, "get-user"), "User.Arn"),
            raw.learn("caller", mine, "Arn"),
            Must(test=Equal(one=Variable("arn"), other=Variable("caller"), differ=True), otherwise=f"You are signed in as {self.user}."),
            self._iam(environment, "put-user-policy", PolicyName=POLICY, PolicyDocument=document),
        ]


def _left_over(account: IamAccount, user: str, caller: str) -> str:
    """What remains usable after a user is denied. `caller` may be a session of a role: whose credentials started it can't be seen here."""
    roles = [reached.role for reached in account.assumable_roles(user)]
    more = f" and {len(roles) - MOST_NAMED} more" if len(roles) > MOST_NAMED else ""
    _, session, name = caller.partition(":assumed-role/")
    own = name.partition("/")[0]
    notes = (
        [f"this run uses a session of {own}, a role that {user} may have assumed; if so, it can't be renewed"]
        if session and own in roles
        else []
    )
    if roles:
        notes.append(f"role sessions that {user} may have started stay valid until they expire: {', '.join(roles[:MOST_NAMED])}{more}")
    if account.identity_centre:
        notes.append("SSO sign-in is not changed: disable the user in IAM Identity Center")
    notes.append(f"to end those sessions and see what to rotate: opsctl access review {user}")
    return "; ".join(notes)


class SetKeys(UserChange, frozen=True, kw_only=True):
    """No access key of the user is active. When undone, the keys in `keys` are active again.

    `keys` were active when the plan was reviewed. A newer key was created by somebody else, and stops the run.
    """

    permissions: ClassVar[Permissions] = needs(
        check="iam:GetUser iam:GetUserPolicy iam:ListAccessKeys",
        apply="iam:GetUser iam:ListAccessKeys iam:UpdateAccessKey",
    )
    target_template: ClassVar[str] = "iam-user/{user}/keys"

    keys: tuple[str, ...]
    active: bool = False
    compromised: bool = False

    @property
    def summary(self) -> str:
        """Which keys, of which user."""
        if self.active:
            return f"activate {', '.join(self.keys)} of {self.user}"
        return f"deactivate {', '.join(self.keys) or 'every key'} of {self.user}"

    def difference(self) -> tuple[Any, Any]:
        """Active or inactive."""
        words = ("inactive", "active")
        return words[not self.active], words[self.active]

    def check(self, read: Systems) -> Finding:
        """Lists the keys."""
        now = {key.id: key.active for key in read.iam.keys(self.user)}
        gone = [key for key in self.keys if key not in now]
        wrong = [key for key in self.keys if now.get(key, self.active) != self.active]
        if self.active and gone:
            return Drifted(f"{', '.join(gone)} of {self.user} was deleted since the plan")
        if self.active and read.iam.inline(self.user, POLICY) == denial(compromised=True):
            return Drifted(f"{self.user} was revoked as compromised since the plan")
        if not self.active and (new := [key for key, active in now.items() if active and key not in self.keys]):
            return Drifted(f"{', '.join(new)} of {self.user} became active since the plan")
        if not wrong:
            return Done(f"{', '.join(self.keys)} is active" if self.active else f"{self.user} has no active key ({len(now)} inactive)")
        if not self.active:
            self._not_ours(read)
        return Pending(len(wrong), "keys")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateAccessKey for each key; IAM allows two."""
        wrong = [key.id for key in write.iam.keys(self.user) if key.id in self.keys and key.active != self.active]
        for number, key in enumerate(wrong, 1):
            write.iam.set_key(self.user, key, active=self.active)
            progress(number, len(wrong), "keys")
        return {"keys": wrong}

    def inverse(self) -> Change | Irreversible:
        """The opposite change, unless the credentials are compromised."""
        return COMPROMISED if self.compromised else SetKeys(user=self.user, keys=self.keys, active=not self.active)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The IAM command for each key."""
        status = "Active" if self.active else "Inactive"
        return [self._iam(environment, "update-access-key", AccessKeyId=key, Status=status) for key in self.keys]


class DeletePassword(UserChange, frozen=True, kw_only=True):
    """The user has no console password."""

    permissions: ClassVar[Permissions] = needs(check="iam:GetLoginProfile iam:GetUser", apply="iam:DeleteLoginProfile")
    target_template: ClassVar[str] = "iam-user/{user}/password"
    summary_template: ClassVar[str] = "delete the console password of {user}"
    irreversible: ClassVar[str] = "a deleted password can't be restored; set a new one"

    def check(self, read: Systems) -> Finding:
        """Reads the login profile."""
        if read.iam.password(self.user) is None:
            return Done(f"{self.user} has no console password")
        self._not_ours(read)
        return Pending(1, "passwords")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """DeleteLoginProfile."""
        write.iam.delete_password(self.user)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The IAM command."""
        return [self._iam(environment, "delete-login-profile")]
