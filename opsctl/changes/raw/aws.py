"""Calls of AWS's own command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsctl.shell import Capture, Command, Equal, Forever, Statement, Variable, Word, capture, expect, joined, run

if TYPE_CHECKING:
    from opsctl.config import Environment


def aws(environment: Environment, service: str, operation: str, /, *more: Word, region: str | None = None, **given: Any) -> Command:
    """A call of AWS's command line. `given` are the parameters as its API calls them.

    They travel as JSON: an option's value would be taken for shorthand, an option, a file or an address, whatever it looks like.
    """
    where = region or environment.aws.region
    parameters = ("--cli-input-json", json.dumps(given)) if given else ()
    return run("aws", service, *operation.split(), "--region", where, *parameters, *more)


def asked(query: str) -> tuple[Word, Word, Word, Word]:
    """The options that have AWS's command line print one thing of its answer."""
    return "--query", query, "--output", "text"


def learn(variable: str, command: Command, query: str) -> Capture:
    """A variable takes one thing of what AWS answers."""
    return capture(variable, run(command.program, *command.words, *asked(query)))


ID = joined("--id=", Variable("id"))


def id_of(key: str, name: str) -> str:
    """The query for the id of what is called so in a list of WAF's."""
    literal = json.dumps(name).replace("`", "\\`")
    return f"{key}[?Name==`{literal}`] | [0].Id"


def as_reviewed(command: Command, query: str, before: str, what: str) -> list[Statement]:
    """What AWS says still is what was reviewed."""
    return [
        learn("now", command, query),
        expect(Variable("now"), before, f"{what} has changed since the plan: it was {before}."),
    ]


def wait_until(command: Command, query: str, wanted: str, *, seconds: int, what: str, every: int = 1) -> list[Statement]:
    """Ask AWS again and again, until it says what is wanted."""
    return [
        Forever(
            statements=(learn("now", command, query),),
            until=Equal(one=Variable("now"), other=wanted),
            seconds=seconds,
            every=every,
            otherwise=f"{what} did not get the wanted value within {seconds} s.",
        )
    ]
