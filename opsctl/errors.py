"""Every error that opsctl shows, in one tree; each carries the exit code of the process.

    OpsctlError                 1  failed; anything half done is recorded
    ├── ConfigurationError      2  a file, a key or a name is wrong or unknown in the configuration
    ├── ExternalError           1  an outside system refused or failed before any effect; carries its code and message
    │   ├── NotFound               the resource does not exist
    │   ├── Denied                 a permission is missing
    │   ├── CredentialsInvalid     no credentials, or expired ones
    │   ├── Unreachable            no connection; nothing was sent
    │   ├── Throttled              still throttled after waiting
    │   └── Untrusted           4  the server could not be verified; no credential was sent
    ├── PartialFailure          1  an outside system applied a part of one call and refused the rest
    ├── Incomplete              1  some steps failed; the steps that don't depend on them were applied
    ├── CheckFailed             1  a check ran and failed
    │   └── AlertFiring         3  an alert is above its threshold
    ├── LedgerFailed            1  the ledger can't be read or written
    │   └── LedgerBroken           an event was changed, lost or reordered
    ├── Refused                 4  a guard refused
    │   ├── WrongPlace             another account, portal or endpoint than the environment's
    │   ├── ReadOnly               a write was tried on a read-only connection
    │   ├── DriftError             the target is no longer as reviewed
    │   └── PlanStale              a saved plan has expired or no longer matches
    ├── LockHeld                5  another run holds the lock on the target
    ├── Interrupted             6  stopped by the operator or a signal; can be resumed
    ├── OutcomeUnknown          6  a call was sent, and it is unknown whether it took effect
    │   └── Unrecorded             the outcome could not be recorded in the ledger
    └── InputRequired           7  an answer or an approval is needed first

An adapter translates an SDK's exception into one of these errors; `cli` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple


class Retry(NamedTuple):
    """The hint to repeat what failed: the same command or, once a run has begun, that run.

    `first` is what to do before. `run` is the id of the run to resume; the engine fills it in. `options` are alternatives, each typed
    behind the line that resumes the run.
    """

    first: str = ""
    run: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The hint as a sentence that names no command."""
        first = self.first.rstrip(".")
        return f"{first}, then run the same command again." if first else "Run the same command again."


Hint = str | Retry
"""What to do next: a sentence or a command line, or to repeat what failed."""


def retry_after(hints: Iterable[Hint], run: str = "", *, options: tuple[str, ...] = ()) -> Retry:
    """The hint to follow all the given hints, each once and in their order, and then to repeat what failed."""
    steps = dict.fromkeys((hint.first if isinstance(hint, Retry) else hint).rstrip(".") for hint in hints)
    return Retry("; then: ".join(filter(None, steps)), run, options)


class OpsctlError(Exception):
    """The base of all errors: `what` says in one line what happened and what it means, `next` what to do next.

    `next` is shown on its own line. The cause (`raise ... from`) is shown only with `-v`.
    """

    exit_code: ClassVar[int] = 1
    result: ClassVar[str] = "failed"
    place: str = ""
    """The environment and its file, if known; `cli` fills it in."""
    details: Sequence[str] = ()
    bars: bool = False
    """Whether the error ends the whole run even if its step is independent. True for what a guard raises."""

    def __init__(self, what: str, next: Hint = "") -> None:
        super().__init__(what)
        self.what = what
        self.next = next

    def as_json(self) -> dict[str, Any]:
        """The error as a JSON object."""
        return {"type": type(self).__name__, "what": self.what, "next": str(self.next)}


class ConfigurationError(OpsctlError):
    """Raised for a file, a key, an environment or a name that configuration doesn't know. Each of `details` is shown on its own line."""

    exit_code = 2

    def __init__(self, what: str, next: Hint = "", *, details: Sequence[str] = ()) -> None:
        super().__init__(what, next)
        self.details = details

    def as_json(self) -> dict[str, Any]:
        """The error as a JSON object, with its details."""
        return {**super().as_json(), "details": list(self.details)} if self.details else super().as_json()


