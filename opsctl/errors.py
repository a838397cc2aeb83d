"""Every error that opsctl shows, in one tree; each carries the exit code of the process.

    OpsctlError                 1  failed; nothing is half done that the ledger doesn't name
    ├── ConfigurationError      2  a file, a key or a name that configuration doesn't know
    ├── ExternalError           1  an outside system refused or failed before any effect; has that system's own code and words
    │   ├── NotFound               the thing asked for isn't there
    │   ├── Denied                 a permission is missing
    │   ├── CredentialsInvalid     no login, or an expired one
    │   ├── Unreachable            no connection; nothing was sent
    │   ├── Throttled              asked to slow down, also after waiting
    │   └── Untrusted           4  a server did not prove who it is; no credential was sent
    ├── PartialFailure          1  it did a part of what was asked, and refused the rest for good
    ├── Incomplete              1  some steps failed, and the steps that don't rest on them went on
    ├── CheckFailed             1  a verification ran, and found that it isn't so
    │   └── AlertFiring         3  an alert is above its threshold
    ├── LedgerFailed            1  the ledger can't be read or written
    │   └── LedgerBroken           its chain doesn't add up
    ├── Refused                 4  a guard, a wrong place
    │   ├── WrongPlace             another account, portal or endpoint than the environment's
    │   ├── ReadOnly               a write was tried over a reading system
    │   ├── DriftError             the world is no longer as reviewed
    │   └── PlanStale              a saved plan that no longer holds
    ├── LockHeld                5  another run works on the same target
    ├── Interrupted             6  stopped by a person or a signal; may be resumed
    ├── OutcomeUnknown          6  begun, and nobody can tell whether it happened
    │   └── Unrecorded             the ledger can't record what came of it
    └── InputRequired           7  a person has to answer first

An adapter translates an SDK's exception into one of these, once; `cli` shows it, once.
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
    """One line of what happened and what it means, and one of what to type next.

    `next` is shown on a line of its own; the cause (`raise ... from`) only with `-v`.
    """

    exit_code: ClassVar[int] = 1
    result: ClassVar[str] = "failed"
    place: str = ""
    """The environment and its file, where the error met one; `cli` fills it in."""
    details: Sequence[str] = ()
    bars: bool = False
    """Whether no other step of the run may be made either, also where the kind of the step is independent: what a guard raises."""

    def __init__(self, what: str, next: Hint = "") -> None:
        super().__init__(what)
        self.what = what
        self.next = next

    def as_json(self) -> dict[str, Any]:
        """The error as JSON shows it."""
        return {"type": type(self).__name__, "what": self.what, "next": str(self.next)}


class ConfigurationError(OpsctlError):
    """Raised for a file, a key, an environment or a name that configuration doesn't know; `details` are shown one a line."""

    exit_code = 2

    def __init__(self, what: str, next: Hint = "", *, details: Sequence[str] = ()) -> None:
        super().__init__(what, next)
        self.details = details

    def as_json(self) -> dict[str, Any]:
        """The error as JSON shows it, with its details."""
        return {**super().as_json(), "details": list(self.details)} if self.details else super().as_json()


class ExternalError(OpsctlError):
    """Raised when an outside system refused or failed *before any effect*: a definite no.

    `code` is that system's own name for the error (an AWS error code, a SQLSTATE, an HTTP status), `words` its own message, which the
    adapter has cleaned. Both are empty where the system gave none.
    """

    def __init__(self, what: str, next: Hint = "", *, code: str = "", words: str = "") -> None:
        super().__init__(what, next)
        self.code, self.words = code, words

    def as_json(self) -> dict[str, Any]:
        """The error as JSON shows it, with the outside system's code and words."""
        return {**super().as_json(), "code": self.code, "words": self.words}


class NotFound(ExternalError):
    """Raised when the thing asked for doesn't exist in the outside system."""


class Denied(ExternalError):
    """Raised when the caller lacks a permission; the message names it."""


class CredentialsInvalid(ExternalError):
    """Raised when there are no credentials or they have expired; `next` is the login line."""


class Unreachable(ExternalError):
    """Raised when no connection could be made, so nothing was sent."""


class Throttled(ExternalError):
    """Raised when a system still asks to slow down after the adapter has waited."""


class Untrusted(ExternalError):
    """Raised when a server did not prove that it is the configured one, or asked for a password in a weak way; none was sent."""

    exit_code = 4
    result = "refused"


class PartialFailure(OpsctlError):
    """Raised when an outside system did a part of one call, and refused the rest: a definite no after an effect.

    `parts` names what was changed. Of work in batches, the last beat tells it, whatever is raised.
    """

    def __init__(self, what: str, next: Hint = "", *, parts: Sequence[str]) -> None:
        super().__init__(what, next)
        self.parts = parts


class Incomplete(OpsctlError):
    """Raised when steps failed and the run went on with the steps that don't rest on them; names what is left."""


class CheckFailed(OpsctlError):
    """Raised when a verification ran and found that what should be so is not."""


class AlertFiring(CheckFailed):
    """Raised when an alert is above its threshold."""

    exit_code = 3


class LedgerFailed(OpsctlError):
    """Raised when the ledger can't be read or written."""


class LedgerBroken(LedgerFailed):
    """Raised when an event in the ledger was changed, lost or reordered."""


class Refused(OpsctlError):
    """Raised by a guard: it could be done, and opsctl won't."""

    exit_code = 4
    result = "refused"


class WrongPlace(Refused):
    """Raised when account, portal or endpoint isn't the environment's."""


class ReadOnly(Refused):
    """Raised when something tried to write over a reading system."""


class DriftError(Refused):
    """Raised when the world is no longer as it was when the plan was reviewed."""


class PlanStale(Refused):
    """Raised when a saved plan has expired, or was made for another configuration."""


class LockHeld(OpsctlError):
    """Raised when another run holds the lock; says who, since when, doing what."""

    exit_code = 5
    result = "refused"


class Interrupted(OpsctlError):
    """Raised when a person or a signal stopped the run; the ledger knows how far it came."""

    exit_code = 6
    result = "partial"


class OutcomeUnknown(OpsctlError):
    """Raised when a call was sent and no answer tells whether it took effect."""

    exit_code = 6
    result = "unknown"


class Unrecorded(OutcomeUnknown):
    """Raised when something was begun and the ledger can't record what came of it."""


class InputRequired(OpsctlError):
    """Raised when a person has to answer and none is there."""

    exit_code = 7
    result = "waiting"


def install_extra(name: str) -> str:
    """How to install an optional part, from a checkout or a wheel: the index has another package under opsctl's name."""
    wheel = f"opsctl_runbook-VERSION-py3-none-any.whl[{name}]"
    return f"From a checkout of opsctl: pip install '.[{name}]'. From its wheel: pip install '{wheel}'."
