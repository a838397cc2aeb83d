"""Verification that a secret's value works, before it becomes current and whenever it is verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from opsctl.changes import raw
from opsctl.errors import ConfigurationError, CredentialsInvalid, Denied, ExternalError, NotFound, Refused
from opsctl.redaction import Secret
from opsctl.shell import File, Must, Program, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.settings import SecretSettings
    from opsctl.shell import Statement
    from opsctl.systems import Systems

SHORTEST_KEY = 32
SHORTEST_WORD = 16
USERNAME = "username"
"""The JSON key beside a GHCR token that holds its user."""

Proof = Callable[["Systems", str, "SecretSettings", Secret, str | None], str]


def prove(systems: Systems, name: str, value: Secret, version: str | None = None, proof: str | None = None) -> str:
    """What verified `value`, in words. Raises Refused otherwise. `version` is the version that holds the JSON's other keys.

    Each check queries the system that uses the value: `hubspot` its portal, `ghcr` the image's manifest. `jwt` and `shape` can only
    check the value itself.
    """
    secret = systems.environment.secret(name)
    found = PROOFS.get(proof or secret.proof)
    if found is None:
        return "no outside system can verify it"
    try:
        return found(systems, name, secret, value, version)
    except (CredentialsInvalid, Denied, NotFound) as no:
        raise Refused(f"The value of {name} doesn't work: {no.what}", secret.procedure or no.next) from no


def _jwt(systems: Systems, name: str, secret: SecretSettings, value: Secret, version: str | None) -> str:
    if len(value.reveal()) < SHORTEST_KEY:
        raise Refused(
            f"The new value of {name} is too short to sign with; it was not made current.", f"Use {SHORTEST_KEY} characters or more."
        )
    return "long enough to sign with"


def _shape(systems: Systems, name: str, secret: SecretSettings, value: Secret, version: str | None) -> str:
    text = value.reveal()
    if len(text) < SHORTEST_WORD or not text.isascii() or not text.isprintable() or " " in text:
        raise Refused(
            f"The value of {name} isn't one word of at least {SHORTEST_WORD} ASCII characters; it was not made current.",
            "Check whether a blank, a quote or a line end was copied with it.",
        )
    return "one plain word; no outside system can verify it"


def _hubspot(systems: Systems, name: str, secret: SecretSettings, value: Secret, version: str | None) -> str:
    _shape(systems, name, secret, value, version)
    asked = systems.hubspot_as(value)
    try:
        return f"HubSpot accepts it, for portal {asked.verify_portal().portal}"
    finally:
        asked.close()


def _ghcr(systems: Systems, name: str, secret: SecretSettings, value: Secret, version: str | None) -> str:
    _shape(systems, name, secret, value, version)
    if secret.image is None:
        raise ConfigurationError(f"The secret {name} has no `image`, which is needed to verify it.", "Add `image` to its configuration.")
    digest = systems.ghcr.pull(secret.image, _username(systems, name, secret, version), value)
    return f"GHCR lets it read {secret.image} ({digest[:19]})"


def _username(systems: Systems, name: str, secret: SecretSettings, version: str | None) -> str:
    """The user beside the token: a name, not a secret; it may be shown."""
    try:
        members = json.loads(systems.secrets.value(secret.id, version=version, region=secret.region).reveal())
        return str(members[USERNAME])
    except (ValueError, KeyError, TypeError):
        # Without the cause: a JSON error may quote the value.
        raise ExternalError(
            f"The secret {secret.id} has no key {USERNAME!r} beside the token of {name}.", "Add the user name to it."
        ) from None


PROOFS: dict[str, Proof] = {"jwt": _jwt, "shape": _shape, "hubspot": _hubspot, "ghcr": _ghcr}


LOOKS = Program(
    "does_its_work",
    """
import sys
least, word = int(sys.argv[1]), sys.argv[2] == "word"
text = sys.stdin.read()
if len(text) < least or word and not (text.isascii() and text.isprintable() and " " not in text):
    sys.exit(f"the value isn't {'one word of ' if word else ''}{least} or more characters; it was not made current")
""",
)
"""Fails unless a value is long enough or, with `word`, one plain word."""

BASIC = Program(
    "basic_login",
    """
import base64, sys
user, password = (open(name, newline="").read() for name in sys.argv[1:])
print("Authorization: Basic", base64.b64encode(f"{user}:{password}".encode()).decode())
""",
)
"""Writes the header of a login, of the files that hold the user and the password."""

ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class UnprovenVersion(NamedTuple):
    """A version of a secret, its location, and the name of its value's check."""

    name: str
    id: str
    version: str | None
    region: str | None
    key: str | None
    proof: str | None


def prove_by_shell(environment: Environment, secret: UnprovenVersion) -> list[Statement]:
    """Statements that end a script unless a secret's version works, by the same checks as `prove`."""
    if secret.proof not in PROOFS:
        return []
    where = {"SecretId": secret.id, "VersionId": secret.version}
    get = raw.aws(environment, "secretsmanager", "get-secret-value", region=secret.region, **where)
    text = run(get.program, *get.words, "--query", "SecretString", "--output", "json")
    value, user = File("proven"), File("user-name")
    look = (
        run(LOOKS, str(SHORTEST_KEY), "any", stdin=value) if secret.proof == "jwt" else run(LOOKS, str(SHORTEST_WORD), "word", stdin=value)
    )
    found: list[Statement] = [piped(text, run(raw.MEMBER, *filter(None, [secret.key])), output=value), look]
    if secret.proof == "hubspot":
        found += _hubspot_by_shell(environment, value)
    if secret.proof == "ghcr":
        found += [piped(text, run(raw.MEMBER, USERNAME), output=user), *_ghcr_by_shell(environment, secret.name, user, value)]
    return found


def _hubspot_by_shell(environment: Environment, value: File) -> list[Statement]:
    settings, header = environment.hubspot, File("header")
    account = raw.curl("GET", f"{settings.base}/account-info/v3/details", headers=[header])
    its = piped(account, run(raw.IS, "portalId", str(settings.portal)))
    return [*raw.bearer(value, header), Must(test=its, otherwise="HubSpot refuses the value, or the value belongs to another portal.")]


def _ghcr_by_shell(environment: Environment, name: str, user: File, value: File) -> list[Statement]:
    base, header, login = environment.settings.ghcr, File("header"), File("login")
    image, _, tag = (environment.secret(name).image or "").partition(":")
    token = raw.curl("GET", f"{base}/token?service=ghcr.io&scope=repository:{image}:pull", headers=[login])
    manifest = f"{base}/v2/{image}/manifests/{tag or 'latest'}"
    return [
        run(BASIC, user, value, output=login),
        piped(token, run(raw.ITS, "token"), output=File("granted")),
        *raw.bearer(File("granted"), header),
        raw.curl("GET", manifest, "-H", f"Accept: {ACCEPT}", headers=[header]),
    ]