class ExternalError(OpsctlError):
    """Raised when an outside system refused or failed *before any effect*, so nothing was changed.

    `code` is the system's name for the error (an AWS error code, a SQLSTATE, an HTTP status). `words` is the system's message, cleaned by
    the adapter. Both are empty if the system gave none.
    """

    def __init__(self, what: str, next: Hint = "", *, code: str = "", words: str = "") -> None:
        super().__init__(what, next)
        self.code, self.words = code, words

    def as_json(self) -> dict[str, Any]:
        """The error as a JSON object, with the outside system's code and message."""
        return {**super().as_json(), "code": self.code, "words": self.words}


class NotFound(ExternalError):
    """Raised when the thing asked for doesn't exist in the outside system."""


class Denied(ExternalError):
    """Raised when the caller lacks a permission; the message names it."""


class CredentialsInvalid(ExternalError):
    """Raised when credentials are missing or have expired; `next` is the command to log in."""


class Unreachable(ExternalError):
    """Raised when no connection could be made. Nothing was sent."""


class Throttled(ExternalError):
    """Raised when a system still throttles after the adapter has waited."""


class Untrusted(ExternalError):
    """Raised when a server could not be verified as the configured one, or asked for a password in a weak way. No credential was sent."""

    exit_code = 4
    result = "refused"


class PartialFailure(OpsctlError):
    """Raised when an outside system applied a part of one call and refused the rest.

    `parts` names what was changed. It is empty for a change made in batches, whose progress callback has already reported it.
    """

    def __init__(self, what: str, next: Hint = "", *, parts: Sequence[str]) -> None:
        super().__init__(what, next)
        self.parts = parts


class Incomplete(OpsctlError):
    """Raised when steps failed and the run continued with the steps that don't depend on them. Names the failed steps."""


class CheckFailed(OpsctlError):
    """Raised when a check ran and failed."""


class AlertFiring(CheckFailed):
    """Raised when an alert is above its threshold."""

    exit_code = 3


class LedgerFailed(OpsctlError):
    """Raised when the ledger can't be read or written."""


class LedgerBroken(LedgerFailed):
    """Raised when an event in the ledger was changed, lost or reordered."""


class Refused(OpsctlError):
    """Raised by a guard: opsctl refuses the change, although it would be possible."""

    exit_code = 4
    result = "refused"


class WrongPlace(Refused):
    """Raised when the account, portal or endpoint is not the environment's."""


class ReadOnly(Refused):
    """Raised when a write was tried on a read-only connection."""


class DriftError(Refused):
    """Raised when a target is no longer as it was when the plan was reviewed."""


class PlanStale(Refused):
    """Raised when a saved plan has expired, was edited, or was made for another configuration."""


class LockHeld(OpsctlError):
    """Raised when another run holds the lock. Says who holds it, since when, and for which command."""

    exit_code = 5
    result = "refused"


class Interrupted(OpsctlError):
    """Raised when the operator or a signal stopped the run. The ledger records how far the run came."""

    exit_code = 6
    result = "partial"


class OutcomeUnknown(OpsctlError):
    """Raised when a call was sent and it is unknown whether it took effect."""

    exit_code = 6
    result = "unknown"


class Unrecorded(OutcomeUnknown):
    """Raised when something was begun and the outcome could not be recorded in the ledger."""


class InputRequired(OpsctlError):
    """Raised when a question needs an answer and there is no terminal to ask on."""

    exit_code = 7
    result = "waiting"


def install_extra(name: str) -> str:
    """How to install an optional part from a checkout or a wheel. The package index has another package under opsctl's name."""
    wheel = f"opsctl_runbook-VERSION-py3-none-any.whl[{name}]"
    return f"From a checkout of opsctl: pip install '.[{name}]'. From its wheel: pip install '{wheel}'."
