"""A secret that Secrets Manager rotates by itself, and whose function fails."""

from __future__ import annotations

import urllib.request

from customers import refusal
from world import World

NAME = "safawinet/prod/partner-key"


def fail_next_rotation(world: World) -> None:
    request = urllib.request.Request(
        f"{world.facts['control']}/aws/rotation-failure",
        data=b"{}",
        headers={"Authorization": f"Bearer {world.facts['control_token']}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def test_a_rotation_that_failed_ends_the_wait_and_says_why(world: World) -> None:
    fail_next_rotation(world)
    failed = refusal(world.opsctl("secrets", "rotate", "partner-key", "--value-from", "generate", "-y", "--timeout", "10m"), 1)
    assert "the rotation failed: The rotation function failed at createSecret" in failed
    assert "AWSPENDING" in failed
    versions = world.aws("secretsmanager").list_secret_version_ids(SecretId=NAME)["Versions"]
    assert [each["VersionStages"] for each in versions if "AWSPENDING" in each.get("VersionStages", [])] == [["AWSPENDING"]]
