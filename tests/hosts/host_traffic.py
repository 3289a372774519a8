"""Clients that ask all models of a fleet meanwhile, and what must hold of what they saw."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
from fault_client import Answer, Call
from fault_history import End, check
from fault_world import mixed
from host_fleet import Fleet

from registry.state import LIVE_PHASES

CLIENTS = {"wide": 4, "pair": 2, "small-a": 1, "mover": 1}
_EACH_S = 0.1  # a client's rest between two requests
_LOOK_S = 0.2
_KNOWN_S = 2.0  # within it every gateway knows of a worker's end
_numbers = itertools.count()


class Sent(msgspec.Struct, frozen=True):
    """A request, and all that its client knows. Times are of the wall clock."""

    name: str
    call: Call
    answer: Answer
    began_at: float
    over_at: float

    @property
    def model(self) -> str:
        return self.call.body["model"]

    @property
    def workers(self) -> dict[str, str]:
        """Who gave the answer, by role."""
        return dict(part.split("=") for part in self.answer.workers.split(", ") if part)

    def end(self) -> End:
        return check(self.call, self.answer)


class Traffic:
    """``with traffic.flows():`` — asks in a thread of its own; at the end all is answered."""

    def __init__(self, fleet: Fleet) -> None:
        self.sent: list[Sent] = []
        self._fleet = fleet
        self._url = f"http://127.0.0.1:{fleet.port}"
        self._key = fleet.key
        self._going = True
        self._failed: list[BaseException] = []

    @contextlib.contextmanager
    def flows(self) -> Iterator[None]:
        threads = [threading.Thread(target=each) for each in (self._ask, self._look)]
        for thread in threads:
            thread.start()  # in the namespace of the thread that starts it
        try:
            yield
        finally:
            self._going = False
            for thread in threads:
                thread.join()
        if self._failed:
            raise self._failed[0]

    def answered(self, *models: str, since: float = 0.0) -> int:
        """How many answers came in full to requests made after *since*."""
        return sum(
            sent.began_at >= since and sent.answer.status == 200 and sent.end() is End.OK
            for sent in tuple(self.sent)
            if not models or sent.model in models
        )

    def _ask(self) -> None:
        try:
            asyncio.run(self._ask_all())
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._failed.append(error)

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for model, clients in CLIENTS.items():
                for _ in range(clients):
                    group.create_task(self._ask_on(model))

    async def _ask_on(self, model: str) -> None:
        while self._going:
            number = next(_numbers)
            name = f"h-{number}"
            path, body = mixed(number)
            request = path, {**body, "model": model}
            began_at = time.time()
            headers = [f"x-request-id: {name}"]
            call = Call(self._url, request, key=self._key, headers=headers)
            self.sent.append(Sent(name, call, await call, began_at, time.time()))
            await asyncio.sleep(_EACH_S)

    def _look(self) -> None:
        """The registry is right at every moment, not at the end alone."""
        try:
            while self._going:
                assert_nothing_is_claimed_twice(self._fleet)
                time.sleep(_LOOK_S)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._failed.append(error)


def assert_nothing_is_claimed_twice(fleet: Fleet) -> None:
    """I1, and one worker for each slot."""
    devices = fleet.rows(
        "SELECT d.id, d.memory_bytes, d.claimed_bytes, COALESCE(SUM(c.memory_bytes), 0)"
        " FROM devices d LEFT JOIN claims c ON c.device_id = d.id GROUP BY d.id"
    )
    wrong = [each for each in devices if not each[2] == each[3] <= each[1]]
    assert not wrong, f"device, memory, claimed, claims: {wrong}"
    held = fleet.rows("SELECT w.id, w.phase FROM claims c JOIN workers w ON w.id = c.worker_id")
    ended = [each for each in held if each[1] not in LIVE_PHASES]
    assert not ended, f"claims of ended workers: {ended}"
    slots = fleet.rows(
        "SELECT model, variant, role, ordinal, COUNT(*), GROUP_CONCAT(id || ' ' || phase)"
        " FROM workers WHERE ended_at IS NULL AND NOT departing GROUP BY 1, 2, 3, 4"
    )
    twice = [each for each in slots if each[4] > 1]
    assert not twice, f"slots with two workers: {twice}"


def check_all(fleet: Fleet, traffic: Traffic) -> dict[str, Counter[End]]:
    """The invariants of a fleet that is whole again; how the requests ended, by model."""
    assert_nothing_is_claimed_twice(fleet)
    ends = {name: Counter[End]() for name in CLIENTS}
    for sent in traffic.sent:
        ends[sent.model][sent.end()] += 1
    _check_who_answered(fleet, traffic)
    _check_usage(fleet, traffic)
    in_flight = fleet.metric("modelyard_in_flight_requests")
    assert in_flight == 0, f"{in_flight} requests are counted as under way"
    return ends


def _check_who_answered(fleet: Fleet, traffic: Traffic) -> None:
    """I6, I7: workers of the model, in the roles of its mode, none that had ended before."""
    known = {
        worker: (model, role, ended_at)
        for worker, model, role, ended_at in fleet.rows(
            "SELECT id, model, role, ended_at FROM workers"
        )
    }
    for sent in traffic.sent:
        for role, worker in sent.workers.items():
            model, real_role, ended_at = known[worker]
            assert (model, real_role) == (sent.model, role), sent.answer
            assert ended_at is None or sent.began_at < ended_at + _KNOWN_S, sent.answer
        roles = {
            "aggregated": {"unified"},
            "disaggregated": {"prefill", "decode"},
        }.get(sent.answer.headers.get("x-modelyard-mode", ""))
        assert roles is None or roles == sent.workers.keys(), sent.answer


def _check_usage(fleet: Fleet, traffic: Traffic) -> None:
    """I4: one row for each request that was let in, with the status that its client saw."""
    by_end = {sent.name: sent.end() for sent in traffic.sent}
    must = {name for name, end in by_end.items() if end is not End.REFUSED}
    deadline = time.monotonic() + 15
    while True:
        rows = fleet.rows("SELECT request_id, status FROM usage WHERE request_id LIKE 'h-%'")
        mine = [row for row in rows if row[0] in by_end]
        missing = must - {name for name, _ in mine}
        if not missing:
            break
        assert time.monotonic() < deadline, f"no usage of {sorted(missing)[:5]}"
        time.sleep(0.3)
    assert len(dict(mine)) == len(mine), "a request has two rows"
    wrong = [
        (name, status, by_end[name])
        for name, status in mine
        if (status == "ok") != (by_end[name] is End.OK)
    ]
    assert not wrong, wrong[:5]
