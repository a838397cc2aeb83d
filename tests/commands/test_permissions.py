"""`opsctl permissions`: of a command, a group, a playbook, or everything; without asking anybody."""

from __future__ import annotations

import json

import pytest
from recording import recorded, recording
from world import World

from opsctl.commands.permissions import of
from opsctl.errors import NotFound
from opsctl.permissions import union


def test_a_command_needs_what_it_plans_with_and_what_its_changes_need() -> None:
    found = of("service scale")
    assert found.read == {"application-autoscaling:DescribeScalableTargets", "ecs:DescribeServices", "postgres"}
    assert found.write == {"application-autoscaling:RegisterScalableTarget", "ecs:UpdateService"}


def test_a_group_needs_what_its_commands_need() -> None:
    names = ("list", "rotate", "rollback", "verify")
    assert of("secrets") == union(of(f"secrets {name}") for name in names)


def test_a_playbook_needs_what_its_steps_need() -> None:
    found = of("token-compromise")
    for step in ("logout all", "secrets rotate", "service redeploy", "auth verify"):
        assert of(step).read <= found.read
        assert of(step).write <= found.write
    assert "iam:PutUserPolicy" not in found.write


def test_what_changes_anything_needs_everything_that_writes() -> None:
    assert of("").write == of("runs undo").write == of("apply").write
    assert of("").read > of("runs undo").read


@pytest.mark.parametrize("name", ["nothing", "service nothing", "playbook-that-is-not-there"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(NotFound, match=name):
        of(name)


def test_each_format_can_be_given_to_what_takes_it(world: World) -> None:
    policies = json.loads(world.opsctl("permissions", "service", "scale", "--format", "iam", check=0).out)
    assert set(policies) == {"read", "write"}
    assert policies["write"]["Statement"][0]["Effect"] == "Allow"
    script = world.opsctl("permissions", "logout", "--format", "grants", check=0).out
    assert {line.split()[0] for line in script.splitlines()} == {"GRANT", "--"}
    assert "-- Redis: ACL SETUSER opsctl-reader" in script
    grants = world.opsctl("-o", "json", "permissions", "logout", "--format", "grants", check=0).json
    assert set(grants) == {"postgres", "redis", "http"}
    assert all(f"\n{line}\n" in f"\n{script}" for line in grants["postgres"])
    page = world.opsctl("-o", "json", "permissions", "notify", check=0).json
    assert {row["scope"] for row in page["HTTP"]} >= {"incoming-webhook"}
    assert world.opsctl("permissions", "people", check=0).out


@pytest.mark.parametrize("form", ["iam", "grants"])
def test_no_outside_system_is_asked(world: World, form: str) -> None:
    calls = world.home / "calls"
    world.opsctl("permissions", "--format", form, check=0, before=recording(calls))
    assert list(recorded(calls)) == []
    world.opsctl("service", "status", check=0, before=recording(calls))
    assert list(recorded(calls)) != []
