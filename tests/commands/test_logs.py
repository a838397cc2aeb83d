"""`opsctl logs`: lines made readable and harmless, followed until somebody has seen enough, and queried."""

from __future__ import annotations

import json
import os
import signal

import pytest
from customers import ONE, refusal, told
from terminal import until
from world import World


def test_a_minted_token_is_never_shown(world: World) -> None:
    world.opsctl("pairing", "mint", ONE, "-y", check=0)
    token = world.contact(ONE)["download_token"]
    for form in ("table", "json"):
        done = world.opsctl("-o", form, "logs", "tail", "hh-webhook", check=0)
        assert f"minted_token {ONE} [secret]" in done.out
        assert token not in done.out + done.err


def test_json_lines_are_made_readable_and_filtered(world: World) -> None:
    done = world.opsctl(
        "-o", "json", "logs", "tail", "/aws/lambda/hh-lease", "--since", "24h", "--filter", '{ $.type = "lease_error" }', check=0
    )
    lines = [json.loads(line)["line"] for line in done.out.splitlines()]
    assert lines
    assert all(line.startswith("lease_error ") and "where=" in line for line in lines)


def test_followed_until_it_is_interrupted(world: World) -> None:
    child = world.opsctl.start("logs", "tail", "hh-lease", "--follow", "--since", "1s")
    world.opsctl("lease", "verify", ONE, "-y", check=0)
    until(lambda: "lease_ok" in child._said(1))
    os.kill(child.pid, signal.SIGINT)
    assert child.wait().code == 0


@pytest.mark.parametrize(("line", "said"), [("nope", "Unknown log group 'nope'"), ("/nope", "does not exist")])
def test_a_group_that_is_not_there(world: World, line: str, said: str) -> None:
    done = world.opsctl("logs", "tail", line)
    assert said in refusal(done, done.code)
    assert done.code in (1, 2)


def test_a_query_is_a_table_and_json_and_a_plot_on_a_terminal(world: World) -> None:
    rows = told(world, "logs", "query", "lease-outcomes")
    assert all(isinstance(row["count()"], int) for row in rows)
    assert "lease_denied" in world.opsctl("logs", "query", "lease-outcomes", check=0).out
    assert told(world, "logs", "query", "lease-errors")[0]["where"]


def test_a_bad_query_gives_cloudwatchs_own_words(world: World) -> None:
    (world.config / "queries").mkdir()
    (world.config / "queries" / "bad.txt").write_text("# functions: hh-lease\nfields @message | nonsense x\n")
    done = world.opsctl("logs", "query", "bad")
    assert "MalformedQuery" in refusal(done, 1)
    assert "Unknown query 'nope'" in refusal(world.opsctl("logs", "query", "nope"), 2)
