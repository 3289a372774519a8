"""Fleets and models by seed: real specs, expanded, and a snapshot as the registry gives it."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from pipelines.topology import Gang, expand
from registry.spec import from_data
from registry.state import (
    Claim,
    Device,
    DeviceKind,
    Model,
    Node,
    NodeState,
    Phase,
    Quota,
    Snapshot,
    Worker,
    WorkerPlan,
)

GIB = 2**30
_T = TypeVar("_T")
PRIORITIES = {50: 20, 100: 45, 200: 25, 400: 10}  # with how often
RATIOS = ((1, 1), (1, 1), (2, 1), (1, 2), (1, 3), (2, 3), (4, 4))
LOCALITIES = {"prefer": 60, "fabric": 25, "node": 15}
ENGINES = ("vllm", "vllm", "sglang")


class Kind(NamedTuple):
    """A kind of node: *devices* GPUs of *gib*, of which *island* at a time are joined; 0: none."""

    model: str
    devices: int
    gib: int
    island: int


H100 = Kind("NVIDIA H100 80GB HBM3", 8, 80, 8)
H100_BRIDGED = Kind("NVIDIA H100 PCIe", 8, 80, 2)
A100 = Kind("NVIDIA A100-SXM4-80GB", 8, 80, 4)
A100_16 = Kind("NVIDIA A100-SXM4-40GB", 16, 40, 8)
L40S = Kind("NVIDIA L40S", 4, 48, 0)


class World(NamedTuple):
    """A fleet, and the *gangs* that want to be on it, in the order in which they came."""

    snapshot: Snapshot
    gangs: tuple[Gang, ...]


def runtime_of(plan: WorkerPlan, kind: DeviceKind) -> str:
    return plan.runtime or f"{plan.engine}-{kind}"


def a_large_world(seed: int) -> World:
    """10,000 devices on 1,250 nodes; 1,000 models of about 3,000 workers that nearly fill them."""
    chance = Random(seed)
    kinds = [H100] * 450 + [H100_BRIDGED] * 150 + [A100] * 350 + [A100_16] * 100 + [L40S] * 200
    nodes, devices = a_fleet(chance, kinds, unwell=0.01)
    owners = [f"team-{number}" for number in range(40)]
    models = [a_model(chance, f"m{number:04}", owners, LARGE) for number in range(1000)]
    quotas = tuple(Quota(owner=owner, devices=450) for owner in owners[:10])
    snapshot = a_snapshot(nodes, devices, models=models, quotas=quotas)
    return World(snapshot, gangs_of(models))


def a_world(seed: int, *, devices_min: int = 64, devices_max: int = 256) -> World:
    """A fleet on which others hold places already, and models that want 1.0 to 1.6 times as much
    as is free.
    """
    chance = Random(seed)
    kinds = _some_kinds(chance, chance.randint(devices_min, devices_max))
    nodes, devices = a_fleet(chance, kinds, unwell=0.03)
    owners = [f"team-{number}" for number in range(6)]
    residents, workers, claims = _residents(chance, nodes, devices, owners)
    free_gib = _free_gib(nodes, devices, claims)
    wanted_gib = free_gib * chance.uniform(1.0, 1.6)
    models: list[Model] = []
    while sum(demand_gib(plan) for gang in gangs_of(models) for plan in gang) < wanted_gib:
        models.append(a_model(chance, f"m{len(models):03}", owners, SMALL))
    quotas = (Quota(owner=owners[0], devices=max(8, len(devices) // 8)),)
    snapshot = a_snapshot(
        nodes,
        devices,
        models=[*residents, *models],
        workers=workers,
        claims=claims,
        quotas=quotas,
    )
    return World(snapshot, gangs_of(models))


def gangs_of(models: Sequence[Model]) -> tuple[Gang, ...]:
    return tuple(gang for model in models for gang in expand(model))


def demand_gib(plan: WorkerPlan) -> int:
    """What a worker asks for. A whole device counts as the largest that its wishes allow."""
    wish = plan.placement.device_model.lower()
    whole = max(kind.gib for kind in KINDS if wish in kind.model.lower())
    return plan.devices * (plan.memory_bytes // GIB or whole)


KINDS = (H100, H100_BRIDGED, A100, A100_16, L40S)


def a_fleet(
    chance: Random, kinds: Sequence[Kind], *, unwell: float
) -> tuple[list[Node], list[Device]]:
    """Racks of eight nodes, zones of ten racks, fabrics of two racks. A share of *unwell* nodes is
    cordoned or silent, and as many devices are in quarantine.
    """
    nodes: list[Node] = []
    devices: list[Device] = []
    order = list(kinds)
    chance.shuffle(order)
    for number, kind in enumerate(order):
        name = f"n{number:04}"
        state = NodeState.READY
        if chance.random() < unwell:
            state = chance.choice((NodeState.CORDONED, NodeState.UNKNOWN))
        nodes.append(
            Node(
                name=name,
                address="10.0.0.1",
                state=state,
                device_kind=DeviceKind.CUDA,
                runtimes=_runtimes(chance),
                labels={
                    "rack": f"r{number // 8}",
                    "zone": f"z{number // 80}",
                    "fabric": f"ib{number // 16}",
                    "tier": "gold" if chance.random() < 0.3 else "plain",
                },
                last_seen_at=0.0,
            )
        )
        devices += _devices(chance, name, kind, unwell)
    return nodes, devices


def _runtimes(chance: Random) -> tuple[str, ...]:
    both = ("vllm-cuda", "sglang-cuda")
    return both if chance.random() < 0.8 else both[:1]


def _devices(chance: Random, node: str, kind: Kind, unwell: float) -> Iterator[Device]:
    for index in range(kind.devices):
        yield Device(
            id=f"{node}/cuda{index}",
            node=node,
            index=index,
            kind=DeviceKind.CUDA,
            model=kind.model,
            memory_bytes=kind.gib * GIB,
            uuid=f"GPU-{node}-{index}",
            island=f"nvlink{index // kind.island}" if kind.island else "",
            quarantine="a foreign process holds it" if chance.random() < unwell else "",
        )


class Mix(NamedTuple):
    """Which shapes models have, with how often; how many replicas; devices of wide workers, and
    of those of pairs and of larger gangs.
    """

    shapes: dict[str, int]
    workers_max: int
    wide: tuple[int, ...]
    of_pairs: tuple[int, ...]
    of_gangs: tuple[int, ...]


SMALL = Mix(
    {"shared": 30, "single": 15, "nearly": 10, "wide": 20, "pair": 25},
    workers_max=3,
    wide=(2, 2, 4, 4, 8),
    of_pairs=(1, 1, 2, 2, 4, 4),
    of_gangs=(1, 1, 2),
)
LARGE = Mix(
    {"shared": 25, "single": 12, "nearly": 8, "wide": 34, "pair": 21},
    workers_max=5,
    wide=(2, 4, 4, 8, 8, 8),
    of_pairs=(2, 4, 8, 8),
    of_gangs=(2, 4, 4, 8),
)


def a_model(chance: Random, name: str, owners: Sequence[str], mix: Mix) -> Model:
    return as_model(
        {
            "name": name,
            "source": f"hf://weights/{name}",
            "owner": chance.choice(owners),
            "priority": _drawn(chance, PRIORITIES),
            "variants": [_variant(chance, mix)],
        }
    )


def as_model(spec: dict[str, Any]) -> Model:
    return Model(
        name=spec["name"],
        generation=1,
        revision=1,
        spec=from_data(spec),
        created_at=0.0,
        updated_at=0.0,
        deleted=False,
        condition="",
    )


def _variant(chance: Random, mix: Mix) -> dict[str, Any]:
    shape = _drawn(chance, mix.shapes)
    placement: dict[str, Any] = {}
    if chance.random() < 0.15:
        placement["labels"] = {"tier": chance.choice(("gold", "plain"))}
    if chance.random() < 0.3:
        placement["device_model"] = chance.choice(("H100", "A100", "80GB"))
    if shape == "pair":
        topology, few = _pair(chance, mix), False
    else:
        topology, few = _alone(chance, shape, mix), shape in ("shared", "single")
    if few and chance.random() < 0.4:
        placement["device_model"] = "L40S"
    widest = max(role["devices"] for role in _roles(topology))
    if widest in (2, 4) and placement.get("device_model") != "L40S" and chance.random() < 0.5:
        placement["island"] = "require"
    return {"engine": chance.choice(ENGINES), "topology": topology, "placement": placement}


def _roles(topology: dict[str, Any]) -> list[dict[str, Any]]:
    return [topology[role] for role in ("prefill", "decode") if role in topology] or [topology]


def _alone(chance: Random, shape: str, mix: Mix) -> dict[str, Any]:
    workers = chance.randint(1, mix.workers_max)
    if shape == "shared":
        return _role(workers, 1, chance.choice((8, 10, 12, 16, 20, 24, 30, 36)), "aggregated")
    if shape == "single":
        return _role(workers, 1, 0, "aggregated")
    if shape == "nearly":
        gib = chance.choice((36, 44, 64, 72))
        return _role(min(workers, 3), chance.choice((1, 1, 2)), gib, "aggregated")
    return _role(min(workers, 4), chance.choice(mix.wide), 0, "aggregated")


def _pair(chance: Random, mix: Mix) -> dict[str, Any]:
    prefill, decode = chance.choice(RATIOS)
    gib = chance.choice((0, 0, 0, 24, 40, 70))
    devices = chance.choice(mix.of_pairs if prefill + decode <= 3 else mix.of_gangs)
    locality = _drawn(chance, LOCALITIES)
    if locality == "node":  # else no node could take it
        devices = min(devices, 8 // (prefill + decode)) or 1
    return {
        "type": "disaggregated",
        "prefill": _role(prefill, devices, gib),
        "decode": _role(decode, devices if chance.random() < 0.7 else max(1, devices // 2), gib),
        "locality": locality,
    }


def _role(workers: int, devices: int, gib: int, kind: str = "") -> dict[str, Any]:
    role = {
        "workers": workers,
        "devices": devices,
        "tensor_parallel": devices,
        "memory": f"{gib}GiB" if gib else "",
    }
    return {"type": kind, **role} if kind else role


def _some_kinds(chance: Random, devices: int) -> list[Kind]:
    kinds: list[Kind] = []
    while sum(kind.devices for kind in kinds) < devices:
        kinds.append(chance.choices(KINDS, weights=(5, 2, 4, 1, 4))[0])
    while sum(kind.devices for kind in kinds) > devices:
        kinds.pop()
    while sum(kind.devices for kind in kinds) + L40S.devices <= devices:
        kinds.append(L40S)
    return kinds


def _residents(
    chance: Random, nodes: Sequence[Node], devices: Sequence[Device], owners: Sequence[str]
) -> tuple[list[Model], list[Worker], list[Claim]]:
    """Workers that nobody may move: they leave holes of all sizes."""
    models: list[Model] = []
    workers: list[Worker] = []
    claims: list[Claim] = []
    ready = {node.name for node in nodes if node.state is NodeState.READY and chance.random() < 0.4}
    for device in devices:
        if device.node not in ready or device.quarantine or chance.random() < 0.55:
            continue
        gib = chance.choice((0, 0, 8, 16, 24, 32))
        model = as_model(
            {
                "name": f"resident-{len(models)}",
                "source": "hf://weights/resident",
                "owner": chance.choice(owners),
                "priority": 1000,
                "variants": [
                    {
                        "engine": "vllm",
                        "topology": {**_role(1, 1, gib, "aggregated"), "min_available": 1},
                    }
                ],
            }
        )
        worker = a_worker(expand(model)[0][0], device.node)
        models.append(model)
        workers.append(worker)
        size_bytes = gib * GIB or device.memory_bytes
        claims.append(Claim(worker_id=worker.id, device_id=device.id, memory_bytes=size_bytes))
    return models, workers, claims


def a_worker(plan: WorkerPlan, node: str) -> Worker:
    return Worker(
        id=f"{plan.model}-{plan.variant}-{plan.role}-{plan.ordinal}",
        plan=plan,
        node=node,
        runtime="vllm-cuda",
        phase=Phase.READY,
        reason="",
        url="http://10.0.0.1:1",
        token="t",
        created_at=0.0,
        ready_at=1.0,
        ended_at=None,
    )


def _free_gib(nodes: Sequence[Node], devices: Sequence[Device], claims: Sequence[Claim]) -> int:
    ready = {node.name for node in nodes if node.state is NodeState.READY}
    taken = sum(claim.memory_bytes for claim in claims)
    usable = (device for device in devices if device.node in ready and not device.quarantine)
    return (sum(device.memory_bytes for device in usable) - taken) // GIB


def a_snapshot(
    nodes: Sequence[Node],
    devices: Sequence[Device],
    *,
    models: Sequence[Model] = (),
    workers: Sequence[Worker] = (),
    claims: Sequence[Claim] = (),
    quotas: tuple[Quota, ...] = (),
) -> Snapshot:
    return Snapshot(
        version=1,
        models=tuple(models),
        nodes=tuple(nodes),
        devices=tuple(devices),
        workers=tuple(workers),
        ended=(),
        claims=tuple(claims),
        keys=(),
        quotas=quotas,
    )


def _drawn(chance: Random, weights: dict[_T, int]) -> _T:
    return chance.choices(list(weights), weights=list(weights.values()))[0]
