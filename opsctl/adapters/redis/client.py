"""The application's Redis (or Valkey) at the endpoint from AWS. Keys are scanned in short steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from opsctl import certificates
from opsctl.adapters.base import Adapter, writes
from opsctl.errors import (
    ConfigurationError,
    CredentialsInvalid,
    Denied,
    ExternalError,
    OpsctlError,
    OutcomeUnknown,
    PartialFailure,
    ReadOnly,
    Retry,
    Unreachable,
)
from opsctl.redaction import clean_sentence
from opsctl.statements.redis_keys import STEP, STEP_KEYS, UNLINK_KEYS, searches

if TYPE_CHECKING:
    import redis

    from opsctl.adapters.redis.endpoint import RedisEndpoint
    from opsctl.protocols import ProgressCallback

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
SLOTS = 16384
AT_ONCE = 16
"""How many primaries are queried at a time."""
KEYS_AT_ONCE = 1_000
"""How many keys one pipeline reads."""
ANY_AGE = -1


class KeyCount(NamedTuple):
    """Whether any key is older than the cutoff, the number of live keys, and what else the scan found.

    `future`: an old key has more time to live than its lifetime. `met` of the database's `keys` match the patterns, for any user;
    `elsewhere` are other databases of the server with keys, read only when none matches. `silent` names the primaries that failed.
    """

    old: bool
    live: int
    future: bool = False
    met: int = 0
    keys: int = 0
    elsewhere: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


class ScanStep(NamedTuple):
    """The result of a scan step: see `STEP`."""

    old: int
    future: int
    live: int
    met: int


class Redis(Adapter):
    """Counts and unlinks keys by pattern and age, and reads single keys. Thread-safe.

    A key's creation time is now minus `lifetime` plus its time to live; a key that never expires counts as old. In a cluster every
    primary is scanned.
    """

    def __init__(self, endpoint: RedisEndpoint, *, writing: bool, db: int = 0) -> None:
        super().__init__(writing=writing)
        self._endpoint = endpoint
        self._db = db

    def count(
        self,
        patterns: Sequence[str],
        keep: Sequence[str],
        before_ms: int | None,
        lifetime_ms: int,
        users: Sequence[str] | None = None,
        user_pattern: str = "",
    ) -> KeyCount:
        """Count the keys that match a pattern and no `keep`, and find out whether any was created before `before_ms` (epoch milliseconds).

        With `users`, only the keys that match `user_pattern` (`session:{user}:*`). A key may be counted twice, as with SCAN. After the
        first old key, ages are no longer read. Raises ExternalError when no old key is found and a primary can't be queried.
        """
        old, future, live, met = False, False, 0, 0
        bounds = [_cutoff(before_ms), lifetime_ms, 0]
        silent: list[OpsctlError] = []
        for found in self._steps("EVAL_RO", patterns, keep, bounds, users, user_pattern, silent):
            old, future = old or found.old > 0, future or found.future > 0
            live, met = live + found.live, met + found.met
            if old:
                bounds[0] = ANY_AGE
        if silent and not old:
            rest = "The other primaries have no session from before the cutoff."
            raise ExternalError(_failures(silent, "" if len(silent) == len(self._primaries) else rest), silent[0].next)
        keys, elsewhere = (0, ()) if silent else self._around(met)
        return KeyCount(old, live, future, met, keys, elsewhere, tuple(each.what for each in silent))

    def _around(self, met: int) -> tuple[int, tuple[str, ...]]:
        """The number of keys in the database and, when none matches, the other databases of the server that have keys."""
        with self._translating(effect=False):
            keys = sum(int(client.dbsize()) for client in self._primaries)
            if met:
                return keys, ()
            spaces = [client.info("keyspace") for client in self._primaries]
        others = {f"{name[2:]}" for space in spaces for name in space if name != f"db{self._db}"}
        return keys, tuple(sorted(others, key=int))

    @writes
    def unlink(
        self,
        patterns: Sequence[str],
        keep: Sequence[str],
        before_ms: int | None,
        lifetime_ms: int,
        progress: ProgressCallback,
        total: int | None = None,
        users: Sequence[str] | None = None,
        user_pattern: str = "",
    ) -> int:
        """Unlink the matching keys from before the cutoff (without one, all); return how many. `progress` is called between steps.

        No other client waits longer than one step. Raises OutcomeUnknown when an answer was lost; repeating is harmless.
        """
        done = 0
        silent: list[OpsctlError] = []
        bounds = [_cutoff(before_ms), lifetime_ms, UNLINK_KEYS if len(self._nodes) == 1 else 1]
        steps = self._steps("EVAL", patterns, keep, bounds, users, user_pattern, silent)
        while (found := self._next(steps, done)) is not None:
            done += found.old
            progress(done, total, "keys")
        if silent and len(silent) == len(self._primaries) and not done:
            unsure = next((each for each in silent if isinstance(each, OutcomeUnknown)), None)
            raise (OutcomeUnknown if unsure else ExternalError)(_failures(silent), (unsure or silent[0]).next)
        if silent:
            # The primaries of a cluster are independent: the keys of the others are deleted.
            rest = (
                "Some of these keys are deleted." if len(silent) == len(self._primaries) else "The keys of the other primaries are deleted."
            )
            raise PartialFailure(_failures(silent, rest), silent[0].next, parts=())
        return done

    def _next(self, steps: Iterator[ScanStep], done: int) -> ScanStep | None:
        try:
            return next(steps, None)
        except ExternalError as failed:
            if not done:
                raise
            # An error of this step does not mean that nothing was deleted.
            raise OutcomeUnknown(f"{failed.what} Some keys are deleted, and some are left.", Retry()) from failed

    def values(self, keys: Sequence[str]) -> list[str | None]:
        """The value of each string key, or None, in the order given."""
        found: dict[str, Any] = {}
        with self._translating(effect=False):
            at: dict[redis.Redis, list[str]] = {}
            for key in keys:
                at.setdefault(self._owner(key), []).append(key)
            for client, theirs in at.items():
                for first in range(0, len(theirs), KEYS_AT_ONCE):
                    some = theirs[first : first + KEYS_AT_ONCE]
                    pipeline = client.pipeline(transaction=False)
                    for key in some:
                        pipeline.get(key)
                    found.update(zip(some, pipeline.execute(), strict=True))
        return [None if found[key] is None else _decode(found[key]) for key in keys]

    def infos(self) -> dict[str, dict[str, Any] | ExternalError]:
        """The INFO of each primary by `HOST:PORT`, read concurrently; an error for a primary that didn't answer."""

        def info(client: redis.Redis) -> dict[str, Any] | ExternalError:
            try:
                with self._translating(effect=False, where=_place(client)):
                    return dict(client.info())
            except ExternalError as silent:
                return silent

        primaries = self._primaries
        with ThreadPoolExecutor(min(len(primaries), AT_ONCE), thread_name_prefix="primary") as pool:
            return dict(zip(map(_place, primaries), pool.map(info, primaries), strict=True))

    def close(self) -> None:
        """Close all connections."""
        for name in ("_main", "_nodes"):
            found = self.__dict__.pop(name, [])
            for client in found.values() if isinstance(found, dict) else [found] if found else []:
                client.close()

    def _steps(
        self,
        command: str,
        patterns: Sequence[str],
        keep: Sequence[str],
        bounds: Sequence[int],
        users: Sequence[str] | None,
        user_pattern: str,
        silent: list[OpsctlError],
    ) -> Iterator[ScanStep]:
        """The result of each step.

        `bounds` are cutoff, lifetime and batch size, read when a step starts. In a cluster, a primary that fails is added to `silent`,
        and the next one is scanned.
        """
        for client in self._primaries:
            try:
                for glob, wanted, spared in searches(patterns, keep, users, user_pattern):
                    yield from self._through(client, command, glob, bounds, (*wanted, *spared))
            except (ExternalError, OutcomeUnknown) as error:
                if len(self._primaries) == 1:
                    raise
                silent.append(error)

    def _through(
        self, client: redis.Redis, command: str, glob: str, bounds: Sequence[int], rest: Sequence[str | bytes]
    ) -> Iterator[ScanStep]:
        """Scan one primary for one pattern."""
        cursor: bytes = b"0"
        while True:
            arguments = (cursor, STEP_KEYS, glob, *bounds, *rest)
            with self._translating(effect=command == "EVAL", where=_place(client)):
                cursor, *found = client.execute_command(command, STEP, 0, *arguments)  # type: ignore[no-untyped-call]
            yield ScanStep(*map(int, found))
            if bytes(cursor) == b"0":
                break

    @cached_property
    def _main(self) -> redis.Redis:
        """A client of the configured endpoint that has answered a PING."""
        client = self._client(self._endpoint.host, self._endpoint.port)
        with self._translating(effect=False):
            client.ping()
        return client

    @cached_property
    def _nodes(self) -> dict[tuple[int, int], redis.Redis]:
        """Each range of slots with its primary's client; without a cluster, all slots."""
        with self._translating(effect=False):
            if not self._main.info("cluster").get("cluster_enabled"):
                return {(0, SLOTS - 1): self._main}
            ranges: Any = self._main.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        clients: dict[tuple[str, int], redis.Redis] = {}
        nodes = {}
        for (first, last), owner in _slots(ranges, self._endpoint.host):
            if owner not in clients:
                clients[owner] = self._client(*owner)
            nodes[first, last] = clients[owner]
        return nodes

    @property
    def _primaries(self) -> list[redis.Redis]:
        return list(dict.fromkeys(self._nodes.values()))

    def _owner(self, key: str) -> redis.Redis:
        from redis.crc import key_slot

        slot = key_slot(key.encode())
        return next((client for (first, last), client in self._nodes.items() if first <= slot <= last), self._main)

    def _client(self, host: str, port: int) -> redis.Redis:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        from opsctl.adapters.redis.endpoint import TlsConnection
        from opsctl.adapters.redis.read_only_guard import ReadingConnection, ReadingTlsConnection

        reading, writing = (ReadingTlsConnection, TlsConnection) if self._endpoint.tls else (ReadingConnection, redis.Connection)
        pool = redis.ConnectionPool(
            connection_class=writing if self.writing else reading,
            **self._endpoint.arguments(host, port),
            db=self._db,
            client_name="opsctl",
            protocol=2,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        return redis.Redis.from_pool(pool)

    @contextmanager
    def _translating(self, *, effect: bool, where: str = "") -> Iterator[None]:
        import redis.exceptions as sdk

        try:
            yield
        except sdk.RedisError as cause:
            raise _translated(cause, effect, where or f"{self._endpoint.host}:{self._endpoint.port}") from cause


def _failures(silent: Sequence[OpsctlError], rest: str = "") -> str:
    return " ".join(filter(None, [*(each.what for each in silent), rest]))


def _place(client: redis.Redis) -> str:
    return "{host}:{port}".format_map(client.connection_pool.connection_kwargs)


def _translated(cause: Exception, effect: bool, where: str) -> OpsctlError:
    import redis.exceptions as sdk

    message = clean_sentence(cause)
    if (distrust := certificates.distrusted(cause)) is not None:
        return certificates.untrusted("Redis", where, distrust, "Set `ca` in [redis] to the file of its certificate authority.")
    if isinstance(cause, sdk.AuthenticationError) or message.startswith(("NOAUTH", "WRONGPASS")):
        return CredentialsInvalid(f"Redis at {where} rejected the password: {message}", "Check the password that [redis] refers to.")
    if isinstance(cause, sdk.NoPermissionError) or "has no permissions" in message:
        return Denied(
            f"Redis denied the command: {message}", "Allow this user to run the command (ACL SETUSER).", code="NOPERM", words=message
        )
    if isinstance(cause, sdk.ReadOnlyError):
        return ReadOnly(f"Redis at {where} is a read-only replica: {message}", "Set cluster in [redis] to the primary.")
    if isinstance(cause, sdk.MaxConnectionsError | sdk.BusyLoadingError):
        return ExternalError(f"Redis at {where} accepts no commands now: {message}", Retry("Wait a moment"))
    if isinstance(cause, sdk.ConnectionError | sdk.TimeoutError):
        if message.startswith(("Error ", "Timeout connecting")):
            return Unreachable(f"Redis at {where} is unreachable: {message}", Retry("Check the network (VPN)"))
        if effect:
            return OutcomeUnknown(
                f"Redis at {where} stopped answering during a deletion: {message} Some keys may be deleted.",
                Retry(),
            )
        return ExternalError(f"Redis at {where} did not answer in time, or closed the connection: {message}", Retry())
    if "unknown command" in message.lower() and "EVAL_RO" in message:
        return ConfigurationError(f"Redis at {where} is older than 7.0, which opsctl needs.", "Upgrade it.")
    return ExternalError(f"Redis at {where} refused the command: {message}", code=message.split(" ", 1)[0], words=message)


def _slots(ranges: Any, main: str) -> Iterator[tuple[tuple[int, int], tuple[str, int]]]:
    """The ranges of CLUSTER SLOTS with their primaries, whether the SDK parsed it or not. No host means the queried one."""
    if isinstance(ranges, dict):
        for slots, nodes in ranges.items():
            host, port = nodes["primary"][:2]
            yield slots, (_decode(host) or main, int(port))
        return
    for first, last, primary, *_ in ranges:
        yield (int(first), int(last)), (_decode(primary[0]) or main, int(primary[1]))


def _decode(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _cutoff(before_ms: int | None) -> int:
    return ANY_AGE if before_ms is None else before_ms
