"""Requests to HubSpot, and the programs that parse its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opsctl.changes.raw.values import IS, credential
from opsctl.changes.raw.web import bearer, curl
from opsctl.shell import File, Must, Program, Statement, piped, run

if TYPE_CHECKING:
    from opsctl.config import Environment

UPDATE = Program(
    "update_of",
    """
import json, sys
name, wanted, how = sys.argv[1:]
with open(wanted) as file:
    part = json.load(file)
found = {each["id"]: each["properties"].get(name) or None for each in json.load(sys.stdin)["results"]}
moved = [id for id, before, after in part if id not in found or found[id] not in (before, after)]
if moved and how == "as-reviewed":
    sys.exit(f"{name} has changed since the plan, or the contact was deleted: {', '.join(moved[:3])}.")
todo = [(id, after or "") for id, before, after in part if id not in moved and found[id] != after]
if todo:
    json.dump({"inputs": [{"id": id, "properties": {name: after}} for id, after in todo]}, sys.stdout)
""",
)
"""Writes the batch update of the contacts that aren't so yet, of what a batch read answered; nothing where all are."""

SIGNATURES = Program(
    "signatures",
    r"""
import base64, hashlib, hmac, re, sys, time
from urllib.parse import unquote
url, secret, body = sys.argv[1:]
secret, body = open(secret, "rb").read(), open(body, "rb").read()
at = str(round(time.time() * 1000))
readable = re.sub("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", lambda coded: unquote(coded[0]), url, flags=re.I)
signed = hmac.new(secret, b"POST" + readable.encode() + body + at.encode(), hashlib.sha256).digest()
print("X-HubSpot-Signature:", hashlib.sha256(secret + body).hexdigest())
print("X-HubSpot-Signature-Version: v1")
print("X-HubSpot-Signature-v3:", base64.b64encode(signed).decode())
print("X-HubSpot-Request-Timestamp:", at)
""",
)
"""Writes the headers with which HubSpot signs an event."""


def hubspot(environment: Environment, header: File) -> list[Statement]:
    """Writes the HubSpot header to a file, after checking that the token belongs to the configured portal."""
    settings = environment.hubspot
    token, account = File("hubspot-token"), curl("GET", f"{settings.base}/account-info/v3/details", headers=[header])
    return [
        *credential(environment, settings.token, token),
        *bearer(token, header),
        Must(
            test=piped(account, run(IS, "portalId", str(settings.portal))),
            otherwise=f"This token belongs to another portal than {settings.portal}.",
        ),
    ]
