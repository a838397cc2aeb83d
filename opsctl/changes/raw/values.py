"""Where a script gets its credentials and secret values, and how it parses JSON. No value is a process argument."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opsctl.changes.raw.aws import aws
from opsctl.shell import File, Need, Program, Put, Statement, Variable, Wanted, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.settings import Reference

MEMBER = Program(
    "member",
    """
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    try:
        value = json.loads(value)[key]
    except (ValueError, KeyError, TypeError):
        sys.exit(f"it contains no JSON object with {key!r}")
if value is None:
    sys.exit("it contains no text")
sys.stdout.write(value if isinstance(value, str) else json.dumps(value))
""",
)
"""Writes the text that standard input is as JSON; with a key, that member of the JSON object in the text."""


ITS = Program(
    "its",
    """
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    value = value[key]
sys.stdout.write("" if value is None else value if isinstance(value, str) else json.dumps(value))
""",
)
"""Writes what the JSON of standard input has under keys, one inside the other; nothing for null."""


ITS_FIRST = Program(
    "of_the_first",
    """
import json, sys
sys.stdout.write(json.load(sys.stdin)[0][sys.argv[1]])
""",
)
"""Writes what the first object of an array has under a key."""


IS = Program(
    "has",
    """
import json, sys
*keys, wanted = sys.argv[1:]
value = json.load(sys.stdin)
for key in keys:
    value = value[key]
sys.exit(str(value) != wanted)
""",
)
"""Succeeds where the JSON of standard input has a value under keys."""


SET_MEMBER = Program(
    "set_member",
    """
import json, sys
held, key, value = sys.argv[1:]
with open(held) as file:
    members = json.load(file)
if not isinstance(members, dict):
    sys.exit(f"it is not a JSON object, so it has no {key!r}")
with open(value, newline="") as file:
    members[key] = file.read()
json.dump(members, sys.stdout)
""",
)
"""Writes the JSON object of a file with the text of another file as one member."""


ONE_LINE_END = Program(
    "without_line_end",
    r"""
import sys
value = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
if not value.strip():
    sys.exit("the value is empty")
sys.stdout.buffer.write(value)
""",
)
"""Copies a value without the line end that an editor put behind it."""


def credential(environment: Environment, reference: Reference, into: File) -> list[Statement]:
    """Writes the configured credential to a file, without the final newline."""
    if reference.aws is not None:
        command = aws(environment, "secretsmanager", "get-secret-value", region=reference.region, SecretId=reference.aws)
        text = run(command.program, *command.words, "--query", "SecretString", "--output", "json")
        return [piped(text, run(MEMBER, *filter(None, [reference.key])), output=into)]
    if reference.env is not None:
        return given_value(reference.env, f"the credential in {reference}", into)
    return [run(ONE_LINE_END, stdin=reference.file, output=into)]


def given_value(name: str, about: str, into: File) -> list[Statement]:
    """Writes a secret to a file: from a variable, or typed by whoever runs the script."""
    variable = name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"GIVEN_{re.sub('[^A-Za-z0-9]', '_', name)}"
    return [Wanted(need=Need(variable, about, secret=True)), Put(file=into, words=(Variable(variable),))]


def value_of(source: str, name: str, into: File) -> list[Statement]:
    """Writes the value of a source (`-`, `env:VARIABLE` or `file:PATH`) to a file. Standard input is asked for as NEW_NAME."""
    kind, _, rest = source.partition(":")
    if kind == "file":
        return [run(ONE_LINE_END, stdin=rest, output=into)]
    wanted = rest if kind == "env" else f"NEW_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
    return given_value(wanted, f"the new value of {name}", into)
