"""The schema of a playbook's YAML."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Kind = Literal["ask", "run", "look", "verify"]

SPECIAL = ("s", "f", "?")
"""What can be typed at a question instead of an answer: skip, failed, help."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z]\w*$")]
Key = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$", description="A name for this step, unique in the playbook")]
Span = Annotated[str, Meta(pattern=r"^\d+[smhd]$", description="A time span from the start of the run, such as 90s, 5m, 24h or 7d")]
Line = Annotated[str, Meta(min_length=1)]
Condition = dict[str, str | list[str]]
When = Annotated[
    Condition | list[Condition],
    Meta(description="Parameters or earlier answers, and their required values; of a list of mappings one must match"),
]


class Parameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """A value for `playbook run`. It is required unless it has a default or a `required-when` that isn't met."""

    help: str = ""
    choices: list[str] = []
    default: str | None = None
    required_when: Condition = {}


Expect = Annotated[
    str | list[str] | dict[str, Any],
    Meta(
        description="Of a question: the required choice. Of a verify: fields and their required values in every row ('< 80%', healthy,"
        " [a, b]); `in` names the section of a page, `where` selects rows, `count` is the required number of rows"
    ),
]


class PlaybookStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """Exactly one of `ask` (a person answers), `run` (changes something), `look` (shows something) or `verify` (must pass).

    `items` lists the runbook's checkboxes that this step covers. `follows` names an earlier run step: this step acts on the state as of
    that step's end, by the server's clock.
    """

    ask: Line | None = None
    run: Line | None = None
    look: Line | None = None
    verify: Line | None = None
    id: Key | None = None
    choices: list[str] = []
    expect: Expect = {}
    within: Span | None = None
    when: When = []
    follows: str | None = None
    section: str = ""
    mark: str = ""
    items: list[str] = []
    note: str = ""

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.ask, self.run, self.look, self.verify)) != 1:
            raise ValueError("expected exactly one of ask, run, look, verify")
        if self.ask is None and (self.choices or self.within):
            raise ValueError("choices and within are allowed only in an ask")
        if self.follows and (self.ask is not None or self.look is not None):
            raise ValueError("follows is allowed only in a run or a verify")
        if len(set(self.choices)) != len(self.choices) or len(self.choices) == 1:
            raise ValueError("choices must be two or more different answers, or none")
        if reserved := [choice for choice in self.choices if choice.strip() in ("", *SPECIAL)]:
            raise ValueError(f"choices: {reserved[0]!r} can't be a choice: it is typed to skip, fail or get help")
        self._check_expect()

    def _check_expect(self) -> None:
        """Raise ValueError for an `expect` that doesn't fit the kind of step."""
        if self.expect and self.ask is None and self.verify is None:
            raise ValueError("expect is allowed only in a verify, or in an ask with choices")
        if self.expect and (self.verify is not None) != isinstance(self.expect, dict):
            raise ValueError("expect: in a verify it maps fields to required values; in an ask it is one of the choices")
        if missing := [each for each in self.expected if each not in self.choices]:
            raise ValueError(f"expect: {missing[0]!r} is not one of the choices")

    @property
    def kind(self) -> Kind:
        """The kind of the step."""
        kinds: tuple[Kind, ...] = ("ask", "run", "look", "verify")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def text(self) -> str:
        """The question or the command line, as written."""
        return str(getattr(self, self.kind))

    @property
    def expected(self) -> list[str]:
        """The choices that a question requires; empty when any choice is accepted."""
        return [] if isinstance(self.expect, dict) else values(self.expect)

    @property
    def conditions(self) -> list[Condition]:
        """`when` as a list, one of which must match; empty when the step is always needed."""
        return [self.when] if isinstance(self.when, dict) else self.when


class Playbook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """A playbook. `runbook` is the anchor of its section in RUNBOOK.md; `about` says what it is for and what users notice."""

    title: Line
    runbook: str = ""
    description: str = ""
    about: str = ""
    parameters: dict[Name, Parameter] = {}
    steps: Annotated[list[PlaybookStep], Meta(min_length=1)]

    def key(self, number: int) -> str:
        """The key of step `number` (the first is 1): its id, otherwise the number."""
        return self.steps[number - 1].id or str(number)

    def number(self, key: str) -> int | None:
        """The number of the step with this id or number; None when there is none."""
        for number, step in enumerate(self.steps, 1):
            if key in (step.id, str(number)):
                return number
        return None


def values(wanted: str | list[str]) -> list[str]:
    """A condition's value as a list."""
    return [wanted] if isinstance(wanted, str) else wanted


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a playbook, for editors. Descriptions are dedented, since Python versions differ in that."""
    schema: dict[str, Any] = msgspec.json.schema(Playbook)
    for described in (schema, *schema["$defs"].values()):
        if "description" in described:
            described["description"] = inspect.cleandoc(described["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
