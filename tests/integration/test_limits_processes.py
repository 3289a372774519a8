"""Real processes on one ledger of limits, as fast as they can, and killed at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.limits import Ledger
from gateway.limits.account import Account

# Forks a process for each line that it reads. That one lets requests in, says so with a byte and
# ends them, until a minute's requests are used up, or it is killed.
NURSERY = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
from limits_world import a_limited, a_row, tokens
from gateway.errors import ApiError
from gateway.limits import Ledger, Limiter

async def hammer(path, limit, out):
    limiter = Limiter(Ledger.open(Path(path)))
    key, row = a_limited(requests_per_minute=limit, in_flight=2), a_row(in_flight=3)
    while True:
        try:
            permit = await limiter.admit(key, row, tokens())
        except ApiError as error:
            if error.reason == "requests_per_minute":
                return
            continue
        os.write(out, b"a")
        permit.settle(20, 0)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        asyncio.run(hammer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        os._exit(0)
    print(pid, flush=True)
"""


class Crowd:
    def __init__(self, path, limit):
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self.let_in = 0
        self._pids = []
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(path), str(limit), str(write)],
            pass_fds=[write],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(write)

    def start(self):
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        self._pids.append(int(self._nursery.stdout.readline()))

    def alive(self):
        return [pid for pid in self._pids if Path(f"/proc/{pid}").exists()]

    def kill(self, pid):
        """Its pid is the nursery's child's until it is gone."""
        if pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        while pid in self.alive():
            time.sleep(0.001)
        self._pids.remove(pid)

    def look(self):
        """How many have been let in so far."""
        try:
            while data := os.read(self._read, 65_536):
                self.let_in += len(data)
        except BlockingIOError:
            pass
        return self.let_in

    def end(self):
        for pid in self.alive():
            self.kill(pid)
        self._nursery.communicate("")
        os.close(self._read)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "limits.ledger"


def test_processes_that_race_let_in_exactly_the_limit(path):
    crowd = Crowd(path, 2000)
    try:
        for _ in range(3):
            crowd.start()
        while crowd.alive():
            crowd.look()
            time.sleep(0.01)
        assert crowd.look() == 2000
    finally:
        crowd.end()


def test_kills_at_any_moment_leave_the_ledger_sound(path):
    dice, kills, crowd = random.Random(7), 40, Crowd(path, 10**6)
    try:
        for _ in range(3):
            crowd.start()
        for _ in range(kills):
            before = crowd.look()
            while crowd.look() < before + 50:
                time.sleep(0.001)
            time.sleep(dice.random() / 100)
            crowd.kill(dice.choice(crowd.alive()))
            crowd.start()
        for pid in crowd.alive():
            crowd.kill(pid)
        told = crowd.look()
    finally:
        crowd.end()
    ledger = Ledger.open(path)
    assert ledger.lock(), "nobody is left who could hold it"
    ledger.reap()
    for name in ("key key_alice", "model m"):
        account = Account(ledger, name)
        account.open(int(time.monotonic()))
        counted = sum(account.request_buckets)
        assert account.in_flight == 0
        assert account.requests >= counted
        assert told <= counted <= told + kills + 3, "one more at most for each that was killed"
    ledger.close()
