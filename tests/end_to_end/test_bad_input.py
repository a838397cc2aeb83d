"""Wrong names, values and counts: one line that says what, the next step, the right exit code, and nothing changed."""

from __future__ import annotations

import pytest
from bad_days import plain, runs
from world import World

MAIL_KEY = "safawinet/prod/mail-key"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("-e nowhere status", 2, "no environment 'nowhere'"),
        ("-e ../prod status", 2, "no environment '../prod'"),
        ("service scale nope 3 -y", 2, "There is no service 'nope' in sandbox. Known: api, worker"),
        ("service status nope", 2, "no service 'nope'"),
        ("service redeploy nope -y", 2, "no service 'nope'"),
        ("service scale api 101 -y", 4, "above its scale-max of 100"),
        ("service scale api 99999999999999999999 -y", 4, "above its scale-max of 100"),
        ("service scale api 60 -y", 4, "more than 80% of 100"),
        ("secrets rotate nope --value-from generate -y", 2, "no secret 'nope'"),
        ("secrets verify nope", 2, "no secret 'nope'"),
        ("secrets rotate database --value-from generate -y", 4, "would lock the application out"),
        ("secrets rotate redis --value-from generate -y", 4, "would lock the application out"),
        ("secrets rotate admin-token --value-from generate -y", 4, "no rotation configured"),
        ("secrets rollback mail-key -y", 4, "has no rotation of mail-key"),
        ("secrets rollback mail-key --to nope -y", 4, "has no version nope"),
        ("logout user nobody@example.com -y", 1, "no user 'nobody@example.com'"),
        ("logout user 99999999 -y", 1, "no user '99999999'"),
        ("logout all -y --max-affected 10", 4, "above the limit of 10"),
        ("sessions list --user nope", 1, "no user 'nope'"),
        ("runs show nope", 2, "There is no run 'nope' in this ledger"),
        ("runs resume nope", 2, "There is no run 'nope' in this ledger"),
        ("runs undo nope -y", 2, "There is no run 'nope' in this ledger"),
        ("playbook run nope", 2, "no playbook 'nope'"),
    ],
)
def test_a_name_or_a_bound_that_is_wrong(world: World, line: str, code: int, said: str) -> None:
    before = world.snapshot()
    assert said in plain(world.opsctl(*line.split()), code)
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("source", "value", "code", "said"),
    [
        ("env:VALUE", "", 4, "is empty"),
        ("env:VALUE", "  \t ", 4, "is empty"),
        ("env:NOT_SET", "", 7, "NOT_SET, which is not set"),
        ("file:VALUE", b"", 4, "is empty"),
        ("file:VALUE", b"\n", 4, "is empty"),
        ("file:VALUE", b"one\0two-three", 4, "is not text"),
        ("file:VALUE", b"\xff\xfe\xfd-one-two", 4, "is not text"),
        ("file:VALUE", b"x" * 65_537, 4, "larger than 65,536 bytes"),
        ("file:/nowhere/at/all", b"", 7, "No such file"),
        ("file:/", b"", 7, "directory"),
        ("file:/dev/zero", b"", 4, "it is a device"),
        ("-", b"", 4, "is empty"),
        ("-", b" \r\n", 4, "is empty"),
        ("-", b"\xc3\x28-one-two", 4, "is not text"),
        ("-", b"x" * 200_000, 4, "larger than 65,536 bytes"),
    ],
)
def test_a_value_that_is_no_value(world: World, source: str, value: str | bytes, code: int, said: str) -> None:
    before = world.snapshot()
    env = {"VALUE": value} if isinstance(value, str) else {}
    if isinstance(value, bytes):
        (world.home / "value").write_bytes(value)
    source = source.replace("file:VALUE", f"file:{world.home / 'value'}")
    piped = value if source == "-" else b""

    done = world.opsctl("secrets", "rotate", "mail-key", "--value-from", source, "-y", env=env, input=piped)

    assert said in plain(done, code)
    assert runs(world) == []
    assert world.snapshot() == before


def test_a_binary_secret_gets_no_text(world: World) -> None:
    before = world.snapshot()
    assert "contains a binary value" in plain(world.opsctl("secrets", "rotate", "tls-pin", "--value-from", "generate", "-y"), 4)
    assert world.snapshot() == before


@pytest.mark.parametrize("held", ["the-plain-words-of-it", '["a", "list-of-it"]', '"text-of-it"', "null"])
def test_a_secret_that_is_no_json_object_gets_no_key(world: World, held: str) -> None:
    world.aws("secretsmanager").put_secret_value(SecretId="safawinet/prod/mail-key", SecretString=held)
    before = world.secrets()["safawinet/prod/mail-key"]
    done = world.opsctl("secrets", "rotate", "mail-key", "--value-from", "generate", "-y")
    assert "is not a JSON object, so it has no key 'key'" in plain(done, 4)
    assert "of-it" not in done.out + done.err
    assert world.secrets()["safawinet/prod/mail-key"] == before


def test_a_signing_key_too_short_is_refused_before_anything_is_staged(world: World) -> None:
    before = world.snapshot()
    done = world.opsctl("secrets", "rotate", "jwt", "--value-from", "env:VALUE", "-y", env={"VALUE": "too-short-a-key"})
    assert "too short" in plain(done, 4)
    assert "too-short-a-key" not in done.err + done.out
    assert world.snapshot() == before


