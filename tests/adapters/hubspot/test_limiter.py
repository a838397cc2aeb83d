"""The limiter beside a counter that refuses as HubSpot does; its slots in a file that several processes share."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from accesses import access
from hypothesis import given, settings
from hypothesis import strategies as st

from opsctl.adapters.hubspot import limiter as limiters
from opsctl.adapters.hubspot.http import HubSpotHttp
from opsctl.adapters.hubspot.limiter import LEASE_SECONDS, FileStore, Limiter, MemoryStore, StoreUnavailable
from opsctl.errors import Throttled
from opsctl.redaction import Secret
from opsctl.retry import Policy
from opsctl.sandbox.web import Window


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


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "limits" / "x.slots")


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
    apart = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert min(apart) == pytest.approx(10 / 100, abs=1e-6)


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


CHILD = """
import sys, urllib.request
from pathlib import Path
from opsctl.adapters.hubspot.limiter import FileStore, Limiter
limiter = Limiter(60, FileStore(Path(sys.argv[1])))
limiter.learn(60, 0.4)
for _ in range(50):
    with limiter.slot():
        urllib.request.urlopen(sys.argv[2], timeout=30).read()
"""


class Counting(ThreadingHTTPServer):
    """Answers 429 beyond its limit, as HubSpot does."""

    daemon_threads = True

    def __init__(self) -> None:
        self.window, self.mutex, self.statuses = Window(60, 0.4, time.monotonic), threading.Lock(), []

        class Handler(BaseHTTPRequestHandler):
            server: Counting

            def do_GET(self) -> None:
                with self.server.mutex:
                    status = 200 if self.server.window.admit() else 429
                    self.server.statuses.append(status)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)


def test_processes_of_one_machine_share_the_limit_and_meet_no_429(tmp_path):
    server = Counting()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        line = [sys.executable, "-c", CHILD, str(tmp_path / "x.slots"), f"http://127.0.0.1:{server.server_port}/"]
        children = [subprocess.Popen(line) for _ in range(3)]
        assert [child.wait(120) for child in children] == [0, 0, 0]
    finally:
        server.shutdown()
        server.server_close()
    assert server.statuses == [200] * 150


def waiting(server, *answers):
    """HubSpot's client at a server that gives these answers, and the pauses that it makes."""
    server.answers = [(status, headers, "{}") for status, headers in answers]
    http = HubSpotHttp(server.base, access(writing=True), token=Secret("a-token-of-hubspot"), limiter=Limiter(100), reading_posts=())
    waits = []
    http.pause = waits.append
    return http, waits


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_429_of_another_machines_making_is_waited_out_as_long_as_it_says(server, method):
    http, waits = waiting(server, (429, {"Retry-After": "7"}), (429, {"Retry-After": "3"}), (200, {}))
    assert http.call(method, "/x", "a contact").status_code == 200
    assert waits == [7, 3]
    http.close()


def test_a_429_that_says_no_time_is_waited_out_for_a_window(server):
    http, waits = waiting(server, (429, {}), (200, {}))
    assert http.call("PATCH", "/x", "a contact").status_code == 200
    assert waits == [10]
    http.close()


def test_a_429_that_asks_for_more_than_the_deadline_is_an_error_at_once(server):
    http, waits = waiting(server, (429, {"Retry-After": "3600"}), (200, {}))
    with pytest.raises(Throttled):
        http.call("PATCH", "/x", "a contact")
    assert (waits, len(server.seen)) == ([], 1)
    http.close()


def test_a_slot_is_free_a_window_after_its_answer_and_not_before(store):
    assert store.acquire("a", 1, 0.3)[0]
    taken, wait = store.acquire("b", 1, 0.3)
    assert not taken
    assert wait == pytest.approx(LEASE_SECONDS, abs=5)
    store.extend("a", 0.3)
    taken, wait = store.acquire("b", 1, 0.3)
    assert taken or 0 < wait <= 0.3
    until(lambda: taken or store.acquire("b", 1, 0.3)[0])


def until(reached):
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_holders_slot_falls_out(store, monkeypatch):
    monkeypatch.setattr(limiters, "LEASE_SECONDS", 0.2)
    assert store.acquire("dead", 1, 0.1)[0]
    until(lambda: store.acquire("alive", 1, 0.1)[0])


def test_the_file_is_this_users_alone_and_what_it_held_before_the_machine_started_is_dropped(tmp_path, clock):
    path = tmp_path / "limits" / "x.slots"
    clock.now = 1_000_000.0
    assert FileStore(path, clock).acquire("before", 1, 10)[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    clock.now = 50.0
    assert FileStore(path, clock).acquire("after", 1, 10) == (True, 0.0)


def test_a_file_that_nobody_has_used_for_a_day_is_removed(tmp_path):
    old, new = tmp_path / "old.slots", tmp_path / "new.slots"
    for path in (old, new):
        path.write_text("{}\n")
    os.utime(old, (0, 0))
    limiters.limiter("mine", 100, tmp_path)
    assert not old.exists()
    assert new.exists()


def test_a_file_that_cant_be_read_counts_as_a_window_that_is_full(tmp_path, clock):
    path = tmp_path / "x.slots"
    path.write_bytes(b"\x00not JSON")
    assert FileStore(path, clock).acquire("a", 5, 10) == (True, 10.0)
    assert FileStore(path, clock).acquire("b", 5, 10) == (True, 12.0)


def held(path: Path):
    """The file, locked by somebody who keeps it."""
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_a_file_that_cant_be_used_stops_nobody(tmp_path, clock, monkeypatch):
    """A folder that is a file, a link, and a lock that a stopped process keeps."""
    monkeypatch.setattr(limiters, "LOCKING", Policy(tries=3, deadline=1.0, first=0.001))
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with held(tmp_path / "locked"):
        for path in (tmp_path / "file" / "x.slots", tmp_path / "link", tmp_path / "locked"):
            with pytest.raises(StoreUnavailable):
                FileStore(path).acquire("a", 1, 1)
            limiter = Limiter(100, FileStore(path), clock=clock, pause=clock.pause)
            server = Window(100, 10, clock)
            for _ in range(150):
                with limiter.slot():
                    assert server.admit()
    assert (tmp_path / "file").read_text() == ""


def test_one_limiter_serves_the_reading_and_the_writing_of_a_process(systems):
    assert systems(writing=False).hubspot._http.limiter is systems(writing=True).hubspot._http.limiter


def test_the_slots_of_many_threads_are_never_more_than_the_limit(store):
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: store.acquire(str(number), 20, 10)[0], range(100)))
    assert sum(taken) == 20
