"""What a playbook's YAML may say."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Kind = Literal["ask", "run", "look", "verify"]

SPECIAL = ("s", "f", "?")
"""What a person types at a question instead of an answer: skip, failed, help."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z]\w*$")]
Key = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]*$", description="A name for this step, unique in the playbook")]
Span = Annotated[str, Meta(pattern=r"^\d+[smhd]$", description="A time span such as 90s, 5m, 24h or 7d, from the run's beginning")]
Line = Annotated[str, Meta(min_length=1)]
Condition = dict[str, str | list[str]]
When = Annotated[
    Condition | list[Condition],
    Meta(description="Parameters or earlier answers and the values they must have; of a list of mappings any one is enough"),
]


class Parameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """A value that is given when the playbook is run; one without a default is required, or `required_when` says when it counts."""

    help: str = ""
    choices: list[str] = []
    default: str | None = None
    required_when: Condition = {}


Expect = Annotated[
    str | list[str] | dict[str, Any],
    Meta(
        description="Of a question: the choice that must be made. Of a verify: fields and what they must be in every row ('< 80%', healthy,"
        " [a, b]); `in` names the section of a page, `where` chooses rows, `count` says how many rows there must be"
    ),
]


class PlaybookStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """Exactly one of `ask` (a person answers), `run` (a changing command), `look` (shows) or `verify` (proves, or ends the run).

    `items` are the runbook's checkboxes that this step stands for, where its own text isn't the checkbox. `follows` names the step to whose
    outcome, on the server's clock, this one is bound.
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
            raise ValueError("choices and within belong to an ask")
        if self.follows and (self.ask is not None or self.look is not None):
            raise ValueError("an ask or a look follows nothing; follows belongs to a run or a verify")
        if len(set(self.choices)) != len(self.choices) or len(self.choices) == 1:
            raise ValueError("choices are two or more different answers, or none")
        if taken := [choice for choice in self.choices if choice.strip() in ("", *SPECIAL)]:
            raise ValueError(f"choices: {taken[0]!r} is what a person types to skip, fail or get help")
        self._check_expect()

    def _check_expect(self) -> None:
        """Raise ValueError for an `expect` that isn't of this step's kind."""
        if self.expect and self.ask is None and self.verify is None:
            raise ValueError("expect belongs to a verify, or to an ask with choices")
        if self.expect and (self.verify is not None) != isinstance(self.expect, dict):
            raise ValueError("expect: of a verify it maps fields to what they must be; of an ask it is one of the choices")
        if missing := [each for each in self.expected if each not in self.choices]:
            raise ValueError(f"expect: {missing[0]!r} is none of the choices")

    @property
    def kind(self) -> Kind:
        """Which of the four it is."""
        kinds: tuple[Kind, ...] = ("ask", "run", "look", "verify")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def text(self) -> str:
        """The question or the command line, as written."""
        return str(getattr(self, self.kind))

    @property
    def expected(self) -> list[str]:
        """The choices that a question expects; none where any will do."""
        return [] if isinstance(self.expect, dict) else values(self.expect)

    @property
    def conditions(self) -> list[Condition]:
        """`when` as a list: any one of these is enough; none at all always holds."""
        return [self.when] if isinstance(self.when, dict) else self.when


class Playbook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """A procedure. `runbook` is the anchor of its section in RUNBOOK.md, `about` what it is for and what it does to users."""

    title: Line
    runbook: str = ""
    description: str = ""
    about: str = ""
    parameters: dict[Name, Parameter] = {}
    steps: Annotated[list[PlaybookStep], Meta(min_length=1)]

    def key(self, number: int) -> str:
        """How step `number` (the first is 1) is called: its id, or the number itself."""
        return self.steps[number - 1].id or str(number)

    def number(self, key: str) -> int | None:
        """The number of the step that is called `key`, or whose number it is; None when there is none."""
        for number, step in enumerate(self.steps, 1):
            if key in (step.id, str(number)):
                return number
        return None


def values(wanted: str | list[str]) -> list[str]:
    """A condition's value as a list."""
    return [wanted] if isinstance(wanted, str) else wanted


def json_schema() -> dict[str, Any]:
    """JSON Schema of a playbook, for editors; the same under every Python, since only some of them keep a docstring's indentation."""
    schema: dict[str, Any] = msgspec.json.schema(Playbook)
    for described in (schema, *schema["$defs"].values()):
        if "description" in described:
            described["description"] = inspect.cleandoc(described["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