@pytest.mark.parametrize("source", ["-", "env:VALUE", "file:VALUE"])
def test_a_value_arrives_as_it_is(world: World, source: str) -> None:
    value = 'quote " backslash \\ dollar $HOME ümlaut 秘密 end'
    (world.home / "value").write_text(value + "\n")
    source = source.replace("file:VALUE", f"file:{world.home / 'value'}")
    done = world.opsctl("secrets", "rotate", "mail-key", "--value-from", source, "-y", env={"VALUE": value}, input=value + "\n", check=0)
    assert world.secret(MAIL_KEY, "key") == value
    assert "ümlaut" not in done.out + done.err


@pytest.mark.parametrize(
    "line",
    [
        "service scale api -1",
        "service scale api x",
        "service scale api",
        "nope",
        "secrets rotate mail-key --value-from literal-secret-value",
        "secrets rotate mail-key --value-from env:",
        "logout bulk",
        "logout bulk --inactive-for 9x",
        "logout bulk --inactive-for 99999999999999999999d",
        "logout bulk --inactive-for 0s",
        "logout bulk --inactive-for 0s --last-login-before 2024-01-01",
        "logout bulk --users-from /nowhere/at/all",
        "logout all --save plan.json",
        "runs settle x 1 --reason r",
        "apply /nowhere/at/all",
        "playbook run token-compromise foo=bar",
        "playbook run token-compromise scope=single",
        "playbook run token-compromise scope=other",
        "-o xml status",
    ],
)
def test_a_line_that_is_no_line_is_a_usage_error(world: World, line: str) -> None:
    done = world.opsctl(*line.split())
    assert done.code == 2, str(done)
    assert "Traceback" not in done.err
    assert done.out == ""
    assert "literal-secret-value" not in done.err


@pytest.mark.parametrize(
    "line",
    [
        ("logout", "user", "\udcff"),
        ("notify", "slack", "--message", "a\udcfe", "-n"),
        ("runs", "show", "\udcff"),
        ("playbook", "run", "token-compromise", "scope=single", "user=\udcff"),
        ("-e", "\udcff", "status"),
    ],
)
def test_arguments_that_are_no_text(world: World, line: tuple[str, ...]) -> None:
    assert "is not valid UTF-8" in plain(world.opsctl(*line), 2)


def test_no_at_the_question_changes_nothing(world: World) -> None:
    before = world.snapshot()
    done = world.opsctl("service", "scale", "api", "4", typed="n\n")
    assert "Not approved" in plain(done, 4)
    assert runs(world) == []
    assert world.snapshot() == before


def test_the_question_names_the_place(world: World) -> None:
    done = world.opsctl("service", "scale", "api", "4", typed="y\n", check=0)
    for word in ("sandbox", "123456789012", "oncall", "[y/N]"):
        assert word in done.screen
    assert world.service("api")["desiredCount"] == 4


def test_no_terminal_and_no_yes_waits(world: World) -> None:
    before = world.snapshot()
    done = world.opsctl("-o", "json", "service", "scale", "api", "4")
    plain(done, 7)
    assert done.json["result"] == "waiting"
    assert "--yes" in done.err
    assert world.snapshot() == before


@pytest.mark.parametrize(("typed", "code"), [("service/api\n", 4), ("sessions\n", 0), ("y\n", 4)])
def test_in_a_protected_place_the_target_is_typed(world: World, typed: str, code: int) -> None:
    world.configure({"protected = false": "protected = true"})
    done = world.opsctl("logout", "all", "-y", typed=typed)
    assert done.code == code, str(done)
    assert (world.count("SELECT count(*) FROM refresh_sessions") == 0) is (code == 0)


def test_in_a_protected_place_yes_is_not_enough(world: World) -> None:
    world.configure({"protected = false": "protected = true"})
    plain(world.opsctl("logout", "all", "-y"), 7)
    plain(world.opsctl("logout", "all", "-y", "--confirm", "session"), 4)
    assert world.count("SELECT count(*) FROM refresh_sessions") == 50_000
    world.opsctl("logout", "all", "--confirm", "sessions", check=0)
    assert world.count("SELECT count(*) FROM refresh_sessions") == 0


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "line",
    [
        "apply FILE",
        "runs verify --seal FILE",
        "logout bulk --users-from FILE -n",
        "downloads disable --from-file FILE -n",
        "bounces process FILE -n",
        "secrets rotate mail-key --value-from file:FILE -n",
    ],
)
def test_a_file_that_is_endless_or_a_device_is_refused(world: World, line: str) -> None:
    before = world.snapshot()
    done = world.opsctl(*line.replace("FILE", "/dev/zero").split())
    assert "it is a device, not a regular file" in plain(done, done.code)
    assert done.code in (2, 4), str(done)
    assert world.snapshot() == before


@pytest.mark.parametrize(("line", "code"), [("apply FILE", 2), ("runs verify --seal FILE", 2), ("logout bulk --users-from FILE -n", 2)])
def test_a_file_above_the_bound_is_refused(world: World, line: str, code: int) -> None:
    path = world.home / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "it has more than" in plain(world.opsctl(*line.replace("FILE", str(path)).split()), code)


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"changes": ' + DEEP, '{"changes": [{"change": ' + DEEP, '{"changes": [], "a": ' + '{"a": ' * 100_000, "[" * 900 + "]" * 900],
    ids=["array", "changes", "change", "objects", "arrays"],
)
def test_a_plan_that_is_nested_too_deeply_is_no_plan(world: World, text: str) -> None:
    path = world.home / "deep.json"
    path.write_text(text)
    plain(world.opsctl("apply", str(path)), 2)
