"""Any order of calls keeps the invariants I1, I2 and I5 of the store, and its version honest."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres_server import PostgresServer
from registry_world import (
    DEVICE_BYTES,
    ME,
    Clock,
    device,
    gang,
    planned,
    report,
    spec,
    url_in,
)
from sqlalchemy import select

from registry import db
from registry.errors import ConflictError, NotFoundError, PlanConflictError
from registry.spec import ModelSpec, Role
from registry.state import (
    LEAVING_PHASES,
    LIVE_PHASES,
    SLEEPING_PHASES,
    NodeState,
    Phase,
    SleepMode,
    Snapshot,
)
from registry.store import Store
from registry.tables import DeviceRow

MODELS = ("a", "b")
# Node p is always there, node n comes and goes.
DEVICES = {"n": ("n/cpu0", "n/cpu1"), "p": ("p/cpu0", "p/cpu1")}
_TEMPLATE = Path(tempfile.mkdtemp(prefix="modelyard-machine-"))

models = st.sampled_from(MODELS)
sources = st.sampled_from(("hf://org/x", "hf://org/y", "hf://org/z"))
shares = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from((20, 50, DEVICE_BYTES))),
    min_size=1,
    max_size=2,
    unique_by=lambda share: share[0],
)


ASLEEP_PHASES = SLEEPING_PHASES | {Phase.WAKING}
SEEN_PHASES = frozenset(Phase) - ASLEEP_PHASES


@pytest.fixture(scope="module", autouse=True)
def _template() -> Iterator[None]:
    asyncio.run(db.upgrade(url_in(_TEMPLATE)))
    yield
    shutil.rmtree(_TEMPLATE)


class StoreMachine(RuleBasedStateMachine):
    server: PostgresServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="modelyard-machine-"))
        self.runner = asyncio.Runner()
        self.url = self._new_database()
        self.clock = Clock()
        # Two on one database take turns, like gateway and controller.
        self.stores = [self.run(self._open()) for _ in range(2)]
        self.turn = 0
        self.history: dict[str, list[ModelSpec]] = {name: [] for name in MODELS}
        self.generation = dict.fromkeys(MODELS, 0)
        self.standing: set[str] = set()
        self.ended: set[str] = set()
        self.seen: Snapshot | None = None

    def _new_database(self) -> str:
        if self.server is not None:
            url: str = self.run(self.server.database())
            return url
        shutil.copy(_TEMPLATE / "modelyard.db", self.folder)
        return url_in(self.folder)

    async def _open(self) -> Store:
        return await Store.open(self.url, clock=self.clock)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    @property
    def store(self) -> Store:
        self.turn += 1
        return self.stores[self.turn % 2]

    def teardown(self) -> None:
        for store in self.stores:
            self.run(store.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def snapshot(self) -> Snapshot:
        return self.run(self.store.snapshot())

    # --- rules

    @initialize()
    def join(self) -> None:
        self.run(
            self.store.report_nodes(
                (
                    report(device(0), device(1)),
                    report(device(0, node="p"), device(1, node="p"), node="p"),
                )
            )
        )
        self.apply("a", "hf://org/x", None)
        for ordinal in (7, 8):
            worker = planned("a", ordinal=ordinal, node="p", claims={"p/cpu0": 20})
            (placed,) = self.run(self.store.commit_gang(gang(worker)))
        self.run(self.store.set_worker(placed.id, Phase.STOPPED))
        self.ended.add(placed.id)

    @rule(name=models, source=sources, guess=st.sampled_from((None, None, 1, 2, 3)))
    def apply(self, name: str, source: str, guess: int | None) -> None:
        wanted = spec(name, source=source)
        fits = guess is None or (name in self.standing and guess == self.generation[name])
        try:
            model, changed = self.run(self.store.apply_model(wanted, by=ME, if_match=guess))
        except ConflictError:
            assert not fits
            return
        assert fits
        same = name in self.standing and self.history[name][-1] == wanted
        assert changed is not same
        if changed:
            self.history[name].append(wanted)
            self.generation[name] += 1
        self.standing.add(name)
        assert (model.revision, model.generation) == (
            len(self.history[name]),
            self.generation[name],
        )

    @rule(name=models)
    def delete(self, name: str) -> None:
        try:
            self.run(self.store.delete_model(name, by=ME))
        except NotFoundError:
            assert name not in self.standing
            return
        self.standing.remove(name)
        self.generation[name] += 1

    @rule(
        name=models,
        ordinal=st.integers(0, 2),
        fingerprint=st.sampled_from("fg"),
        node=st.sampled_from("nppp"),
        prefill=shares,
        decode=st.none() | shares,
    )
    def place(  # noqa: PLR0917 - hypothesis gives them by name
        self,
        name: str,
        ordinal: int,
        fingerprint: str,
        node: str,
        prefill: list[tuple[int, int]],
        decode: list[tuple[int, int]] | None,
    ) -> None:
        wanted = [
            planned(
                name,
                role=role,
                ordinal=ordinal,
                fingerprint=fingerprint,
                node=node,
                claims={DEVICES[node][index]: held for index, held in shares_},
            )
            for role, shares_ in ((Role.PREFILL, prefill), (Role.DECODE, decode))
            if shares_ is not None
        ]
        before = self.seen
        try:
            placed = self.run(self.store.commit_gang(gang(*wanted)))
        except PlanConflictError:
            assert self.snapshot() == before
            return
        assert name in self.standing
        assert len(placed) == len(wanted)

    @precondition(lambda self: self.seen is not None and self.seen.workers)
    @rule(
        data=st.data(),
        phase=st.sampled_from(sorted(SEEN_PHASES)),
        reason=st.sampled_from(("", "because")),
    )
    def observe(self, data: st.DataObject, phase: Phase, reason: str) -> None:
        assert self.seen is not None
        worker = data.draw(st.sampled_from(self.seen.workers))
        self.clock.now += 1
        told = self.run(self.store.set_worker(worker.id, phase, reason=reason))
        leaves_on = worker.phase in LEAVING_PHASES and phase in LIVE_PHASES - LEAVING_PHASES
        if worker.phase in ASLEEP_PHASES:  # nobody is woken by what is seen of him
            assert told.phase not in LIVE_PHASES - LEAVING_PHASES - {worker.phase}
        else:
            assert told.phase is (worker.phase if leaves_on else phase)
        if told.phase not in LIVE_PHASES:
            self.ended.add(worker.id)

    @precondition(lambda self: self.seen is not None and self.seen.workers)
    @rule(
        data=st.data(),
        mode=st.sampled_from((SleepMode.STOPPED, SleepMode.WEIGHTS_ON_HOST)),
        held_bytes=st.integers(0, 3),
    )
    def sleep(self, data: st.DataObject, mode: SleepMode, held_bytes: int) -> None:
        assert self.seen is not None
        worker = data.draw(st.sampled_from(self.seen.workers))
        self.run(self.store.set_worker(worker.id, Phase.READY))
        told = self.run(self.store.sleep_worker(worker.id, mode, reason="idle"))
        assert told.phase is not Phase.READY
        held = dict.fromkeys(DEVICES["n"] + DEVICES["p"], held_bytes)
        self.run(self.store.worker_sleeps(worker.id, held if mode is not SleepMode.STOPPED else {}))

    @precondition(lambda self: self.seen is not None and self.seen.workers)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        """The claims come back whole, or the worker sleeps on."""
        assert self.seen is not None
        sleepers = [w for w in self.seen.workers if w.phase is Phase.ASLEEP]
        assume(sleepers)
        worker = data.draw(st.sampled_from(sleepers))
        before = self.seen
        try:
            told = self.run(self.store.wake_worker(worker.id, reason="asked for"))
        except PlanConflictError:
            assert self.snapshot() == before
            return
        assert told.phase in {Phase.ASSIGNED, Phase.WAKING}

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), phase=st.sampled_from(Phase))
    def observe_too_late(self, data: st.DataObject, phase: Phase) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.ended)))
        before = self.run(self.store.version())
        try:
            told = self.run(self.store.set_worker(worker_id, phase))
        except NotFoundError:
            return  # forgotten
        assert told.phase not in LIVE_PHASES
        assert self.run(self.store.version()) == before

    @rule(
        shown=st.lists(st.sampled_from((0, 1)), unique=True),
        memory_bytes=st.sampled_from((DEVICE_BYTES, DEVICE_BYTES // 2)),
    )
    def devices_come_and_go(self, shown: list[int], memory_bytes: int) -> None:
        devices = [device(index, memory_bytes=memory_bytes) for index in shown]
        self.run(self.store.report_nodes((report(*devices),)))

    @rule(state=st.sampled_from((NodeState.READY, NodeState.CORDONED)))
    def cordon(self, state: NodeState) -> None:
        self.run(self.store.set_node_state("n", state, by=ME))

    @rule()
    def fall_silent(self) -> None:
        self.clock.now += 100
        self.run(self.store.mark_nodes_unknown(("n", "p"), why="silent"))
        steady = report(device(0, node="p"), device(1, node="p"), node="p")
        self.run(self.store.report_nodes((steady,)))

    @rule(keep=st.integers(0, 2))
    def forget(self, keep: int) -> None:
        self.run(self.store.forget_ended(keep_per_slot=keep))

    @rule(name=models, condition=st.sampled_from(("", "no device", "no node")))
    def refuse(self, name: str, condition: str) -> None:
        assume(name in self.standing)
        self.run(self.store.set_condition(name, condition))

    # --- invariants

    @invariant()
    def everything_holds(self) -> None:
        self.seen, seen = self.snapshot(), self.seen
        self.i1_no_device_gives_more_than_it_has(self.seen)
        self.i2_exactly_the_live_workers_hold_claims(self.seen)
        self.i5_revisions_are_all_there_in_order()
        self.nothing_changes_at_one_version(seen, self.seen)

    def i1_no_device_gives_more_than_it_has(self, seen: Snapshot) -> None:
        claimed = Counter[str]()
        for claim in seen.claims:
            claimed[claim.device_id] += claim.memory_bytes
        memory = {device.id: device.memory_bytes for device in seen.devices}
        assert all(claimed[device_id] <= memory[device_id] for device_id in claimed)
        assert self.run(self._sums()) == {d: claimed[d] for d in memory}

    async def _sums(self) -> dict[str, int]:
        async with self.store._scopes.read() as session:
            found = await session.scalars(select(DeviceRow))
            return {row.id: row.claimed_bytes for row in found}

    def i2_exactly_the_live_workers_hold_claims(self, seen: Snapshot) -> None:
        held = Counter(claim.worker_id for claim in seen.claims)
        assert held == {worker.id: worker.plan.devices for worker in seen.workers}
        assert all(worker.phase in LIVE_PHASES for worker in seen.workers)
        assert not {worker.id for worker in seen.workers} & self.ended
        slots = Counter((w.plan.slot, w.plan.fingerprint) for w in seen.workers)
        assert set(slots.values()) <= {1}

    def i5_revisions_are_all_there_in_order(self) -> None:
        assert {model.name for model in self.run(self.store.models())} == self.standing
        for name in self.standing:
            revisions = self.run(self.store.revisions(name))
            assert [r.number for r in revisions] == [*range(1, len(self.history[name]) + 1)]
            assert [r.spec for r in revisions] == self.history[name]

    def nothing_changes_at_one_version(self, last: Snapshot | None, seen: Snapshot) -> None:
        """Gateway and controller look again only when the version moved."""
        if last is not None:
            assert last.version <= seen.version
            assert last.version < seen.version or _followed(last) == _followed(seen)


def _followed(seen: Snapshot) -> Snapshot:
    nodes = tuple(msgspec.structs.replace(node, last_seen_at=0.0) for node in seen.nodes)
    return msgspec.structs.replace(seen, nodes=nodes, ended=())


_SETTINGS = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    # Shrinking takes minutes: add Phase.shrink here when a failing run is too long to read.
    phases=(HypothesisPhase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_on_sqlite() -> None:
    run_state_machine_as_test(StoreMachine, settings=_SETTINGS)


def test_on_postgresql(postgres: PostgresServer) -> None:
    machine = type("OnPostgres", (StoreMachine,), {"server": postgres})
    # Fewer: each step is many trips to the server. SQLite's run has the breadth.
    run_state_machine_as_test(machine, settings=settings(_SETTINGS, max_examples=3))
