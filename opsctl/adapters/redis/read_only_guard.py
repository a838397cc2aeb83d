"""A read-only connection to Redis: every command that is not known to only read is refused before it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from opsctl.adapters.redis.endpoint import TlsConnection
from opsctl.errors import ReadOnly

READING = frozenset(
    """
    GET MGET EXISTS TYPE TTL PTTL EXPIRETIME PEXPIRETIME STRLEN GETRANGE SCAN DBSIZE RANDOMKEY OBJECT
    HGET HMGET HGETALL HLEN HEXISTS HSCAN LLEN LRANGE LINDEX SCARD SISMEMBER SMEMBERS SSCAN ZCARD ZCOUNT ZRANGE ZSCORE ZSCAN
    EVAL_RO EVALSHA_RO INFO TIME PING ECHO COMMAND AUTH HELLO SELECT READONLY READWRITE ASKING QUIT
    """.split()  # noqa: SIM905
)
# Commands with subcommands that read and subcommands that write.
READING_PAIRS = {
    "CLIENT": {"LIST", "INFO", "ID", "GETNAME", "SETNAME", "SETINFO"},
    "ACL": {"WHOAMI", "LIST", "USERS", "GETUSER", "CAT", "DRYRUN"},
    "CONFIG": {"GET"},
    "MEMORY": {"USAGE", "STATS", "DOCTOR"},
    "SLOWLOG": {"GET", "LEN"},
    "LATENCY": {"LATEST", "HISTORY", "DOCTOR"},
    "CLUSTER": {"INFO", "NODES", "SLOTS", "SHARDS", "KEYSLOT", "COUNTKEYSINSLOT", "MYID"},
}


def refuse_writing(command: tuple[Any, ...]) -> None:
    """Raise ReadOnly for a command that is not known to only read; `CLIENT LIST` may be one word or two."""
    words = " ".join(_decode(word) for word in command[:2]).upper().split()
    first, second = (*words, "", "")[:2]
    if first not in READING and second not in READING_PAIRS.get(first, ()):
        raise ReadOnly(f"Redis' {first} may write, and this connection is read-only.")


class ReadingConnection(redis.Connection):
    """Packs only commands that are known to only read, single or in a pipeline."""

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Send one command; raises ReadOnly."""
        refuse_writing(args)
        super().send_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def pack_command(self, *args: Any) -> Any:
        """Pack one command; raises ReadOnly."""
        refuse_writing(args)
        return super().pack_command(*args)  # type: ignore[no-untyped-call]

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        """Pack a pipeline; raises ReadOnly, before any of it is sent."""
        listed = [tuple(command) for command in commands]
        for command in listed:
            refuse_writing(command)
        return super().pack_commands(listed)  # type: ignore[no-untyped-call]


class ReadingTlsConnection(ReadingConnection, TlsConnection):
    """The same over TLS."""


def _decode(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
