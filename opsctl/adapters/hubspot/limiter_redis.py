"""The limiter's slots in the environment's Redis, over a connection that can do nothing but count them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError
from redis.retry import Retry

from opsctl.adapters.certificates import SYSTEM
from opsctl.adapters.hubspot.limiter import LEASE_SECONDS, Slots, SlotsLost
from opsctl.adapters.redis.endpoint import Place, TlsConnection, found
from opsctl.errors import OpsctlError, ReadOnly, WrongPlace

if TYPE_CHECKING:
    from opsctl.redaction import Secret
    from opsctl.systems import Systems

PREFIX = "opsctl:limit:"
ANSWER_SECONDS = 2
"""A cache that is out of reach holds nobody up for longer."""
LOGGING_IN = frozenset({"AUTH", "HELLO", "CLIENT SETNAME", "CLIENT SETINFO"})

SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local name, kind = ARGV[1], ARGV[2]
local window, limit, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if kind == 'hold' then
    redis.call('ZADD', KEYS[1], now + window, name)
    redis.call('PEXPIRE', KEYS[1], math.ceil(lease + window))
    return {1, '0'}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local following = redis.call('ZSCORE', KEYS[1], 'next')
local held = redis.call('ZCARD', KEYS[1]) - (following and 1 or 0)
if held >= limit then
    local first = redis.call('ZRANGE', KEYS[1], 0, 1, 'WITHSCORES')
    local place = first[1] == 'next' and 4 or 2
    return {0, tostring(tonumber(first[place]) - now)}
end
local at = math.max(now, tonumber(following or now))
redis.call('ZADD', KEYS[1], at + lease, name)
redis.call('ZADD', KEYS[1], at + window / limit, 'next')
redis.call('PEXPIRE', KEYS[1], math.ceil(at - now + lease + window))
return {1, tostring(at - now)}
"""
"""One sorted set: each slot with the moment (ms, Redis' clock) until which it is taken, and `next`, before which none is sent.

A slot whose time is over falls out, whoever held it, and so does `next` when it is past.
"""


def refuse_all_else(command: tuple[Any, ...]) -> None:
    """Raise ReadOnly for everything but this script on a limiter's key, and logging in."""
    first, *rest = (_text(word) for word in command)
    if first.upper() == "EVAL" and rest[:2] == [SCRIPT, "1"] and rest[2:] and rest[2].startswith(PREFIX):
        return
    words = " ".join((first, *rest[:1])).upper().split()
    if words[0] not in LOGGING_IN and " ".join(words[:2]) not in LOGGING_IN:
        raise ReadOnly(f"The limiter's connection to Redis only counts slots; {words[0]} was not sent.")


class SlotConnection(redis.Connection):
    """Packs nothing but the script, on a key of its own."""

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Send one command; raises ReadOnly."""
        refuse_all_else(args)
        super().send_command(*args, **kwargs)  # type: ignore[no-untyped-call]

    def pack_command(self, *args: Any) -> Any:
        """Pack one command; raises ReadOnly."""
        refuse_all_else(args)
        return super().pack_command(*args)  # type: ignore[no-untyped-call]

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        """Pack a pipeline; raises ReadOnly, before any of it is sent."""
        listed = [tuple(command) for command in commands]
        for command in listed:
            refuse_all_else(command)
        return super().pack_commands(listed)  # type: ignore[no-untyped-call]


class SlotTlsConnection(SlotConnection, TlsConnection):
    """The same over TLS."""


class RedisSlots:
    """Slots that every opsctl shares. Raises SlotsLost when Redis doesn't answer. Safe between threads."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        name: str,
        password: Secret | None,
        tls: bool,
        ca: str = SYSTEM,
        tunnel: tuple[str, int] | None = None,
    ) -> None:
        self._key = PREFIX + name
        self._place = Place(host, port, password, tls, ca, tunnel)
        self.client = self._connect(host, port)

    def take(self, name: str, limit: int, window: float) -> tuple[bool, float]:
        """As `Slots.take`."""
        taken, wait = self._run(name, "take", window, limit)
        return bool(taken), max(0.0, float(_text(wait)) / 1000)

    def hold(self, name: str, seconds: float) -> None:
        """As `Slots.hold`."""
        self._run(name, "hold", seconds, 1)

    def _run(self, name: str, kind: str, window: float, limit: int) -> Any:
        arguments = (name, kind, window * 1000, limit, LEASE_SECONDS * 1000)
        try:
            try:
                return self.client.eval(SCRIPT, 1, self._key, *arguments)
            except MovedError as moved:
                # In a cluster one node owns the key.
                self.client = self._connect(moved.host, moved.port)
                return self.client.eval(SCRIPT, 1, self._key, *arguments)
        except RedisError as cause:
            raise SlotsLost(str(cause)) from cause

    def _connect(self, host: str, port: int) -> redis.Redis:
        pool = redis.ConnectionPool(
            connection_class=SlotTlsConnection if self._place.tls else SlotConnection,
            **self._place.arguments(host, port),
            client_name="opsctl-limiter",
            protocol=2,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        return redis.Redis.from_pool(pool)


def slots(systems: Systems, name: str) -> Slots | None:
    """The slots of `name` in the environment's Redis; None where it has none or can't be asked where it is.

    Raises WrongPlace in a sandbox whose Redis is beyond this machine.
    """
    config = systems.environment.redis
    try:
        return RedisSlots(**found(systems, config), name=name)
    except WrongPlace:
        raise
    except OpsctlError:
        # Who may not look for the cache may still work with contacts.
        return None


def _text(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
