from collections.abc import Mapping

import click
import msgspec
import pytest
from playbook_world import DRY, LATER, YES, House, Killed, Put, Watch

from opsctl.cli.context import AppContext
from opsctl.cli.hints import next_line
from opsctl.cli.parsed import ParsedCommand
from opsctl.engine.ledger import verify
from opsctl.engine.options import Options
from opsctl.errors import ConfigurationError, InputRequired, Interrupted, NotFound, OpsctlError, Refused
from opsctl.playbook import runner
from opsctl.playbook.outcome import PlaybookOutcome

DRILL = """
title: A drill
parameters:
  scope: {choices: [one, all], default: all}
steps:
  - ask: Look around
    section: First
    mark: 0-15 min
  - run: put door shut
    id: door
  - ask: Is it raining?
    id: rain
    choices: [yes, no]
  - run: put roof shut
    id: roof
    when: {rain: yes}
  - run: put window shut
    id: window
    when: {scope: one}
  - run: put lamp "of {scope}"
    id: lamp
    follows: door
  - verify: healthy
    id: health
  - verify: put door shut
"""


def run(invocation: AppContext, *words: str, options: Options = YES, assume: bool = False) -> PlaybookOutcome:
    return runner.run(invocation, "drill", words, options, assume=assume)


def said(invocation: AppContext) -> str:
    reporter = invocation.reporter
    assert isinstance(reporter, Watch)
    return "\n".join(reporter.lines)


def states(outcome: PlaybookOutcome) -> dict[str, str]:
    return {step["step"]: step["state"] for step in outcome.steps}


def test_steps_are_taken_in_order_and_told(house: House) -> None:
    house.write(DRILL)
    here = house.process("", "yes")
    outcome = run(here)
    assert outcome.error is None
    assert outcome.result == "changed"
    assert house.world.effects == ["door=shut", "roof=shut", "lamp=of all"]
    assert [(c["step"], c["state"]) for c in outcome.as_json()["changes"]] == [
        ("door", "applied"),
        ("roof", "applied"),
        ("lamp", "applied"),
    ]
    assert list(states(outcome).values()) == ["answered", "changed", "answered", "changed", "not needed", "changed", "verified", "verified"]
    assert outcome.steps[2]["answer"] == "yes"
    assert msgspec.json.encode(outcome.as_json())
    parent = here.ledger.run(outcome.run or "")
    assert parent.kind == "playbook"
    assert [child.item for child in reversed(here.ledger.children(parent.id))] == [2, 4, 6]
    assert verify.verify(here.ledger) == []


def test_answers_are_kept_with_who_gave_them(house: House) -> None:
    house.write(DRILL)
    here = house.process("", "no")
    run_id = run(here).run or ""
    answers = [e.detail for e in here.ledger.events(run_id) if e.what == "answered"]
    assert [(a["question"], a["answer"], a["assumed"], a["who"]) for a in answers] == [
        ("Look around", "done", False, here.operator),
        ("Is it raining?", "no", False, here.operator),
    ]


def test_twice_is_once(house: House) -> None:
    house.write(DRILL)
    run(house.process("", "no"))
    outcome = run(house.process("", "no"))
    assert (outcome.result, outcome.exit_code) == ("unchanged", 0)
    assert house.world.effects == ["door=shut", "lamp=of all"]


