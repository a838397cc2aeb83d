"""A thief's view of the sandbox's API: `python -m opsctl.sandbox.stolen_session steal|use FILE`.

It shows from outside, without any of opsctl's own code, whether a stolen session still opens anything.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from opsctl.sandbox import world_file

VICTIM = "user7@example.com"
TOKENS = click.Path(dir_okay=False, path_type=Path)


@click.group()
def thief() -> None:
    """Steal a session of the sandbox, and try what it still opens."""


@thief.command()
@click.argument("file", type=TOKENS)
def steal(file: Path) -> None:
    """Log in as a user, and keep both tokens in FILE as a thief would."""
    facts = _facts()
    status, tokens = _ask(facts["api"], "POST /v1/auth/login", body={"email": VICTIM, "password": facts["user_password"]})
    if status != 200:
        raise click.ClickException(f"The login of {VICTIM} was answered with {status}.")
    _keep(file, tokens)
    click.echo(f"A thief holds an access token and a refresh token of {VICTIM}.")


@thief.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--expect", type=click.Choice(["accepted", "refused"]), required=True, help="What both answers have to be.")
def use(file: Path, expect: str) -> None:
    """Try the stolen access token, then the stolen refresh token; fail unless both are answered as expected."""
    base, tokens = _facts()["api"], json.loads(file.read_text())
    access, _ = _ask(base, "GET /v1/auth/me", token=tokens["accessToken"])
    refresh, fresh = _ask(base, "POST /v1/auth/refresh", body={"refreshToken": tokens["refreshToken"]})
    if refresh == 200:
        _keep(file, fresh)
    words = {name: {200: "accepted", 401: "refused"}.get(status, "answered") for name, status in (("access", access), ("refresh", refresh))}
    click.echo(f"The stolen access token is {words['access']} ({access}).")
    click.echo(f"The stolen refresh token is {words['refresh']} ({refresh}).")
    if set(words.values()) != {expect}:
        raise click.ClickException(f"Both should have been {expect}.")


def _facts() -> dict[str, str]:
    return world_file.facts(Path(os.environ["OPSCTL_SANDBOX"]))


def _keep(file: Path, tokens: dict[str, Any]) -> None:
    file.touch(mode=0o600)
    file.write_text(json.dumps(tokens))


def _ask(base: str, operation: str, body: dict[str, str] | None = None, token: str = "") -> tuple[int, Any]:
    method, path = operation.split()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refusal:
        return refusal.code, None


if __name__ == "__main__":
    thief()
