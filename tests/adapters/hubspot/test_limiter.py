"""The limiter beside a counter that refuses as HubSpot does; its slots in a real Redis; and the wall of their connection."""

from __future__ import annotations

import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from opsctl.adapters.hubspot import limiter_redis
from opsctl.adapters.hubspot.limiter import LEASE_SECONDS, Limiter, LocalSlots, SlotsLost
from opsctl.adapters.hubspot.limiter_redis import PREFIX, SCRIPT, RedisSlots, SlotConnection, SlotTlsConnection
from opsctl.errors import ReadOnly
from opsctl.redaction import Secret
from opsctl.sandbox import world_file
from opsctl.sandbox.web import Window

names = itertools.count()


class Clock:
    """A clock that only a pause moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def raw(world):
    with sdk.Redis(host=world["redis_host"], port=int(world["redis_port"]), password=world["redis_password"]) as client:
        yield client


@pytest.fixture
def open_slots(world):
    made = []

    def open_it(name=None, **other):
        where = {"host": world["redis_host"], "port": int(world["redis_port"]), "password": Secret(world["redis_password"])} | other
        made.append(RedisSlots(**where, name=name or f"test:{next(names)}", tls=False))
        return made[-1]

    yield open_it
    for each in made:
        each.client.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 250), st.floats(0.5, 20), st.lists(st.floats(0, 3), min_size=1, max_size=20), st.floats(0, 1))
def test_no_window_of_the_other_side_ever_holds_more_than_the_rate(rate, window, latencies, counted_at):
    clock = Clock()
    limiter = Limiter(rate, clock=clock, pause=clock.pause)
    limiter.learn(rate, window)
    server = Window(rate, window, clock)
    for number in range(2 * rate + 20):
        latency = latencies[number % len(latencies)]
        with limiter.slot():
            clock.now += latency * counted_at
            assert server.admit()
            clock.now += latency * (1 - counted_at)


def test_a_long_run_keeps_to_more_than_95_percent_of_the_rate(clock):
    limiter = Limiter(190, clock=clock, pause=clock.pause)
    for _ in range(4000):
        with limiter.slot():
            clock.now += 0.02
    # The first window is filled as fast as all the others.
    assert 4000 / (clock.now - 1000) >= 0.95 * 19


def test_requests_are_spaced(clock):
    limiter = Limiter(100, clock=clock, pause=clock.pause)
    sent = []
    for _ in range(50):
        with limiter.slot():
            sent.append(clock.now)
    apart = [later - earlier for earlier, later in itertools.pairwise(sent[limiter.reserve + 1 :])]
    assert min(apart) == pytest.approx(10 / 99, abs=1e-6)


def test_what_the_other_side_says_of_its_limit_is_kept_where_it_is_lower(clock):
    limiter = Limiter(190, clock=clock, pause=clock.pause)
    limiter.learn(100, 10)
    assert limiter.rate == 100
    limiter.learn(250, 10)
    assert limiter.rate == 190
    limiter.learn(190, 0)
    for _ in range(1000):
        with limiter.slot():
            pass
    assert clock.now == 1000


def admitted(limiters, server, count):
    """Whether a counter that is met at any moment of a request takes every one of `count`, by eight threads."""

    def one(number):
        with limiters[number % len(limiters)].slot():
            time.sleep(random.uniform(0, 0.01))
            taken = server.admit()
            time.sleep(random.uniform(0, 0.01))
        return taken

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(count)))


def learned(limiter, rate, window):
    limiter.learn(rate, window)
    return limiter


def test_threads_share_the_limit():
    assert all(admitted([learned(Limiter(50), 50, 0.2)], Window(50, 0.2, time.monotonic), 300))


def test_processes_share_the_limit_through_redis(open_slots):
    """Three limiters that know nothing of each other but the key."""
    name = f"test:{next(names)}"
    limiters = []
    for _ in range(3):
        slots = open_slots(name)
        limiters.append(learned(Limiter(150, lambda slots=slots: slots), 150, 0.5))
    assert all(admitted(limiters, Window(150, 0.5, time.monotonic), 600))


def test_the_first_few_ask_nobody_and_are_counted_all_the_same(open_slots, clock):
    slots = open_slots()
    asked = []
    limiter = Limiter(190, lambda: asked.append(1) or slots, clock=clock, pause=clock.pause)
    for _ in range(limiter.reserve):
        with limiter.slot():
            pass
    assert asked == []
    with limiter.slot():
        pass
    assert asked == [1]
    # Those, and the one that asked.
    assert not slots.take("a probe", limiter.reserve + 1, 10)[0]
    assert slots.take("a probe", limiter.reserve + 2, 10)[0]


def test_a_slot_is_free_a_window_after_its_answer_and_not_before(open_slots):
    for slots in (open_slots(), LocalSlots()):
        assert slots.take("a", 1, 0.3)[0]
        taken, wait = slots.take("b", 1, 0.3)
        assert not taken
        assert wait == pytest.approx(LEASE_SECONDS, abs=5)
        slots.hold("a", 0.3)
        taken, wait = slots.take("b", 1, 0.3)
        assert not taken
        assert 0 < wait <= 0.3
        until(lambda slots=slots: slots.take("b", 1, 0.3)[0])


def until(reached):
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_holders_slot_falls_out(open_slots, monkeypatch):
    monkeypatch.setattr(limiter_redis, "LEASE_SECONDS", 0.2)
    slots = open_slots()
    assert slots.take("dead", 1, 0.1)[0]
    assert not slots.take("alive", 1, 0.1)[0]
    until(lambda: slots.take("alive", 1, 0.1)[0])


def test_the_key_ends_by_itself(open_slots, raw):
    slots = open_slots()
    slots.take("a", 5, 10)
    assert 0 < raw.pttl(slots._key) <= (LEASE_SECONDS + 10) * 1000
    slots.hold("a", 10)
    assert 0 < raw.pttl(slots._key) <= (LEASE_SECONDS + 10) * 1000


@pytest.mark.parametrize("connection", [SlotConnection, SlotTlsConnection])
def test_the_wall_alone_lets_nothing_pass_but_the_script_on_its_own_key(world, raw, connection):
    raw.set("session:1:a", "kept")
    refused = [
        ("SET", "opsctl:limit:x", "1"),
        ("DEL", "session:1:a"),
        ("GET", "session:1:a"),
        ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "opsctl:limit:x"),
        ("EVAL", SCRIPT, "1", "session:1:a"),
        ("EVAL", SCRIPT, "2", "opsctl:limit:x", "session:1:a"),
        ("EVAL", SCRIPT, "0"),
        ("EVALSHA", "0" * 40, "1", "opsctl:limit:x"),
        ("CLIENT", "KILL", "ID", "1"),
        ("CLIENT KILL", "ID", "1"),
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory", "1"),
    ]
    made = connection(host=world["redis_host"], port=int(world["redis_port"]), password=world["redis_password"])
    for command in refused:
        for send in (
            lambda c=command: made.send_command(*c),
            lambda c=command: made.pack_command(*c),
            lambda c=command: made.pack_commands([c]),
        ):
            with pytest.raises(ReadOnly, match="only counts slots"):
                send()
    assert raw.get("session:1:a") == b"kept"
    raw.delete("session:1:a")


def test_the_wall_stands_behind_the_slots_own_client(open_slots):
    client = open_slots().client
    for call in (
        lambda: client.set("a", "b"),
        lambda: client.eval("return 1", 0),
        client.flushall,
        lambda: client.pipeline().delete("a").execute(),
    ):
        with pytest.raises(ReadOnly):
            call()


def test_without_a_redis_that_answers_it_counts_here(open_slots, clock):
    dead = open_slots(host="127.0.0.1", port=world_file.free_port())
    with pytest.raises(SlotsLost):
        dead.take("a", 1, 1)
    limiter = Limiter(100, lambda: dead, clock=clock, pause=clock.pause)
    server = Window(100, 10, clock)
    for _ in range(300):
        with limiter.slot():
            assert server.admit()


def test_a_redis_that_goes_away_stops_nobody(clock):
    class Failing(LocalSlots):
        calls = 0

        def take(self, name, limit, window):
            self.calls += 1
            if self.calls > 10:
                raise SlotsLost
            return super().take(name, limit, window)

    limiter = Limiter(100, lambda: Failing(clock), clock=clock, pause=clock.pause)
    for _ in range(50):
        with limiter.slot():
            pass


def test_few_contacts_leave_no_key_and_many_one_that_ends(systems, raw, monkeypatch):
    """A reading system, as a dry run has it."""
    for key in raw.scan_iter(f"{PREFIX}*"):
        raw.delete(key)
    hubspot = systems(writing=False, replace={"rate = 190": "rate = 189"}).hubspot
    learn = hubspot._http.limiter.learn
    monkeypatch.setattr(hubspot._http.limiter, "learn", lambda rate, window: learn(rate, 10))
    hubspot.contact("156855158284")
    assert list(raw.scan_iter(f"{PREFIX}*")) == []
    for _ in range(4):
        hubspot.contact("156855158284")
    (key,) = raw.scan_iter(f"{PREFIX}*")
    assert key == b"opsctl:limit:hubspot:891472211:7906213"
    slots = [name for name in raw.zrange(key, 0, -1) if name != b"next"]
    # The proof of the portal, and five contacts.
    assert len(slots) == 6
    raw.delete(key)


def test_one_limiter_serves_the_reading_and_the_writing_of_a_process(systems):
    assert systems(writing=False).hubspot._http.limiter is systems(writing=True).hubspot._http.limiter


def test_the_slots_of_many_threads_are_never_more_than_the_limit(open_slots):
    slots = open_slots()
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: slots.take(str(number), 20, 10)[0], range(100)))
    assert sum(taken) == 20
