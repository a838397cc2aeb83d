"""AWS CLI commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opsctl.shell import Capture, Command, Equal, Forever, Statement, Variable, Word, capture, expect, joined, run

if TYPE_CHECKING:
    from opsctl.config import Environment


def aws(environment: Environment, service: str, operation: str, /, *more: Word, region: str | None = None, **given: Any) -> Command:
    """An AWS CLI command. `given` are the parameters by their API names.

    They are passed as JSON: the CLI would read a plain value as shorthand, an option, a file or a URL if it looks like one.
    """
    where = region or environment.aws.region
    parameters = ("--cli-input-json", json.dumps(given)) if given else ()
    return run("aws", service, *operation.split(), "--region", where, *parameters, *more)


def asked(query: str) -> tuple[Word, Word, Word, Word]:
    """The options with which the AWS CLI prints one value of its answer."""
    return "--query", query, "--output", "text"


def learn(variable: str, command: Command, query: str) -> Capture:
    """Captures one value of AWS's answer in a variable."""
    return capture(variable, run(command.program, *command.words, *asked(query)))


ID = joined("--id=", Variable("id"))


def id_of(key: str, name: str) -> str:
    """The query for the id of the item with this name in a WAF list."""
    literal = json.dumps(name).replace("`", "\\`")
    return f"{key}[?Name==`{literal}`] | [0].Id"


def as_reviewed(command: Command, query: str, before: str, what: str) -> list[Statement]:
    """Statements that check that a value in AWS is still the reviewed one."""
    return [
        learn("now", command, query),
        expect(Variable("now"), before, f"{what} has changed since the plan: it was {before}."),
    ]


def wait_until(command: Command, query: str, wanted: str, *, seconds: int, what: str, every: int = 1) -> list[Statement]:
    """Queries AWS repeatedly until it returns the wanted value."""
    return [
        Forever(
            statements=(learn("now", command, query),),
            until=Equal(one=Variable("now"), other=wanted),
            seconds=seconds,
            every=every,
            otherwise=f"{what} did not get the wanted value within {seconds} s.",
        )
    ]