def test_a_dry_run_shows_the_whole_and_touches_nothing(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(DRILL)
    here = house.process()
    outcome = run(here, options=DRY)
    assert (outcome.result, outcome.exit_code, outcome.run) == ("would-change", 3, None)
    assert states(outcome) == {
        "1": "pending",
        "door": "pending",
        "rain": "pending",
        "roof": "depends on an answer",
        "window": "not needed",
        "lamp": "pending",
        "health": "passes now",
        "8": "fails now",
    }
    shown = capsys.readouterr().out
    for line in (
        "First · 0-15 min",
        "depends on an answer: runs when rain is yes",
        "not needed (only when scope is one)",
        "starts from the end of step door",
        "  1 thing",
    ):
        assert line in shown
    assert house.world.effects == []
    assert here.ledger.runs() == []


def test_a_dry_run_of_what_is_so_exits_0(house: House) -> None:
    house.write(DRILL)
    run(house.process("", "yes"))
    assert run(house.process(), options=DRY).exit_code == 0


def test_one_step_that_cannot_be_planned_hides_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(DRILL)
    _unplannable(monkeypatch, OpsctlError("The door is unreachable."))
    outcome = run(house.process(output="json"), options=DRY)
    assert (outcome.result, outcome.exit_code) == ("failed", 1)
    assert [s.get("error") for s in outcome.steps if s["step"] in ("door", "lamp")] == ["The door is unreachable.", None]
    assert [c["step"] for c in outcome.changes] == ["roof", "lamp"]


def test_a_command_that_is_used_wrongly_is_told_at_its_step(house: House) -> None:
    house.write("title: t\nsteps:\n  - run: fussy\n  - run: put a b\n")
    outcome = run(house.process(output="json"), options=DRY)
    assert [s.get("error") for s in outcome.steps] == ["`fussy`: Say more.", None]
    here = house.process()
    with pytest.raises(ConfigurationError, match="Say more"):
        run(here)
    assert here.ledger.runs() == []


@pytest.mark.parametrize("error", [Refused("no"), NotFound("no such door"), ConfigurationError("no")])
def test_what_will_surely_be_refused_stops_the_run_before_it_begins(
    house: House, monkeypatch: pytest.MonkeyPatch, error: OpsctlError
) -> None:
    house.write(DRILL)
    _unplannable(monkeypatch, error)
    here = house.process("", "yes")
    with pytest.raises(type(error)):
        run(here)
    assert here.ledger.runs() == []


def _unplannable(monkeypatch: pytest.MonkeyPatch, error: OpsctlError) -> None:
    check = Put.check

    def broken(self: Put, read: object) -> object:
        if self.name == "door":
            raise error
        return check(self, read)  # type: ignore[arg-type]

    monkeypatch.setattr(Put, "check", broken)


def test_an_impact_above_the_bound_is_refused_at_once(house: House) -> None:
    house.write(DRILL)
    house.world.sizes["lamp"] = 500
    outcome = run(house.process(), options=Options(dry_run=True, max_affected=100))
    assert (outcome.result, outcome.exit_code) == ("refused", 4)


def test_it_is_agreed_once_for_all_steps(house: House) -> None:
    house.write(DRILL)
    here = house.process("y", "", "yes")
    assert run(here, options=Options()).result == "changed"
    assert [q for q in here.person.asked if "Apply" in q] == here.person.asked[:1]  # type: ignore[attr-defined]


def test_nobody_there_to_agree_begins_nothing(house: House) -> None:
    house.write(DRILL)
    here = house.process()
    with pytest.raises(InputRequired):
        run(here, options=Options())
    here = house.process("n")
    with pytest.raises(Refused, match="Not approved"):
        run(here, options=Options())
    assert here.ledger.runs() == []


def test_a_protected_environment_wants_the_gravest_target_typed(house: House) -> None:
    house.write(DRILL)
    house.protected = True
    house.world.sizes["lamp"] = 5_000
    with pytest.raises(InputRequired):
        run(house.process(), options=YES)
    with pytest.raises(Refused, match="not 'name/lamp'"):
        run(house.process("name/door"), options=YES)
    assert run(house.process("", "no"), options=Options(confirm="name/lamp")).result == "changed"


def test_a_follower_is_bound_to_the_servers_clock(house: House) -> None:
    house.write(DRILL)
    house.world.values["lamp"], house.world.since["lamp"] = "of all", house.world.now() - 2 * LATER
    outcome = run(house.process("", "no"))
    lamp = next(c for c in outcome.changes if c["step"] == "lamp")
    assert lamp["state"] == "applied", "a lamp put by somebody else before the door is not ours"
    here = house.process()
    child = next(r for r in here.ledger.children(outcome.run) if r.item == 6)
    change = here.ledger.steps(child.id)[0].change
    assert isinstance(change, Put)
    assert change.after == house.world.since["door"]


def test_a_follower_of_a_step_that_was_not_needed_is_not_bound(house: House) -> None:
    house.write("title: t\nparameters: {p: {choices: [a, b], default: a}}\nsteps:\n  - run: put x 1\n    id: x\n    when: {p: b}\n"
                "  - run: put y 1\n    follows: x\n")  # fmt: skip
    house.world.values["y"], house.world.since["y"] = "1", house.world.now()
    assert run(house.process()).result == "unchanged"


def test_growth_within_a_tenth_is_agreed_and_beyond_it_asked(house: House) -> None:
    house.write("title: t\nsteps:\n  - ask: Go on\n  - run: put lamp on\n    id: lamp\n")
    house.world.sizes["lamp"] = 100
    waiting = run(house.process())
    assert waiting.exit_code == 7
    house.world.sizes["lamp"] = 111
    here = house.process("")
    outcome = _resume(here, waiting)
    assert (outcome.result, outcome.exit_code) == ("waiting", 7)
    assert "111 things now, 100 approved" in said(here)
    house.world.sizes["lamp"] = 110
    assert _resume(house.process(), waiting).result == "changed"


def test_a_yes_said_ahead_is_none_for_what_was_not_shown(house: House) -> None:
    house.write("title: t\nsteps:\n  - run: put door shut\n  - run: put lamp on\n    id: lamp\n")
    here = house.process()
    check = Put.check

    def grown(self: Put, read: object) -> object:
        house.world.sizes["lamp"] = 100 if "door=shut" in house.world.effects else 1
        return check(self, read)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Put, "check", grown)
        outcome = run(here)
        assert outcome.exit_code == 7
        assert house.world.effects == ["door=shut"]
        again = _resume(house.process(), outcome, options=YES)
    assert again.result == "changed", "a yes that is said after the step was shown counts"


