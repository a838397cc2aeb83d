"""Rehearsals of taking an IAM user's access away."""

from __future__ import annotations

import json
from collections.abc import Callable

from scenario import Scenario
from world import World

USER, POLICY = "former-contractor", "opsctl-deny-all"


def revoked(sid: str, *, password: bool) -> Callable[[World], bool]:
    """Whether everything is denied, no key is active, the password is there or not, and nobody else is touched."""

    def so(world: World) -> bool:
        found = world.access()
        policies, able = found[USER]
        ours = [each["PolicyDocument"]["Statement"] for each in policies if each["PolicyName"] == POLICY]
        deploys = found["deploy"][1][1]
        denied = ours == [[{"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*"}]]
        return denied and able == [str(password).lower(), "false", "false"] and deploys == "true"

    return so


def another_policy(world: World) -> None:
    """Somebody else puts a policy of their own under the name that ours has."""
    statement = {"Effect": "Deny", "Action": "ec2:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    world.aws("iam").put_user_policy(UserName=USER, PolicyName=POLICY, PolicyDocument=document)


SCENARIOS = {
    "access revoke": [
        Scenario(f"access revoke {USER}", revoked("Revoked", password=True), meddle=another_policy, reversible=True, alike=True),
        Scenario(f"access revoke {USER} --compromised", revoked("RevokedAsCompromised", password=False), meddle=another_policy),
    ],
}
