"""Rehearsals of the command that acts on bounces."""

from __future__ import annotations

from scenario import Scenario
from world import World

STILL_ACTIVE = """
SELECT count(*) FROM users WHERE is_active AND email IN
    (SELECT recipient FROM ses_notifications WHERE at > now() - interval '30 days' GROUP BY recipient HAVING count(*) >= 5)
"""


def nobody_is_left(world: World) -> bool:
    """Nobody with five bounces within thirty days is active, and somebody with less is."""
    with world.database() as connection:
        over = connection.execute(STILL_ACTIVE).fetchone()
        under = connection.execute("SELECT is_active FROM users WHERE email = 'user100@example.com'").fetchone()
    return over == (0,) and under == (True,)


SCENARIOS = {
    "bounces enforce": [
        Scenario("bounces enforce", nobody_is_left, reversible=True),
    ],
}
