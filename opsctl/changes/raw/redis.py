"""Unlinking keys of the cache that AWS names, with a small client: redis-cli doesn't verify the name in the certificate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from opsctl.changes.raw.aws import aws, learn
from opsctl.changes.raw.values import credential
from opsctl.shell import Assign, Command, Equal, File, Program, Put, Statement, Variable, When, Word, joined, run
from opsctl.statements.redis_keys import STEP, STEP_KEYS, UNLINK_KEYS

if TYPE_CHECKING:
    from opsctl.config import Environment
    from opsctl.settings import RedisSettings

UNLINK = Program(
    "unlink_keys",
    r"""
import json, socket, ssl, sys
host, port, plan, secret = sys.argv[1:]
with open(plan, encoding="utf-8") as file:
    plan = json.load(file)
with open(secret, "rb") as file:
    password = file.read()

def connect(host, port, address):
    stream = socket.create_connection(address, 10)
    stream.settimeout(60)
    if plan["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(plan["ca"])
        stream = context.wrap_socket(stream, server_hostname=host)
    elif host not in ("127.0.0.1", "::1", "localhost"):
        sys.exit("[redis] says tls = false, but Redis isn't on this machine: its password was not sent")
    found = stream.makefile("rwb")
    if password:
        ask(found, b"AUTH", *plan["user"], password)
    if plan["db"]:
        ask(found, b"SELECT", plan["db"])
    return found

def ask(stream, *words):
    raw = [each if isinstance(each, bytes) else str(each).encode("latin-1") for each in words]
    stream.write(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in raw))
    stream.flush()
    return answer(stream)

def answer(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if not line or kind == b"-":
        sys.exit("Redis refused: " + (rest.decode(errors="replace") or "it closed the connection") + "; some keys may be deleted")
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    return [answer(stream) for _ in range(int(rest))] if kind == b"*" else rest

main = connect(host, int(port), plan["tunnel"] or (host, int(port)))
nodes, at_once = [main], plan["at_once"]
if b"cluster_enabled:1" in ask(main, "INFO", "cluster"):
    first = {((node[0] or host.encode()).decode(), int(node[1])) for _, _, node, *_ in ask(main, "CLUSTER", "SLOTS")}
    if len(first) > 1 and plan["tunnel"]:
        sys.exit("Redis is a cluster of several nodes, but the tunnel leads to only one")
    if any(name.partition(".")[2] != host.partition(".")[2] for name, _ in first):
        sys.exit("Redis names a node outside its own domain: nothing was sent there")
    nodes, at_once = [connect(*each, plan["tunnel"] or each) for each in sorted(first)], 1
for node in nodes:
    for glob, wanted, spared in plan["searches"]:
        cursor = b"0"
        while True:
            cursor = ask(node, "EVAL", plan["step"], 0, cursor, plan["keys"], glob, -1, 0, at_once, *wanted, *spared)[0]
            if cursor == b"0":
                break
""",
)
"""Goes through the keys of each primary in short steps, as opsctl does; words are bytes, each written as a letter."""


def unlink(environment: Environment, searches: Iterable[tuple[str, Sequence[str | bytes], Sequence[bytes]]]) -> list[Statement]:
    """Unlinks the keys that searches find, after verifying the cache's certificate."""
    settings = environment.redis
    plan, secret = File("searches"), File("redis-password")
    how = {
        "tls": settings.tls,
        "user": [_letters(settings.user)] if settings.user else [],
        "db": settings.db,
        "ca": _authorities(settings),
        "tunnel": settings.tunnel_address,
        "step": STEP,
        "keys": STEP_KEYS,
        "at_once": UNLINK_KEYS,
        "searches": [(_letters(glob), [*map(_letters, wanted)], [*map(_letters, spared)]) for glob, wanted, spared in searches],
    }
    login: list[Statement] = credential(environment, settings.password, secret) if settings.password else [Put(file=secret, words=("",))]
    return [
        *_locate_cache(environment, settings),
        *login,
        Put(file=plan, words=(json.dumps(how),)),
        run(UNLINK, Variable("redis_address"), Variable("redis_port"), plan, secret),
    ]


def _authorities(settings: RedisSettings) -> str:
    from opsctl import certificates

    return certificates.authorities(settings.ca) if settings.tls else ""


def _letters(each: str | bytes) -> str:
    return (each.encode(errors="surrogateescape") if isinstance(each, str) else each).decode("latin-1")


def _locate_cache(environment: Environment, settings: RedisSettings) -> list[Statement]:
    """Sets the variables `redis_address` and `redis_port`: a single cache, or the primary of its group."""
    ours = aws(environment, "elasticache", "describe-cache-clusters", CacheClusterId=settings.cluster, ShowCacheNodeInfo=True)
    group = aws(environment, "elasticache", "describe-replication-groups", joined("--replication-group-id=", Variable("group")))
    alone = "CacheClusters[0].[ConfigurationEndpoint, CacheNodes[0].Endpoint]"
    several = "ReplicationGroups[0].[ConfigurationEndpoint, NodeGroups[0].PrimaryEndpoint]"

    def place(found: Command, query: str) -> tuple[Statement, ...]:
        return tuple(learn(f"redis_{word.lower()}", found, f"{query} | [?@] | [0].{word}") for word in ("Address", "Port"))

    named: Word = settings.cluster
    return [
        When(
            test=ours,
            then=(learn("group", ours, "CacheClusters[0].ReplicationGroupId"),),
            otherwise=(Assign(variable="group", value=named),),
        ),
        When(test=Equal(one=Variable("group"), other="None"), then=place(ours, alone), otherwise=place(group, several)),
    ]
