"""Translation of HubSpot's errors.

Shapes: HubSpot, "Error handling" and "API usage guidelines". Every field of an error's body is optional.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opsctl.adapters.http.answers import Unreadable, decoded
from opsctl.adapters.http.client import retry_after
from opsctl.errors import CredentialsInvalid, Denied, ExternalError, NotFound, OpsctlError, OutcomeUnknown, Retry, Throttled
from opsctl.redaction import clean_sentence

if TYPE_CHECKING:
    import httpx

BURST, SEARCH = 10.0, 1.0
"""Seconds after which a limit resets."""
LOCKED, MIGRATING, SLOW_DOWN = 423, 477, 429
LATER = frozenset({502, 503, 504, 521, 523, 524})
"""Temporary errors that may be retried; 522, 525 and 526 are permanent."""
FEW_SECONDS = 3.0
NAME = 100
ROTATE = "Store a valid token: opsctl secrets rotate hubspot-token --value-from -"


def body_of(answer: httpx.Response) -> dict[str, Any]:
    """The error's JSON object, or an empty one."""
    try:
        return decoded(answer.content, dict[str, Any])
    except Unreadable:
        return {}


def is_daily(answer: httpx.Response) -> bool:
    """Whether the daily limit is reached."""
    return answer.status_code == SLOW_DOWN and str(body_of(answer).get("policyName")).upper() == "DAILY"


def wait_before_retry(answer: httpx.Response, *, effect: bool, scale: float = 1.0) -> float | None:
    """Seconds to wait before a retry, or None where a retry is useless or might repeat a write (`effect`).

    From `Retry-After`, or HubSpot's documented time multiplied by `scale`. After locked, migrating and limited nothing was done, so
    that a write may be retried too.
    """
    status = answer.status_code
    if status == SLOW_DOWN and not is_daily(answer):
        policy = str(body_of(answer).get("policyName")).upper()
        wait = SEARCH if policy == "SECONDLY" else BURST
    elif status == LOCKED:
        wait = 2.0
    elif status == MIGRATING or (status in LATER and not effect):
        wait = FEW_SECONDS
    else:
        return None
    asked = retry_after(answer)
    return wait * scale if asked is None else asked


def translated(answer: httpx.Response, what: str, *, effect: bool, time_zone: str) -> OpsctlError:
    """The error for a failed answer; `what` describes the call, such as `contact 123`."""
    status, body = answer.status_code, body_of(answer)
    message = clean_sentence(body.get("message") or answer.reason_phrase)
    own = {"code": clean_sentence(body.get("category") or body.get("errorType") or status, NAME)[:-1], "words": message}
    if status == 401:
        expired = "has expired" if body.get("category") == "EXPIRED_AUTHENTICATION" else "is not valid"
        return CredentialsInvalid(f"HubSpot's token {expired}: {message}", ROTATE, **own)
    if status == 403:
        return _denied(body, what, own)
    if status == 404:
        return NotFound(f"HubSpot has no {what}: {message}", "Check the id or the e-mail.", **own)
    if status == SLOW_DOWN:
        return _throttled(answer, what, time_zone, own)
    if status >= 500 and effect:
        return OutcomeUnknown(
            f"HubSpot answered {status} to {what}: {message} It may or may not have happened.",
            Retry(),
        )
    if status >= 500:
        return ExternalError(f"HubSpot answered {status} to {what}: {message}", Retry("Check https://status.hubspot.com"), **own)
    return ExternalError(f"HubSpot refused {what} ({status}): {message}", _advice(body), **own)


def _denied(body: dict[str, Any], what: str, own: dict[str, str]) -> Denied:
    scopes = sorted(set(_listed(body, "requiredGranularScopes") + _listed(body, "requiredScopes")))
    if not scopes:
        return Denied(f"HubSpot denied {what}: {own['words']}", "Check the scopes of the token's app.", **own)
    named = ", ".join(scopes)
    return Denied(
        f"HubSpot denied {what}: the token lacks the scope {named}.",
        Retry(f"Grant {named} to the token's app in HubSpot (Settings, Integrations)"),
        **own,
    )


def _throttled(answer: httpx.Response, what: str, time_zone: str, own: dict[str, str]) -> Throttled:
    if is_daily(answer):
        zone = f" ({time_zone})" if time_zone else ""
        return Throttled(
            f"HubSpot's daily limit is reached: {what} was not done.",
            Retry(f"Wait until midnight in the portal's time zone{zone}, when the limit resets"),
            **own,
        )
    return Throttled(
        f"HubSpot still throttles {what} after several tries: it was not done.",
        Retry("Find and stop the other program that uses up this app's limit"),
        **own,
    )


def _listed(body: dict[str, Any], key: str) -> list[str]:
    contexts = [body.get("context"), *(each.get("context") for each in _errors(body))]
    lists = (context.get(key) for context in contexts if isinstance(context, dict))
    return [clean_sentence(name, NAME)[:-1] for each in lists if isinstance(each, list) for name in each]


def _advice(body: dict[str, Any]) -> str:
    names = ", ".join(sorted(set(_listed(body, "propertyName"))))
    return f"Check the property {names} in HubSpot, and [hubspot] in the configuration." if names else ""


def _errors(body: dict[str, Any]) -> list[dict[str, Any]]:
    found = body.get("errors")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
