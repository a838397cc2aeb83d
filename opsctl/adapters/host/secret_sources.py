"""Sources of secret values.

A source is written `-` (standard input), `env:VARIABLE`, `file:PATH` or `generate`; never the value itself.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

from opsctl import files
from opsctl.errors import ConfigurationError, InputRequired, Refused, Retry
from opsctl.redaction import Secret as Secret
from opsctl.settings import Reference

LARGEST = 65_536
"""Maximum size in Secrets Manager (API reference, PutSecretValue)."""


class SecretSources:
    """Reads secret values from their sources; standard input is read once and kept for the rest of the process."""

    def __init__(self) -> None:
        self._read: dict[str, Secret] = {}

    def read(self, source: str) -> Secret:
        """The value of `source`; raises InputRequired when it is missing, Refused when it is empty, too large or not text."""
        if source not in self._read:
            value = self._fetch(source)
            if source == "-" or source.startswith("file:"):
                value = value.removesuffix(b"\n").removesuffix(b"\r")
            if not value.strip():
                raise Refused(f"The value from {source} is empty.", "Use a value that is not empty.")
            if len(value) > LARGEST:
                raise Refused(f"The value from {source} is larger than {LARGEST:,} bytes.", "Check that this is the right source.")
            if b"\0" in value or not _is_text(value):
                raise Refused(f"The value from {source} is not text.", "Use a text value.")
            self._read[source] = Secret(value)
        return self._read[source]

    def _fetch(self, source: str) -> bytes:
        kind, _, rest = source.partition(":")
        if source == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise InputRequired(
                    "The value is expected on standard input, which is a terminal or closed.",
                    "Pipe the value in, or use env: or file:.",
                )
            return sys.stdin.buffer.read(LARGEST + 3)
        if kind == "env":
            if rest not in os.environ:
                raise InputRequired(f"The value is read from the variable {rest}, which is not set.", Retry(f"Set {rest}"))
            return os.environb[rest.encode()]
        try:
            with files.opened(Path(rest), pipes=True) as file:
                return file.read(LARGEST + 3)
        except files.Unfit as cause:
            raise Refused(f"The file {rest} can't be used as a value: {cause.strerror}.", "Use a regular file.") from cause
        except OSError as cause:
            raise InputRequired(f"The file {rest} with the value can't be read: {cause.strerror}.", Retry("Create the file")) from cause

    def reference(self, reference: Reference) -> Secret:
        """The credential of an `env` or `file` reference; raises ConfigurationError when it is missing."""
        try:
            return self.read(f"env:{reference.env}" if reference.env else f"file:{reference.file}")
        except InputRequired as cause:
            raise ConfigurationError(f"The credential in {reference} does not exist.", cause.next) from cause


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def generate(recipe: str) -> Secret:
    """A new random value for `hex:BYTES` or `base64:BYTES`; raises ConfigurationError for another recipe."""
    kind, _, size = recipe.partition(":")
    if kind not in ("hex", "base64") or not size.isdigit() or not 16 <= int(size) <= 1024:
        raise ConfigurationError(f"Expected hex:BYTES or base64:BYTES with 16 to 1024 bytes in `generate`, got {recipe!r}.")
    random = secrets.token_bytes(int(size))
    return Secret(random.hex() if kind == "hex" else base64.b64encode(random).decode())


def check_source(source: str) -> str:
    """`source` if it is valid; raises ValueError otherwise, without repeating it, as it may be the value itself."""
    kind, colon, rest = source.partition(":")
    if source in ("-", "generate") or (colon and rest and kind in ("env", "file")):
        return source
    raise ValueError("expected -, env:VARIABLE, file:PATH or generate; never the value itself")
