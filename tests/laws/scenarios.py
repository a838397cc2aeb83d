"""One rehearsal or more for every changing command. A command without one fails `test_every_command_is_rehearsed`, by its name."""

from __future__ import annotations

import importlib
import json
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import changing
from scenario import CANARY, Scenario
from terminal import Child, Result
from world import CLUSTER, SERVICES, World, table

TITLE = "Sign-in trouble"
CLIENT = '{\n   "code" : "PAIR-1234",\n   "edge_auth" : "EDGE", "retries": 2.50\n}'
MAIL_KEY = "safawinet/prod/mail-key"
JWT = "safawinet/prod/jwt"
PARTNER_KEY = "safawinet/prod/partner-key"
WEST = "us-west-2"
HUBSPOT_TOKEN, APP_SECRET, GHCR = "/hh/prod/hubspot/token", "/hh/prod/hubspot/app_secret", "/hh/prod/ghcr/creds"
EDGE = "/hh/prod/edge-shared-secret"


def rotate_before(world: World) -> None:
    """Somebody rotates the signing key, so that the tasks are older than it."""
    world.rotate(JWT, "secret", "f" * 64)


def rotated(world: World) -> None:
    """We rotated the mail key a while ago."""
    told = {"FORMER": "the-key-that-a-rollback-takes-back"}
    world.opsctl("secrets", "rotate", "mail-key", "--value-from", "env:FORMER", "-y", env=told, check=0)


def write_users(world: World) -> None:
    """A file of users, as a person keeps it."""
    (world.home / "users.txt").write_text("# who asked for it\n11\nuser12@example.com\n13\n")


def no_channels(world: World) -> None:
    """Nobody has configured where notices go: a person tells them."""
    world.configure({table("channels"): ""})


def set_count(count: int) -> Callable[[World], None]:
    """Somebody else scales the api."""

    def meddle(world: World) -> None:
        world.aws("ecs").update_service(cluster=CLUSTER, service=SERVICES["api"], desiredCount=count)

    return meddle


