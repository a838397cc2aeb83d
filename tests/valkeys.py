"""Valkeys of one test's own: a single one, and a cluster."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager

import redis as sdk
from folders import short_folder

from opsctl.sandbox import binaries, processes, world_file


class own_server:  # noqa: N801
    """A Valkey of one test's own, without a password, on a free port."""

    def __init__(self, *options):
        self.options = options

    def __enter__(self):
        self.folder = short_folder()
        port = world_file.free_port()
        command = [binaries.valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *self.options]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = sdk.Redis(port=port)

        def answers():
            try:
                return client.ping()
            except sdk.ConnectionError:
                return False

        assert processes.wait_until(answers, 20)
        return port, self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


@contextmanager
def two_primaries():
    """A cluster of two nodes without replicas, half the slots each: their ports and their processes."""
    # No failover is tried, and a node serves its own slots whatever the others do: as ElastiCache has it.
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "600000")
    buses = [("--cluster-port", str(world_file.free_port())) for _ in range(2)]
    with own_server(*options, *buses[0]) as (one, first), own_server(*options, *buses[1]) as (other, second):
        nodes = [sdk.Redis(port=one), sdk.Redis(port=other)]
        nodes[0].execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        nodes[1].execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", other, buses[1][1])
        assert processes.wait_until(lambda: all(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes), 20)
        yield (one, other), (first, second)
