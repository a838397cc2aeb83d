"""Translation of botocore's exceptions into opsctl's."""

from __future__ import annotations

import re
from typing import Any

from opsctl import certificates
from opsctl.errors import (
    CredentialsInvalid,
    Denied,
    ExternalError,
    Hint,
    NotFound,
    OpsctlError,
    OutcomeUnknown,
    Retry,
    Throttled,
    Unreachable,
)
from opsctl.redaction import clean_sentence, clean_text

CODE = 100
"""Characters of an error's code that are shown."""
REACH = Retry("Check the network (VPN, proxy)")

DENIED = re.compile(r"AccessDenied|UnauthorizedOperation|NotAuthorized|AuthorizationError|Forbidden")
INVALID = re.compile(
    r"ExpiredToken|TokenRefreshRequired|InvalidClientTokenId|UnrecognizedClient|InvalidAccessKeyId|SignatureDoesNotMatch"
    r"|InvalidSignature|IncompleteSignature|MissingAuthenticationToken|AuthFailure|RequestExpired|RequestTimeTooSkewed"
)
THROTTLED = re.compile(r"Throttl|TooManyRequests|RequestLimitExceeded|SlowDown|BandwidthLimitExceeded|RateExceeded")
ABSENT = re.compile(r"NotFound|NoSuch|Non[eE]xistent|DoesNotExist")
PERMISSION = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")

# By name, because older releases of botocore lack some of them.
NO_LOGIN = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "NoAuthTokenError",
        "SSOError",
        "LoginError",
        "ProfileNotFound",
        "ConfigParseError",
        "MetadataRetrievalError",
        "UnknownCredentialError",
        "InvalidConfigError",
    }
)

# A request that was refused before any effect; any other 5xx may come after the effect.
TURNED_AWAY = 503


def translate(error: BaseException, *, effect: bool, service: str, operation: str, login: str, reach: Hint = REACH) -> OpsctlError:
    """opsctl's error for botocore's `error`.

    `effect`: the call writes, so that a lost answer is OutcomeUnknown. `login` and `reach` are the hints for invalid credentials and
    for a failed connection.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    call = f"{service}:{operation}"
    if isinstance(error, ClientError):
        return _from_answer(error.response, effect, call, login)
    if isinstance(error, BotoCoreError):
        return _unanswered(error, effect, call, login, reach)
    return _lost(effect, call, "sent an unreadable answer")


def _from_answer(response: dict[str, Any], effect: bool, call: str, login: str) -> OpsctlError:
    """The error for an error code of AWS."""
    code = clean_text(str(response.get("Error", {}).get("Code", "")), CODE)
    message = clean_sentence(response.get("Error", {}).get("Message") or code)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    own = {"code": code, "words": message}
    if INVALID.search(code):
        return CredentialsInvalid(f"AWS rejected the credentials ({code}): {call} was not done.", f"Log in: {login}", **own)
    if THROTTLED.search(code) or status == 429:
        return Throttled(f"AWS still throttles {call} after several tries ({code}): it was not done.", Retry("Wait a minute"), **own)
    if DENIED.search(code):
        permission = found[1] if (found := PERMISSION.search(message)) else call
        return Denied(
            f"AWS denied {permission}.",
            f"Ask for the permission {permission}, or log in with another role: {login}",
            **own,
        )
    if ABSENT.search(code):
        return NotFound(f"{call}: {message}", "Check the name, the region and the environment.", **own)
    if status >= 500 and status != TURNED_AWAY:
        return _lost(effect, call, f"failed inside AWS ({code})", **own)
    again = Retry("Wait a minute") if status >= 500 else Retry("Fix what AWS names")
    return ExternalError(f"{call} was refused ({code}): {message}", again, **own)


def _unanswered(error: BaseException, effect: bool, call: str, login: str, reach: Hint) -> OpsctlError:
    """The error for an exception of the SDK: no credentials, no connection, or no answer."""
    from botocore import exceptions as sdk

    if any(kind.__name__ in NO_LOGIN for kind in type(error).__mro__):
        return CredentialsInvalid(f"No valid AWS login: {clean_sentence(error)}", f"Log in: {login}")
    if isinstance(error, sdk.SSLError) and (distrust := certificates.distrusted(error)) is not None:
        return certificates.untrusted("AWS", call, distrust, "Set `ca` in [aws] to the file of its certificate authority.")
    if isinstance(error, sdk.ConnectionError):
        return Unreachable(f"AWS is unreachable for {call}; nothing was sent: {clean_sentence(error)}", reach)
    if isinstance(error, sdk.ReadTimeoutError):
        return _lost(effect, call, "did not answer in time")
    if isinstance(error, sdk.HTTPClientError | sdk.IncompleteReadError):
        return _lost(effect, call, "lost the connection before an answer came")
    return ExternalError(f"{call} could not be sent: {clean_sentence(error)}")


def _lost(effect: bool, call: str, how: str, **own: str) -> OpsctlError:
    if effect:
        return OutcomeUnknown(f"{call} {how}: it may or may not have happened.", "Look at the run: opsctl runs list --active")
    return ExternalError(f"{call} {how}.", Retry(), **own)
