"""`opsctl lease verify`: each answer of the endpoint, its cause, the next command, and the line in the log."""

from __future__ import annotations

import json

import pytest
from customers import DISABLED, ONE, TWO, refusal, steps, told
from world import World

from opsctl.changes import lease


def test_granted_it_shows_the_line_and_what_hubspot_has(world: World) -> None:
    done = world.opsctl("-o", "json", "lease", "verify", "contact1@example.com", "-y", check=0)
    evidence = steps(done)[0]["evidence"]
    assert evidence["status"] == 200
    assert "lease_ok" in evidence["log"][0]
    assert "download_enabled true" in evidence["contact"]
    assert world.contact(ONE)["download_token"] not in done.out + done.err
    assert world.leases() == 1


def test_disabled_is_proven_by_403_and_the_denied_line(world: World) -> None:
    world.opsctl("downloads", "disable", ONE, "-y", check=0)
    shown = told(world, "lease", "verify", ONE, "--expect", "403", "-y")["changes"][0]
    assert shown["why"].startswith("403 disabled")
    assert "lease_denied" in shown["evidence"]["log"][0]
    assert "Next:" not in shown["why"], "who is to be refused isn't to be let in again"
    done = world.opsctl("lease", "verify", ONE, "-y")
    assert "403 disabled" in refusal(done, 1)
    assert f"opsctl downloads enable {ONE}" in done.err


def test_a_wrong_code_is_told_from_a_disabled_contact(world: World) -> None:
    done = world.opsctl("lease", "verify", ONE, "--code-from", "env:CODE", "-y", env={"CODE": f"{ONE}-wrong"})
    assert "403 invalid-token" in refusal(done, 1)
    assert f"opsctl pairing mint {ONE}" in done.err
    assert f"{ONE}-wrong" not in done.out + done.err


def test_a_wrong_edge_secret_is_looked_for_in_the_authorizers_log(world: World) -> None:
    secret = json.dumps({"secret": "not-the-authorizers-secret"})
    world.aws("secretsmanager", "us-west-2").put_secret_value(SecretId="/hh/prod/edge-shared-secret", SecretString=secret)
    said = refusal(world.opsctl("lease", "verify", ONE, "-y"), 1)
    assert "answered 401" in said
    assert "authz_denied" in said


@pytest.mark.parametrize(("status", "next"), [("500", "opsctl logs query lease-errors"), ("502", "opsctl secrets verify hubspot-token")])
def test_a_failing_function_is_named(world: World, status: str, next: str) -> None:
    world.opsctl("sandbox", "fault", "set", "hh", "POST /lease", "fail", "--status", status, check=0)
    done = world.opsctl("lease", "verify", ONE, "-y")
    assert f"answered {status}" in refusal(done, 1)
    assert "lease_error" in done.err
    assert next in done.err


def test_an_answer_that_is_lost_is_a_failed_check(world: World) -> None:
    world.fault("hh", "POST /lease", "drop")
    assert "closed the connection" in refusal(world.opsctl("lease", "verify", ONE, "-y"), 1)


def test_a_dry_run_takes_no_lease(world: World) -> None:
    world.opsctl("lease", "verify", ONE, "-n", check=3)
    assert world.leases() == 0


def test_another_code_is_asked_with_though_one_was_a_moment_ago(world: World) -> None:
    line = ("lease", "verify", ONE, "--code-from", "env:CODE", "-y")
    world.opsctl(*line, env={"CODE": world.contact(ONE)["download_token"]}, check=0)
    assert "403 invalid-token" in refusal(world.opsctl(*line, env={"CODE": f"{ONE}-wrong"}), 1)


def test_twice_is_once_until_the_contact_is_changed_among_others(world: World) -> None:
    world.opsctl("lease", "verify", ONE, "-y", check=0)
    assert told(world, "lease", "verify", ONE, "-y")["result"] == "unchanged"
    world.opsctl("downloads", "disable", TWO, ONE, "-y", check=0)
    assert "403 disabled" in refusal(world.opsctl("lease", "verify", ONE, "-y"), 1)


def test_twice_is_once_until_a_secret_that_the_endpoint_reads_is_rotated(world: World) -> None:
    world.opsctl("lease", "verify", ONE, "-y", check=0)
    value = {"NEW": "edge-5c1f09e3d7b64827f3a9c51e0d84b26a"}
    world.opsctl("secrets", "rotate", "edge-shared-secret", "--value-from", "env:NEW", "-y", typed="ready\n", env=value, check=0)
    assert told(world, "lease", "verify", ONE, "-y")["result"] == "changed"
    assert world.leases() == 2


def test_without_a_code_no_refusal_is_a_proof(world: World) -> None:
    said = refusal(world.opsctl("lease", "verify", DISABLED, "--expect", "403", "-y"), 1)
    assert "has no pairing code" in said


def test_a_refusal_that_the_function_did_not_log_is_no_proof(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another contact was denied in the same moment."""
    monkeypatch.setattr(lease, "PAUSE", 0.01)
    line = ("lease", "verify", ONE, "--expect", "403", "-y", "--code-from", "env:CODE")
    world.opsctl(*line[:2], TWO, *line[3:], env={"CODE": f"{TWO}-wrong"}, check=0)
    world.opsctl("sandbox", "fault", "set", "hh", "POST /lease", "refuse", "--status", "403", check=0)
    said = refusal(world.opsctl(*line, env={"CODE": f"{ONE}-wrong"}), 1)
    assert "no lease_denied of it" in said
    assert TWO not in said
