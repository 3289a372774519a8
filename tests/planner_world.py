"""For the planner's tests: models of made-up step times, linear in what a step carries; fleets, and
what their nodes would report.
"""

from collections.abc import Iterator

import msgspec

from pipelines.cluster.gpus import SWITCH, Accelerator, Gpu, found_devices
from pipelines.engines import ENGINES
from pipelines.planner.demand import Demand, spread
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.plan import Subject
from pipelines.planner.times import NoRoomError, StepTimes, Worker
from registry.spec.demand import Slo
from registry.state import DeviceKind, NodeReport

SPEED = {"H100": 1.0, "A100": 0.5, "L40S": 0.25}
MEMORY_GIB = {"H100": 80, "A100": 80, "L40S": 48}
NAMES = {"H100": "NVIDIA H100 80GB HBM3", "A100": "NVIDIA A100-SXM4-80GB", "L40S": "NVIDIA L40S"}
NVLINK = {"H100", "A100"}


class Linear(msgspec.Struct, frozen=True):
    """A step reads the weights, computes prompts and answers, and reads their context."""

    kv_tokens: int
    base_s: float
    token_s: float
    context_s: float = 0.0
    kv_token_bytes: int = 100_000
    overhead_s: float = 0.0
    weight_bytes: int = 0
    memory_bytes: int = 0

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        tokens = prompt_part + sequences
        return self.base_s + self.token_s * tokens + self.context_s * sequences * context


def times_of(gib: float):
    """Of a model whose weights are *gib* and a token of which takes as long as they say."""

    def of(worker: Worker) -> StepTimes:
        room = MEMORY_GIB[worker.device] * worker.devices * 0.9 - gib
        if room <= 0:
            raise NoRoomError(f"no room for {gib} GiB on {worker.devices}x {worker.device}")
        power = SPEED[worker.device] * worker.devices**0.8
        return Linear(
            kv_tokens=int(room * 2**30 / 200_000),
            base_s=gib * 0.4e-3 / power,
            token_s=gib * 1e-6 / power,
            context_s=1e-8 / power,
            weight_bytes=int(gib * 2**30 / worker.devices),
            memory_bytes=int(MEMORY_GIB[worker.device] * 2**30 * 0.9),
        )

    return of


def demand(  # noqa: PLR0917 - what a test varies
    model: str = "m",
    rate: float = 2.0,
    prompt: int = 1000,
    answer: int = 200,
    ttft_s: float = 1.0,
    tpot_s: float = 0.03,
    cv: float = 0.5,
    weight: float = 1.0,
    headroom: float = 0.0,
) -> Demand:
    return Demand(
        model=model,
        rate=rate,
        lengths=spread(prompt, answer, cv, 16),
        slo=Slo(ttft_s=ttft_s, tpot_s=tpot_s),
        weight=weight,
        headroom=headroom,
    )


def subject(asked: Demand, gib: float = 16.0, engines=("vllm",)) -> Subject:
    return Subject(demand=asked, times_of=times_of(gib), engines=engines)


def fleet(**devices: int) -> Fleet:
    """``fleet(H100=8)``: one node of each kind, or of 8 devices each."""
    return Fleet(
        nodes=tuple(
            NodeKind(device_model=name, count=max(1, count // 8), devices=min(8, count))
            for name, count in devices.items()
        )
    )


def node_reports(machines: Fleet) -> tuple[NodeReport, ...]:
    """Of idle nodes with every engine, whose GPUs have NVLink within the fleet's islands."""
    return tuple(
        NodeReport(
            name=f"{kind.device_model.lower()}-{number}",
            address="127.0.0.1",
            device_kind=DeviceKind.CUDA,
            runtimes=tuple(one.default_runtime(DeviceKind.CUDA) for one in ENGINES.values()),
            labels={},
            devices=tuple(
                found.device
                for found in found_devices(
                    f"{kind.device_model.lower()}-{number}", tuple(_gpus(kind))
                )
            ),
        )
        for kind in machines.nodes
        for number in range(kind.count)
    )


def _gpus(kind: NodeKind) -> Iterator[Gpu]:
    for index in range(kind.devices):
        links: tuple[int | str, ...] = ()
        if kind.island:
            first = index - index % kind.island
            links = tuple(peer for peer in range(first, first + kind.island) if peer != index)
        elif kind.device_model in NVLINK:
            links = (SWITCH,)
        name, gib = NAMES[kind.device_model], MEMORY_GIB[kind.device_model]
        whole = Accelerator(name=name, uuid=f"GPU-{index}", memory_bytes=gib * 2**30)
        yield Gpu(index=index, whole=whole, links=links)