def _resume(here: AppContext, outcome: PlaybookOutcome, options: Options | None = None, **special: str) -> PlaybookOutcome:
    return runner.resume(here, here.ledger.run(outcome.run or ""), options or Options(), **special)


def test_without_a_terminal_it_waits_at_the_question(house: House) -> None:
    house.write(DRILL)
    outcome = run(house.process(""))
    assert (outcome.result, outcome.exit_code) == ("waiting", 7)
    assert outcome.error is not None
    assert next_line(outcome.error.next) == f"opsctl runs resume {outcome.run}"
    assert house.world.effects == ["door=shut"]


def test_interrupted_at_a_question_it_can_be_taken_up(house: House) -> None:
    house.write(DRILL)
    outcome = run(house.process("", KeyboardInterrupt))
    assert (outcome.exit_code, type(outcome.error)) == (6, Interrupted)
    assert outcome.error is not None
    assert next_line(outcome.error.next) == f"opsctl runs resume {outcome.run}"
    assert _resume(house.process("no"), outcome).result == "changed"


def test_answers_are_assumed_only_in_the_sandbox_and_said_to_be(house: House) -> None:
    house.write(DRILL)
    here = house.process()
    outcome = run(here, assume=True)
    assert outcome.result == "changed"
    answers = [(s["answer"], s["assumed"]) for s in outcome.steps if s["kind"] == "ask"]
    assert answers == [("done", True), ("yes", True)]
    house.sandbox = False
    with pytest.raises(Refused, match="only in the sandbox"):
        run(house.process(), assume=True)


