"""Changes to the customer's `hh` configuration on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from opsctl import fingerprints
from opsctl.changes import raw
from opsctl.contract import Change, Done, Drifted, Evidence, Finding, Pending
from opsctl.errors import DriftError, Refused
from opsctl.formats import json_edit
from opsctl.shell import File, Program, run, standalone

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.redaction import Secret
    from opsctl.shell import Statement
    from opsctl.systems import Systems


class SetEdgeAuth(Change, frozen=True, kw_only=True):
    """The field `edge_auth` of one configuration file has the given value; everything else in the file stays.

    `before` and `after` are fingerprints; `before` is null where the file has no such field.
    """

    under_way: ClassVar[float] = 0
    poll: ClassVar[float] = 0.1
    timeout: ClassVar[float] = 30
    target_template: ClassVar[str] = "client{path}"
    summary_template: ClassVar[str] = "set edge_auth in {path} to the value from {source} ({after})"
    irreversible: ClassVar[str] = "opsctl doesn't store the former edge_auth, which is a secret; set it again from its source"

    path: str
    source: str
    before: str | None
    after: str

    def difference(self) -> tuple[Any, Any]:
        """The fingerprints of both values."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Compares the field's fingerprint. Raises Refused for a file that can't be rewritten, before anything is changed."""
        now = fingerprint(read, read.client.read(Path(self.path)).edge_auth)
        if fingerprints.same(now, self.after):
            return Done("edge_auth is the given value")
        if not fingerprints.same(now, self.before):
            return Drifted(f"edge_auth is now {now or 'missing'}; it was {self.before or 'missing'} in the plan")
        return Pending(1, "files")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """Replaces the file atomically; only that field differs."""
        value = write.values.read(self.source)
        if not fingerprints.same(fingerprint(write, value), self.after):
            raise Refused(
                f"The value from {self.source} isn't the one in the plan.",
                "Give the value that the plan was made with, or make a new plan.",
            )
        seen = write.client.read(Path(self.path))
        if not fingerprints.same(fingerprint(write, seen.edge_auth), self.before):
            raise DriftError(
                f"{self.path}: edge_auth has changed since the plan; the file was not changed.", "Show the file: opsctl client show"
            )
        write.client.set_edge_auth(seen, value, token)
        return {"fingerprint": self.after}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's manual edit (HH, Rotate EDGE_SHARED_SECRET), with the value from a file; mode and owner stay."""
        value = File("value")
        return [*raw.value_of(self.source, "edge_auth", value), run(field_setter(), self.path, "edge_auth", value)]


def field_setter() -> Program:
    """The program that replaces one field in a JSON file, built from opsctl's own source."""
    return standalone("set_field", json_edit, main=SET_FIELD)


SET_FIELD = """
import os, shutil, sys
path, name, value = sys.argv[1:]
if os.path.islink(path) or not os.path.isfile(path):
    sys.exit(f"{path} is a link or not a regular file; it was not changed")
with open(path, newline="") as file:
    text = file.read()
with open(value, newline="") as file:
    text = set_member(text, name, file.read())
fresh = f"{path}.{os.getpid()}"
with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="") as file:
    file.write(text)
held = os.stat(path)
shutil.copystat(path, fresh)
os.chown(fresh, held.st_uid, held.st_gid)
os.replace(fresh, path)
"""


def fingerprint(systems: Systems, value: Secret | None) -> str | None:
    """The keyed fingerprint of a value; None for None."""
    return None if value is None else systems.fingerprint(value.raw())
