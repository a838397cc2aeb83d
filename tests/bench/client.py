"""The second client: signs in and refreshes all the while, and says how long each of its statements had to wait.

`python -m tests.bench.client DATABASE` reads its login from the sandbox's variables, says `ready`, works until its standard input
ends, and prints one line of JSON: how many statements, and the worst and the 99.9th percentile of their times in milliseconds.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time

import psycopg
from psycopg.rows import TupleRow

REST = 0.001
"""Seconds between two statements, so that a bound processor isn't what is measured."""
SIGN_IN = "INSERT INTO refresh_sessions (user_id, token_hash, expires_at) VALUES (1, %s, now() + interval '30 days') RETURNING id"
REFRESH = "UPDATE refresh_sessions SET token_hash = %s, expires_at = now() + interval '30 days' WHERE id = %s"


def one(connection: psycopg.Connection[TupleRow], statement: str, *values: str) -> int:
    """The first column of the one row that a statement returns."""
    row = connection.execute(statement, values).fetchone()
    assert row
    return int(row[0])


def main(database: str) -> None:
    """Two of three statements refresh: the session made just before, or an old one of anybody's."""
    taken = []
    with psycopg.connect(dbname=database, autocommit=True) as connection:
        highest = one(connection, "SELECT max(id) FROM refresh_sessions")
        mine = highest
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for number in range(10**9):
            if select.select([sys.stdin], [], [], REST)[0]:
                break
            token = f"{number}-{random.random()}"
            began = time.perf_counter()
            if number % 3 == 0:
                mine = one(connection, SIGN_IN, token)
            else:
                connection.execute(REFRESH, [token, mine if number % 3 == 1 else random.randint(1, highest)])
            taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    told = {"statements": len(taken), "worst": taken[-1], "most": taken[int(len(taken) * 0.999)]}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