def test_a_failed_verification_stops_the_run_and_is_looked_at_again(house: House) -> None:
    house.write(DRILL)
    house.world.good = False
    outcome = run(house.process("", "no"))
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert outcome.error is not None
    assert "--skip health" in next_line(outcome.error.next)
    assert states(outcome)["health"] == "failed"
    house.world.good = True
    assert _resume(house.process(), outcome).result == "changed"


def test_a_verification_by_a_changing_command_changes_nothing(house: House) -> None:
    house.write("title: t\nsteps:\n  - verify: put door shut\n")
    outcome = run(house.process())
    assert outcome.exit_code == 1
    assert house.world.effects == []


def test_a_failed_step_says_how_to_go_on(house: House) -> None:
    house.write(DRILL)
    house.world.broken.add("lamp")
    outcome = run(house.process("", "no"))
    assert (outcome.result, outcome.exit_code) == ("partial", 1)
    assert outcome.error is not None
    assert f"opsctl runs resume {outcome.run} --retry lamp" in next_line(outcome.error.next)


def test_a_blind_step_of_unknown_outcome_is_not_sent_again(house: House) -> None:
    house.write("title: t\nsteps:\n  - run: send hello\n    id: hello\n")
    house.world.die_after = "sent"
    with pytest.raises(Killed):
        run(house.process())
    house.world.die_after = None
    here = house.process()
    parent = here.ledger.runs()[0]
    outcome = runner.resume(here, parent, Options())
    assert (outcome.result, outcome.exit_code) == ("unknown", 6)
    with pytest.raises(Refused, match="is not sent again"):
        runner.resume(house.process(), here.ledger.run(parent.id), Options(), retry="hello", reason="why not")
    child = here.ledger.children(parent.id)[0]
    here.engine.settle(child, 1, happened=True, reason="it was read")
    assert runner.resume(house.process(), here.ledger.run(parent.id), Options()).result == "changed"
    assert house.world.effects == ["sent=hello"]


@pytest.mark.parametrize(("wish", "resumable"), [("pause", True), ("cancel", False)])
def test_a_wish_is_heeded_between_steps(house: House, wish: str, resumable: bool) -> None:
    house.write(DRILL)
    here = house.process("", "no")
    answer = here.person.text

    def wishing(question: str, otherwise: str) -> str:
        if "raining" in question:
            here.ledger.request_stop(here.ledger.runs()[0].id, wish)
        return answer(question, otherwise)

    here.person.text = wishing  # type: ignore[method-assign]
    outcome = run(here)
    assert (outcome.exit_code, house.world.effects) == (6, ["door=shut"])
    if resumable:
        assert _resume(house.process(), outcome).result == "changed"
    else:
        with pytest.raises(Refused, match="cancelled"):
            _resume(house.process(), outcome)


def test_late_answers_are_noted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("title: t\nsteps:\n  - ask: Quick\n    within: 0s\n  - ask: Slow\n    within: 1d\n")
    outcome = run(house.process("", ""))
    assert ["overdue" in step for step in outcome.steps] == [True, False]


def test_a_plan_of_a_playbook_is_not_saved(house: House) -> None:
    house.write(DRILL)
    with pytest.raises(click.UsageError):
        run(house.process(), options=Options(dry_run=True, save=house.folder / "plan"))


def test_a_line_is_parsed_once_from_lint_to_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ParsedCommand.__init__

    def counted(self: ParsedCommand, line: str, values: Mapping[str, str]) -> None:
        parsed.append(line.replace("{scope}", values.get("scope", "")))
        parse(self, line, values)

    monkeypatch.setattr(ParsedCommand, "__init__", counted)
    house.write(DRILL)
    assert run(house.process("", "yes")).error is None
    lines = ["put door shut", "put roof shut", "put window shut", 'put lamp "of all"', "healthy", "put door shut"]
    assert sorted(parsed) == sorted([*set(lines), 'put lamp "of one"']), "lint tries every choice; nothing else is parsed"
