"""HH's secrets by the command line: proven before they are current, brought to the functions, and taken back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from world import World

WEST = "us-west-2"
EDGE = "/hh/prod/edge-shared-secret"
ROTATE = ("secrets", "rotate", "edge-shared-secret", "--value-from")
CANARY = "canary-5c1f09e3d7b64827f3a9c51e0d84b26a"


def variables(world: World, version: str = "$LATEST") -> dict[str, str]:
    found = world.aws("lambda", WEST).get_function_configuration(FunctionName="hh-authz", Qualifier=version)
    variables: dict[str, str] = found["Environment"]["Variables"]
    return variables


def kept(world: World) -> str:
    return str(json.loads(world.aws("secretsmanager", WEST).get_secret_value(SecretId=EDGE)["SecretString"])["secret"])


def states(result: Any) -> dict[str, str]:
    return {change["kind"]: change["state"] for change in result.json["changes"]}


def rotate(world: World, value: str = CANARY, *options: str) -> Any:
    return world.opsctl("-o", "json", *ROTATE, "env:NEW", "-y", *options, typed="ready\n", env={"NEW": value})


def test_a_given_edge_secret_reaches_the_function_and_the_store_and_is_taken_back(world: World) -> None:
    former = variables(world)
    first = rotate(world)
    assert (first.code, first.json["result"]) == (0, "changed"), first
    assert variables(world) == {**former, "EDGE_SHARED_SECRET": CANARY}
    assert kept(world) == CANARY
    assert "hh login --system" in first.out
    assert CANARY not in first.out + first.err + first.screen
    again = rotate(world, CANARY, "--again")
    assert set(states(again).values()) == {"done"}, again
    undone = world.undo(first.json["run"])
    assert undone.code == 0, undone
    assert variables(world) == former
    assert kept(world) == former["EDGE_SHARED_SECRET"]


def test_nothing_is_staged_unless_the_installer_is_ready(world: World) -> None:
    before = world.snapshot(sessions=False)
    refused = world.opsctl(*ROTATE, "generate", "-y", typed="not ready\n")
    assert refused.code == 4, refused
    waiting = world.opsctl(*ROTATE, "generate", "-y")
    assert waiting.code == 7, waiting
    assert world.snapshot(sessions=False) == before


def test_an_alias_gets_what_was_published_and_nothing_else(world: World) -> None:
    client = world.aws("lambda", WEST)
    first = client.publish_version(FunctionName="hh-authz")["Version"]
    client.create_alias(FunctionName="hh-authz", Name="live", FunctionVersion=first)
    world.configure({'[functions.hh-authz]\nname = "hh-authz"': '[functions.hh-authz]\nalias = "live"\nname = "hh-authz"'})
    unpublished = {**variables(world), "LOG_LEVEL": "debug"}
    client.update_function_configuration(FunctionName="hh-authz", Environment={"Variables": unpublished})
    refused = rotate(world)
    assert refused.code == 4, refused
    assert "publishing would make them live" in refused.err
    client.update_function_configuration(FunctionName="hh-authz", Environment={"Variables": {**unpublished, "LOG_LEVEL": "info"}})
    done = rotate(world)
    assert done.code == 0, done
    served = client.get_alias(FunctionName="hh-authz", Name="live")["FunctionVersion"]
    assert served != first
    assert variables(world, served)["EDGE_SHARED_SECRET"] == CANARY
    assert world.undo(done.json["run"]).code == 0
    assert client.get_alias(FunctionName="hh-authz", Name="live")["FunctionVersion"] == first


def test_what_others_issue_is_never_generated(world: World) -> None:
    for name, issuer in (("hubspot-token", "HubSpot"), ("ghcr", "GitHub"), ("hubspot-app-secret", "HubSpot")):
        refused = world.opsctl("secrets", "rotate", name, "--value-from", "generate", "-y", check=4)
        assert f"next: {issuer} issues it" in refused.err


@pytest.mark.parametrize(
    ("name", "value"), [("hubspot-token", CANARY), ("ghcr", CANARY), ("hubspot-app-secret", f"{CANARY[:20]} {CANARY[20:]}")]
)
def test_a_value_that_does_not_do_its_work_is_not_staged(world: World, name: str, value: str) -> None:
    before = world.secrets()
    refused = world.opsctl("secrets", "rotate", name, "--value-from", "env:NEW", "-y", env={"NEW": value}, check=4)
    assert value not in refused.err
    assert world.secrets() == before


def test_a_caching_function_that_fails_since_shows(world: World) -> None:
    new = {"NEW": world.facts["hs_next_token"]}
    world.opsctl("secrets", "rotate", "hubspot-token", "--value-from", "env:NEW", "-y", env=new, check=0)
    world.opsctl("secrets", "verify", "hubspot-token", check=0)
    logs = world.aws("logs", WEST)
    stream = logs.describe_log_streams(logGroupName="/aws/lambda/hh-lease")["logStreams"][0]["logStreamName"]
    event = {
        "timestamp": int(time.time() * 1000),
        "message": json.dumps({"type": "lease_error", "detail": f"Authorization: Bearer {CANARY}"}),
    }
    logs.put_log_events(logGroupName="/aws/lambda/hh-lease", logStreamName=stream, logEvents=[event])
    failed = world.opsctl("secrets", "verify", "hubspot-token", check=1)
    assert "hh-lease has logged no failure" in failed.out
    assert "lease_error detail=Authorization: [secret]" in " ".join(failed.out.split())
    assert CANARY not in failed.out + failed.err


def test_functions_are_started_anew_on_the_way_there_and_waited_for_on_the_way_back(world: World) -> None:
    """On the way back they start before the former value is current again, and so keep the other one until their cache runs out."""
    world.configure({'cache = "world:function_cache"': 'cache = "1h"'})
    line = ("secrets", "rotate", "ghcr", "--value-from", "env:NEW", "--refresh-now", "-y")
    done = world.opsctl("-o", "json", *line, env={"NEW": world.facts["ghcr_next_pat"]}, check=0)
    undone = world.opsctl("runs", "undo", done.json["run"], "-y", "--no-wait", check=6)
    assert "hh-lease may use the former value" in undone.out + undone.err
    assert "secret/ghcr/AWSCURRENT" in undone.err


def test_the_list_shows_a_function_secret_by_its_function(world: World) -> None:
    rows = {row["name"]: row for row in world.opsctl("-o", "json", "secrets", "list", check=0).json}
    assert (rows["edge-shared-secret"]["version"], rows["edge-shared-secret"]["state"]) == (None, "ok")
    assert rows["edge-shared-secret"]["changed"]
