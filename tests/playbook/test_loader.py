from pathlib import Path

import pytest
from playbook_world import House

from opsctl import config, trust
from opsctl.errors import ConfigurationError
from opsctl.playbook import loader

HEAD = """title: A drill
parameters:
  scope: {choices: [single, all], default: all}
  user: {required-when: {scope: single}}
  free: {default: x}
steps:
"""


def problems(house: House, steps: str, head: str = HEAD) -> list[tuple[int, str]]:
    _, found = loader.inspect(house.write(head + steps))
    return [(p.line, p.what) for p in found]


def test_yes_and_no_stay_words(house: House) -> None:
    house.write("title: t\nsteps:\n  - ask: Sure?\n    id: sure\n    choices: [yes, no]\n  - ask: Then go\n    when: {sure: no}\n")
    playbook = loader.load("drill").playbook
    assert playbook.steps[0].choices == ["yes", "no"]
    assert playbook.steps[1].conditions == [{"sure": "no"}]


@pytest.mark.parametrize(
    ("steps", "line", "what"),
    [
        ("  - run: nosuch thing", 7, "No such command 'nosuch'"),
        ("  - run: put a b --colour red", 7, "No such option"),
        ("  - run: put a", 7, "Missing argument"),
        ("  - run: put a b --times many", 7, "not a valid integer"),
        ("  - run: put a {times}", 7, "{times} is not a parameter"),
        ("  - ask: Call {nobody}", 7, "{nobody} is not a parameter"),
        ("  - run: put 'a b", 7, "No closing quotation"),
        ("  - run: put --help", 7, "help"),
        ("  - run: healthy", 7, "changes nothing"),
        ("  - verify: business", 7, "neither reads nor changes"),
        ("  - run: put a b --yes", 7, "--yes, which belongs to the playbook's run"),
        ("  - run: put a b -n", 7, "--dry-run, which belongs to the playbook's run"),
        ("  - run: put a b --reason because", 7, "--reason, which belongs to the playbook's run"),
        ("  - run: put {user} b", 7, "{user} may have no value here"),
        ("  - ask: one\n    id: one\n  - ask: two\n    id: one", 10, "'one' is already the name of step 1"),
        ("  - ask: one\n    id: scope", 8, "'scope' is already the name of a parameter"),
        ("  - run: put a b\n    follows: later\n  - run: put a c\n    id: later", 7, "no earlier step has the id 'later'"),
        ("  - ask: q\n    id: q\n  - run: put a b\n    follows: q", 9, "'q' is not a run step"),
        ("  - ask: q\n    when: {weather: fine}", 7, "'weather' is neither a parameter nor an earlier question"),
        ("  - ask: q\n    when: {scope: nobody}", 7, "scope is never 'nobody'"),
        ("  - ask: q\n    id: q\n  - ask: r\n    when: {q: done}", 9, "'q' is neither a parameter nor an earlier question with choices"),
        ("  - ask: q\n    id: q\n    choices: [a, b]\n  - ask: r\n    when: [{q: a}, {q: [b, c]}]", 10, "q is never 'c'"),
        ("  - asks: q", 7, "unknown field"),
        ("  - ask: q\n    within: soon", 8, "within: "),
        ("  - run: put a b\n    times: 3", 7, "unknown field `times`"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(house: House, steps: str, line: int, what: str) -> None:
    found = problems(house, steps)
    assert [n for n, text in found if what in text] == [line], found


def test_all_problems_are_told_at_once(house: House) -> None:
    found = problems(house, "  - run: nosuch\n  - verify: business\n  - ask: q\n    when: {weather: fine}\n")
    assert [line for line, _ in found] == [7, 8, 9]
    found = problems(house, "  - run: put a b\n    wen: x\n  - asks: q\n  - ask: fine\n")
    assert [line for line, _ in found] == [7, 9]
    with pytest.raises(ConfigurationError, match=r"line 7: .*; line 9: ") as raised:
        loader.load("drill")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "missing required field"),
        ("- a\n- b\n", "Expected `object`"),
        ("title: t\nsteps: []\n", "length"),
        ("title: [t\n", "is not valid YAML"),
        ("title: t\ntitle: u\nsteps:\n  - ask: q\n", "'title' twice"),
        ("title: &a t\nsteps:\n  - ask: *a\n", "alias"),
        ("title: t\nparameters:\n  a: {choices: [x, y], default: z}\nsteps:\n  - ask: q\n", "not one of its choices"),
        ("title: t\nparameters:\n  a: {required-when: {b: x}}\nsteps:\n  - ask: q\n", "'b' is neither"),
    ],
)
def test_a_file_that_is_no_playbook_says_why(house: House, text: str, what: str) -> None:
    _, found = loader.inspect(house.write(text))
    assert any(what in p.what for p in found), found


def test_a_file_that_is_no_text_says_why(house: House) -> None:
    path = house.write("")
    path.write_bytes(b"title: \xff\n")
    assert "UTF-8" in loader.inspect(path)[1][0].what


def test_a_placeholder_of_a_type_is_taken_when_some_value_could_be(house: House) -> None:
    head = "title: t\nparameters:\n  n: {}\nsteps:\n"
    assert problems(house, "  - run: put a b --times {n}\n", head) == []
    head = "title: t\nparameters:\n  n: {choices: ['1', two]}\nsteps:\n"
    assert "not a valid integer" in problems(house, "  - run: put a b --times {n}\n", head)[0][1]


def test_an_unknown_playbook_lists_those_there_are(house: House) -> None:
    house.write("title: t\nsteps:\n  - ask: q\n")
    with pytest.raises(ConfigurationError) as raised:
        loader.load("../drill")
    assert "drill" in raised.value.next


def test_the_nearest_folder_wins(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    users = tmp_path / "home" / "opsctl" / "playbooks"
    users.mkdir(parents=True)
    for name in ("drill", "other"):
        (users / f"{name}.yaml").write_text("title: the user's\nsteps:\n  - ask: q\n")
    house.write("title: ours\nsteps:\n  - ask: q\n")
    assert loader.load("drill").playbook.title == "the user's"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config.trusted().add(loader.LOCAL_FOLDER, trust.content(loader.LOCAL_FOLDER))
    assert loader.load("drill").playbook.title == "ours"
    assert loader.load("other").playbook.title == "the user's"
    assert "token-compromise" in loader.playbook_files()
