"""The keys of a ledger: each root key is in its own file beside the ledger. A key for each purpose is derived from it.

The newest key signs; former keys only verify. The ledger contains no key: someone who can write the ledger but can't read the key's file
can't make a plan that is accepted, and can't rewrite the chain unnoticed.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from opsctl import files
from opsctl.errors import LedgerFailed, Refused

SIZE = 32
LARGEST_KEY = 1 << 16
PREFIX = "ledger-key-"


class _KeyFile(Struct):
    """The content of a key's file. `adopted` are keys by purpose that an earlier release stored in the ledger."""

    id: str
    created: datetime
    root: str
    adopted: dict[str, str] = {}


class RootKey:
    """One root key. `id` names it without revealing it."""

    def __init__(self, root: bytes, created: datetime, adopted: dict[str, bytes] | None = None) -> None:
        self._root, self.created, self.adopted = root, created, adopted or {}
        self.id = self._expanded("id")[:4].hex()

    def __repr__(self) -> str:
        return f"RootKey({self.id})"

    def derive(self, purpose: str) -> bytes:
        """The key for a purpose, such as `chain`, `plan` or `fingerprint prod`: one block of HKDF with SHA-256."""
        return self.adopted.get(purpose) or self._expanded(purpose)

    def _expanded(self, purpose: str) -> bytes:
        extracted = hmac.digest(b"opsctl ledger", self._root, "sha256")
        return hmac.digest(extracted, f"opsctl {purpose}".encode() + b"\x01", "sha256")

    def encoded(self) -> bytes:
        """The content of the key's file."""
        adopted = {purpose: key.hex() for purpose, key in self.adopted.items()}
        return msgspec.json.encode(_KeyFile(id=self.id, created=self.created, root=self._root.hex(), adopted=adopted))


class Keyring:
    """The keys in a folder. The first key is created when needed. Without `keep`, a new key exists only in memory."""

    def __init__(self, folder: Path, *, keep: bool = True) -> None:
        self.folder, self._keep = folder, keep

    @cached_property
    def _keys(self) -> dict[str, RootKey]:
        """The keys by their ids, the newest last."""
        found = [_read(path) for path in sorted(self.folder.glob(f"{PREFIX}*.json"))]
        return {key.id: key for key in sorted(found, key=lambda key: (key.created, key.id))}

    @property
    def current(self) -> RootKey:
        """The key that signs."""
        return next(reversed(self._keys.values()), None) or self.make()

    def find(self, id: str) -> RootKey | None:
        """The key with this id, or None."""
        return self._keys.get(id)

    def derive_all(self, purpose: str) -> list[bytes]:
        """The keys for a purpose, one from each root key."""
        return [key.derive(purpose) for key in self._keys.values()]

    def make(self, adopted: dict[str, bytes] | None = None) -> RootKey:
        """Create a key, which becomes the current one. Raises LedgerFailed if its file can't be written."""
        key = RootKey(secrets.token_bytes(SIZE), datetime.now(UTC), adopted)
        if self._keep:
            path = self.folder / f"{PREFIX}{key.id}.json"
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                files.write(path, key.encoded())
            except OSError as cause:
                what = f"The ledger's key can't be saved in {path}: {cause.strerror}."
                hint = f"Check the folder: ls -la {self.folder}; to use another folder, set XDG_STATE_HOME"
                raise LedgerFailed(what, hint) from cause
        self._keys[key.id] = key
        return key


def _read(path: Path) -> RootKey:
    """The key in a file. Raises Refused for a file that others could read or change, LedgerFailed for a file without a valid key."""
    try:
        files.private(path)
        held = msgspec.json.decode(files.read(path, LARGEST_KEY, links=False), type=_KeyFile)
        adopted = {purpose: bytes.fromhex(key) for purpose, key in held.adopted.items()}
        key = RootKey(bytes.fromhex(held.root), held.created, adopted)
    except files.Unfit as cause:
        mode = f"chmod 600 {path}" if "mode" in str(cause.strerror) else f"Check it: ls -la {path.parent}"
        raise Refused(f"The ledger's key {path} was not used: {cause.strerror}.", mode) from cause
    except OSError as cause:
        raise LedgerFailed(f"The ledger's key {path} can't be read: {cause.strerror}.", f"Check it: ls -la {path}") from cause
    except (msgspec.MsgspecError, ValueError, RecursionError) as cause:
        raise LedgerFailed(f"{path} contains no valid key.", "Restore it from a backup, or move it away.") from cause
    if path.name != f"{PREFIX}{key.id}.json" or len(held.root) != 2 * SIZE:
        raise LedgerFailed(f"{path} contains another key than its name says.", "Restore it from a backup, or move it away.")
    return key
