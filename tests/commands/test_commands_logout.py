"""`opsctl logout`: whom it takes, and what others notice of it."""

from __future__ import annotations

import pytest
from world import World


@pytest.mark.parametrize("line", ["--last-login-before 0001-01-01", "--users-from {home}/nobody.txt"])
def test_nobody_is_one_change_that_says_so(world: World, line: str) -> None:
    (world.home / "nobody.txt").write_text("# nobody yet\n")
    words = line.format(home=world.home).split()
    for dry in (["-n"], ["-y"]):
        done = world.opsctl("-o", "json", "logout", "bulk", *words, *dry, check=0)
        [change] = done.json["changes"]
        assert (done.json["result"], change["state"], change["why"]) == ("unchanged", "done", "no user meets the criteria")
    assert "no user meets the criteria" in world.opsctl("logout", "bulk", *words, "-n", check=0).out