def set_bounds(world: World) -> None:
    """Somebody else moves the api's scaling bounds."""
    where = {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{SERVICES['api']}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    world.aws("application-autoscaling").register_scalable_target(**where, MinCapacity=2, MaxCapacity=7)


def foreign_rotation(id: str, key: str) -> Callable[[World], None]:
    """Somebody else rotates the same secret."""
    return lambda world: world.rotate(id, key, "somebody-else-chose-this-one-0123456789")


def no_session_of(*users: int) -> Callable[[World], bool]:
    """Whether these users have no session left, all others have theirs, and the API refuses their tokens."""

    def so(world: World) -> bool:
        names = ", ".join(map(str, users))
        left = world.count(f"SELECT count(*) FROM refresh_sessions WHERE user_id IN ({names})")
        others = world.count("SELECT count(*) FROM refresh_sessions")
        cache = world.cache()
        cached = [key for user in users for key in cache.scan_iter(f"session:{user}:*", count=10_000)]
        marked = all(cache.exists(f"auth:revoked:user:{user}") for user in users)
        return left == 0 and others > 49_000 and not cached and marked

    return so


def no_session(world: World) -> bool:
    """Whether nobody has a session, other keys are there, and the API refuses every token."""
    cache = world.cache()
    cached = next(iter(cache.scan_iter("session:*", count=50_000)), None)
    foreign = int(cache.dbsize())  # type: ignore[arg-type]
    rows = world.count("SELECT count(*) FROM refresh_sessions")
    return rows == 0 and cached is None and foreign >= 5_000 and bool(cache.exists("auth:revoked:all"))


def partner_key_replaced(world: World) -> bool:
    """Whether Secrets Manager's own rotation has replaced the key, once."""
    return len(world.secrets()[PARTNER_KEY]) == 2 and any("AWSPREVIOUS" in labels for labels, _ in world.secrets()[PARTNER_KEY].values())


def new_key(world: World) -> bool:
    """Whether the signing key is a new one of 64 hex digits."""
    now = world.secret(JWT, "secret")
    return len(now) == 64 and now != world.facts["jwt_secret"]


def compromised_gone(world: World) -> bool:
    """Whether the key is new, and the old one has no label left."""
    stages = [label for labels, _ in world.secrets()[JWT].values() for label in labels]
    return new_key(world) and "AWSPREVIOUS" not in stages


def canary_is_current(world: World) -> bool:
    """Whether the mail key is the given one."""
    return world.secret(MAIL_KEY, "key") == CANARY


def said(channel: str, text: str) -> Callable[[World], bool]:
    """Whether a channel has it once; PagerDuty itself makes one of what comes under one deduplication key."""

    def so(world: World) -> bool:
        found = [sent for sent in world.sent()[channel] if text in str(sent)]
        return len({sent.get("dedup_key", number) for number, sent in enumerate(found)}) == 1

    return so


def redeployed(*names: str) -> Callable[[World], bool]:
    """Whether services have a completed deployment that is younger than the signing key."""

    def so(world: World) -> bool:
        versions = world.aws("secretsmanager").list_secret_version_ids(SecretId=JWT)["Versions"]
        since = next(v["CreatedDate"] for v in versions if "AWSCURRENT" in v["VersionStages"])
        newest = [world.service(name)["deployments"][0] for name in names]
        return all(d["rolloutState"] == "COMPLETED" and d["createdAt"] >= since for d in newest)

    return so


def scaled(count: int, least: int) -> Callable[[World], bool]:
    """Whether the api runs so many tasks, and its scaling lets it."""
    return lambda world: world.service("api")["runningCount"] == count and world.bounds() == (least, 10)


def write_client(edge_auth: str) -> Callable[[World], None]:
    """The configuration of `hh` as its login leaves it, or somebody else."""

    def write(world: World) -> None:
        path = world.home / ".hh" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(CLIENT.replace("EDGE", edge_auth))
        path.chmod(0o640)

    return write


def client_has_canary(world: World) -> bool:
    """Whether the one field is the canary, and everything else in the folder is as it was."""
    (path,) = (world.home / ".hh").iterdir()
    return path.read_text() == CLIENT.replace("EDGE", CANARY) and stat.S_IMODE(path.stat().st_mode) == 0o640


def west(world: World, id: str, key: str) -> str:
    """A current value of HH's secrets."""
    value = world.aws("secretsmanager", WEST).get_secret_value(SecretId=id)["SecretString"]
    return str(json.loads(value)[key])


def rotated_west(id: str, key: str) -> Callable[[World], None]:
    """Somebody else rotates one of HH's secrets."""
    value = json.dumps({"username": "hh-partner", key: "somebody-else-chose-this-one-0123456789"})
    return lambda world: world.aws("secretsmanager", WEST).put_secret_value(SecretId=id, SecretString=value)


def edge_variables(world: World) -> dict[str, str]:
    """The authorizer's environment variables."""
    found: dict[str, str] = world.aws("lambda", WEST).get_function_configuration(FunctionName="hh-authz")["Environment"]["Variables"]
    return found


def new_edge_secret(world: World) -> bool:
    """Whether the authorizer has the new value that is kept for the installer, and its other variables."""
    now = edge_variables(world)
    kept = west(world, EDGE, "secret")
    return (
        now == {"EDGE_SHARED_SECRET": kept, "HUBSPOT_TOKEN_SECRET": HUBSPOT_TOKEN, "LOG_LEVEL": "info"}
        and kept != world.facts["edge_shared_secret"]
    )


def set_edge_secret(world: World) -> None:
    """Somebody else sets the authorizer's variable."""
    variables = {**edge_variables(world), "EDGE_SHARED_SECRET": "somebody-else-chose-this-one-0123456789"}
    world.aws("lambda", WEST).update_function_configuration(FunctionName="hh-authz", Environment={"Variables": variables})


def refreshed(world: World) -> bool:
    """Whether GHCR's new token is current, beside its user, and the lease function's callers meet a version that is younger."""
    served = world.aws("lambda", WEST).get_alias(FunctionName="hh-lease", Name="live")["FunctionVersion"]
    named = west(world, GHCR, "username") == "hh-partner"
    return west(world, GHCR, "pat") == world.facts["ghcr_next_pat"] and named and served != "1"


def always(world: World) -> bool:
    """What only a person can tell."""
    return True


def enabled(value: str, *contacts: str) -> Callable[[World], bool]:
    """Whether downloads are so for these contacts."""
    return lambda world: all(world.contact(contact)["download_enabled"] == value for contact in contacts)


def set_enabled(contact: str, value: str) -> Callable[[World], None]:
    """Somebody else decides about a contact's downloads."""
    return lambda world: world.hubspot("PATCH", f"/{contact}", {"properties": {"download_enabled": value}})


def another_token(contact: str) -> Callable[[World], bool]:
    """Whether a contact has a token that it wasn't seeded with."""

    def so(world: World) -> bool:
        history = world.hubspot("GET", f"/{contact}?propertiesWithHistory=download_token")["propertiesWithHistory"]["download_token"]
        return bool(history[0]["value"]) and history[0]["value"] != history[-1]["value"]

    return so


def write_contacts(world: World) -> None:
    """A file of contacts as HubSpot exports it."""
    rows = [f"{PAIRED},one@example.com", f"{ALSO_PAIRED},two@example.com", f"{UNPAIRED},three@example.com"]
    (world.home / "contacts.csv").write_text("\n".join(["\ufeffRecord ID,Email", *rows]))


PAIRED, ALSO_PAIRED, UNPAIRED = "156855158284", "156855158285", "156855158293"
GENERATE = "--value-from generate"
SCENARIOS: dict[str, list[Scenario]] = {
    "service scale": [
        Scenario("service scale api 3", scaled(3, 3), meddle=set_count(5), reversible=True),
        Scenario("service scale api 1", scaled(1, 1), meddle=set_bounds, reversible=True, variant=True),
    ],
    "service redeploy": [Scenario("service redeploy api worker", redeployed("api", "worker"), prepare=rotate_before)],
    "secrets rotate": [
        Scenario(f"secrets rotate jwt {GENERATE}", new_key, meddle=foreign_rotation(JWT, "secret"), reversible=True, alike=True),
        Scenario(f"secrets rotate jwt {GENERATE} --compromised", compromised_gone, meddle=foreign_rotation(JWT, "secret"), alike=True),
        Scenario(
            "secrets rotate mail-key --value-from env:NEW_KEY",
            canary_is_current,
            meddle=foreign_rotation(MAIL_KEY, "key"),
            reversible=True,
            env={"NEW_KEY": CANARY},
            alike=True,
        ),
        Scenario(
            "secrets rotate mail-key --value-from -",
            canary_is_current,
            meddle=foreign_rotation(MAIL_KEY, "key"),
            reversible=True,
            stdin=f"{CANARY}\n",
            variant=True,
        ),
        Scenario(
            f"secrets rotate edge-shared-secret {GENERATE}",
            new_edge_secret,
            meddle=set_edge_secret,
            typed="ready\n" * 5,
        ),
        Scenario(
            "secrets rotate hubspot-token --value-from env:NEXT_HUBSPOT_TOKEN",
            lambda world: west(world, HUBSPOT_TOKEN, "token") == world.facts["hs_next_token"],
            meddle=rotated_west(HUBSPOT_TOKEN, "token"),
            reversible=True,
            variant=True,
        ),
        Scenario(
            "secrets rotate ghcr --value-from env:NEXT_GHCR_PAT --refresh-now",
            refreshed,
            meddle=rotated_west(GHCR, "pat"),
            reversible=True,
        ),
        Scenario(
            "secrets rotate hubspot-app-secret --value-from env:NEW_KEY",
            lambda world: west(world, APP_SECRET, "secret") == CANARY,
            meddle=rotated_west(APP_SECRET, "secret"),
            reversible=True,
            env={"NEW_KEY": CANARY},
            variant=True,
        ),
        Scenario(f"secrets rotate partner-key {GENERATE}", partner_key_replaced, meddle=foreign_rotation(PARTNER_KEY, "key")),
    ],
    "secrets rollback": [
        Scenario(
            "secrets rollback mail-key",
            lambda world: not world.secret(MAIL_KEY, "key").startswith("the-key"),
            prepare=rotated,
            meddle=foreign_rotation(MAIL_KEY, "key"),
            reversible=True,
        )
    ],
    "logout user": [Scenario("logout user 5 user7@example.com", no_session_of(5, 7), alike=True)],
    "logout bulk": [Scenario("logout bulk --users-from {home}/users.txt", no_session_of(11, 12, 13), prepare=write_users, alike=True)],
    "logout all": [Scenario("logout all", no_session)],
    "client set-edge-auth": [
        Scenario(
            "--env sandbox client set-edge-auth --user --value-from env:NEW_EDGE",
            client_has_canary,
            prepare=write_client("the-edge-secret-of-last-year"),
            meddle=write_client("the-edge-secret-of-somebody-else"),
            env={"NEW_EDGE": CANARY},
        )
    ],
    "downloads disable": [
        Scenario(f"downloads disable {PAIRED}", enabled("false", PAIRED), meddle=set_enabled(PAIRED, ""), reversible=True),
        Scenario(
            "downloads disable contact3@example.com --from-file {home}/contacts.csv",
            enabled("false", PAIRED, ALSO_PAIRED, UNPAIRED),
            prepare=write_contacts,
            reversible=True,
            variant=True,
        ),
    ],
    "downloads enable": [
        Scenario(f"downloads enable {UNPAIRED}", enabled("true", UNPAIRED), meddle=set_enabled(UNPAIRED, ""), reversible=True, alike=True)
    ],
    "pairing mint": [
        Scenario(f"pairing mint {PAIRED}", another_token(PAIRED), alike=True),
        Scenario(f"pairing mint {UNPAIRED} --via webhook", another_token(UNPAIRED)),
    ],
    "pairing revoke": [Scenario(f"pairing revoke {PAIRED}", another_token(PAIRED))],
    "lease verify": [Scenario(f"lease verify {PAIRED}", lambda world: world.leases() == 1, blind=True)],
    "notify slack": [
        Scenario("notify slack --message trouble", said("slack", "trouble"), blind=True),
        Scenario("notify slack --message 'tell them'", always, prepare=no_channels, typed="done\n" * 5),
    ],
    "notify page": [Scenario("notify page --message 'come quickly'", said("pagerduty", "come quickly"), reversible=True)],
    "notify status": [
        Scenario(
            f"notify status --title '{TITLE}' --message 'we look into it'",
            said("statuspage", "we look into it"),
            reversible=True,
        ),
    ],
}

for area in sorted(Path(__file__).parent.glob("scenarios_*.py")):
    SCENARIOS |= importlib.import_module(area.stem).SCENARIOS


def rehearsed() -> Iterator[tuple[str, Scenario]]:
    """Every scenario of every command that is there."""
    for words in changing():
        for scenario in SCENARIOS.get(words, []):
            yield words, scenario


SAMPLE = {"service scale", "secrets rotate", "logout user", "downloads disable", "notify slack"}
"""A command of each system and each way of telling: enough for what the engine does alike for all."""


def every(such: Callable[[Scenario], Any] = lambda scenario: True) -> pytest.MarkDecorator:
    """Parametrise a law over the scenarios of all changing commands, or of those that are such.

    `make test` runs it once for each kind of change, `make laws` for all.
    """
    return _parametrised((one, not one.variant and not one.alike) for _, one in rehearsed() if such(one))


def each(such: Callable[[Scenario], Any] = lambda scenario: True) -> pytest.MarkDecorator:
    """Parametrise a law over one scenario of every changing command: for what its options make no difference to.

    `make test` runs it for the sampled commands, `make laws` for all.
    """
    return _parametrised((one, command in SAMPLE) for command, one in _firsts(such))


def some(such: Callable[[Scenario], Any] = lambda scenario: True) -> pytest.MarkDecorator:
    """Parametrise a law's finer points over one scenario of each sampled command."""
    return _parametrised((one, True) for command, one in _firsts(such) if command in SAMPLE)


def _firsts(such: Callable[[Scenario], Any]) -> Iterable[tuple[str, Scenario]]:
    return {command: scenario for command, scenario in reversed(list(rehearsed())) if such(scenario)}.items()


def _parametrised(found: Iterable[tuple[Scenario, bool]]) -> pytest.MarkDecorator:
    """Over scenarios; those that aren't for `make test` too are exhaustive."""
    exhaustive = (pytest.mark.exhaustive,)
    scenarios = [pytest.param(one, id=one.line.replace("/", ":"), marks=() if often else exhaustive) for one, often in found]
    return pytest.mark.parametrize("scenario", scenarios)


class Prepared:
    """A scenario in a world that is ready for it."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self.scenario, self.world = scenario, world
        world.configure(add=scenario.config)
        self.env = {
            "NEXT_HUBSPOT_TOKEN": world.facts["hs_next_token"],
            "NEXT_GHCR_PAT": world.facts["ghcr_next_pat"],
            **scenario.env,
        }
        scenario.prepare(world)
        self.words = shlex.split(scenario.line.format(home=world.home))


class Rehearsed(Prepared):
    """A prepared scenario whose world was looked at, and which is ready to be run."""

    def __init__(self, scenario: Scenario, world: World, *, sessions: bool = True) -> None:
        super().__init__(scenario, world)
        self.before = world.snapshot(sessions=sessions)

    def start(self, *args: str, **how: Any) -> Child:
        """Begin a command line with the scenario's values at hand."""
        how = {"input": self.scenario.stdin, "typed": self.scenario.typed, "env": self.env, **how}
        return self.world.opsctl.start("-o", "json", *args, **how)

    def say(self, *args: str, check: int | None = None, **how: Any) -> Result:
        """Run one to its end; with `check`, it has to leave with that exit code."""
        result = self.start(*args, **how).wait()
        assert check is None or result.code == check, f"opsctl {' '.join(args)}: expected exit {check}\n{result}"
        return result

    def dry(self, *options: str, **how: Any) -> Result:
        """A dry run."""
        return self.say(*self.words, "-n", *options, **how)

    def run(self, *options: str, **how: Any) -> Result:
        """The line itself, agreed to."""
        return self.say(*self.words, "-y", *options, **how)

    def untouched(self) -> None:
        """Nothing has changed."""
        assert self.world.snapshot() == self.before
