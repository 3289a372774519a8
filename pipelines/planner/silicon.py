"""Step times from measured silicon data: NVIDIA's `aiconfigurator-core`, an optional dependency.

The library holds times of single operations as they were measured on real devices, per engine, and
adds them up to whole steps. What it leaves out is added here, by the constants of its own upper
package (`aiconfigurator` 0.12): 10 % on prefill and 8 % on decode for what runs between the
operations, and for vLLM 0.8 ms a layer before a prompt's first step.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiconfigurator_core import sdk

from pipelines.planner.demand import ENGINES
from pipelines.planner.kept import Answers, Gap, Kept, Key, Room, Step
from pipelines.planner.rates import SEQUENCES_MAX
from pipelines.planner.times import NoDataError, NoRoomError, StepTimes, Worker

SYSTEMS = {  # as devices are named by their makers, in part → as the data is named
    "GB300": "gb300",
    "GB200": "gb200",
    "B300": "b300_sxm",
    "B200": "b200_sxm",
    "H200": "h200_sxm",
    "H100": "h100_sxm",
    "A100": "a100_sxm",
    "L40S": "l40s",
}
MEMORY_USED = 0.9  # of a device by the engine: vLLM's and, about, SGLang's default
PREFILL_FACTOR = 1.1
DECODE_FACTOR = 1.08
LAYER_S = 0.8e-3  # vLLM's, per request
_PART_GRAIN = 64
_CONTEXT_GRAIN = 128
_NO_ROOM = "no KV budget"  # as the library's error says it, which has no type of its own
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)  # it tells of each gap it fills


class Silicon:
    """*model* as the data knows it (`Qwen/Qwen3-32B-FP8`)."""

    def __init__(self, model: str) -> None:
        self.model = model

    def times(self, worker: Worker) -> StepTimes:
        """Raises NoDataError."""
        found = _times(self.model, worker)
        if isinstance(found, NoDataError):
            raise found
        return found


class _Times:
    """Asked for about the same step again, it answers as before: steps are told apart by 64 prompt
    tokens and 128 of context.
    """

    def __init__(self, data: "_Data", room: Room, overhead_s: float) -> None:
        self._data = data
        self._known = data.answers.steps_s
        self.kv_tokens = room.kv_tokens
        self.kv_token_bytes = room.kv_token_bytes
        self.weight_bytes = room.weight_bytes
        self.memory_bytes = room.memory_bytes
        self.overhead_s = overhead_s

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        part = -(-prompt_part // _PART_GRAIN) * _PART_GRAIN
        length = max(part, -(-prompt // _CONTEXT_GRAIN) * _CONTEXT_GRAIN) if part else 0
        context = max(1, round(context / _CONTEXT_GRAIN)) * _CONTEXT_GRAIN
        key = (part, length, sequences, context)
        found = self._known.get(key)
        if found is None:
            found = self._data.ask_s(key)
        return found


class _Data:
    """What the library says of one model on some devices with one engine. It is compiled when it is
    asked for something that is not among the *answers*.
    """

    def __init__(self, key: Key, answers: Answers) -> None:
        self._key = key
        self._parallel = _parallel(key.model, key.devices)
        self.answers = answers
        self.kept = answers.counts()  # of them, those that are kept already

    @cached_property
    def _engine(self) -> Any:
        key = self._key
        return sdk.EngineHandle.compile(key.model, key.system, key.engine, **self._parallel)

    def ask_s(self, step: Step) -> float:
        part, prompt, sequences, context = step
        if part:
            answer = max(2, 2 * (context - prompt))  # the middle of an answer is where it is asked
            told_ms = float(self._engine.mixed_step_latency(part, sequences, prompt, answer))
            step_s = told_ms / 1e3 * PREFILL_FACTOR
        else:
            told_ms = float(self._engine.decode_step_latency(sequences, context, 2))
            step_s = told_ms / 1e3 * DECODE_FACTOR
        self.answers.steps_s[step] = step_s
        return step_s

    def room(self, batched_tokens: int) -> Room | Gap:
        """Of a worker."""
        known = self.answers
        found = known.rooms.get(batched_tokens) or known.gaps.get(batched_tokens)
        if found is not None:
            return found
        try:
            room = known.rooms[batched_tokens] = self._ask_room(batched_tokens)
        except Exception as error:  # noqa: BLE001 - its errors have no common parent
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            gap = Gap(said, is_measured=_NO_ROOM in said)
            if not isinstance(error, (OSError, MemoryError)):  # which may be gone the next time
                known.gaps[batched_tokens] = gap
            return gap
        return room

    def _ask_room(self, batched_tokens: int) -> Room:
        key = self._key
        kv = sdk.estimate_kv_cache(
            key.model,
            key.system,
            key.engine,
            "current",
            max_num_tokens=batched_tokens,
            max_batch_size=key.sequences_max,
            memory_fraction_kind="of_total",
            memory_fraction_value=key.memory_used,
            **self._parallel,
        )
        room = Room(
            kv_tokens=int(kv["total_kv_size_tokens"]),
            kv_token_bytes=int(kv["kv_size_per_token_bytes"]),
            weight_bytes=int(kv["memory_breakdown"]["weights_bytes"]),
            memory_bytes=int(key.memory_used * kv["total_gpu_capacity_bytes"]),
        )
        times = _Times(self, room, overhead_s=0.0)  # which says at once where it has no data
        times.step_s(batched_tokens, batched_tokens, 1, 1024)
        times.step_s(0, 0, 1, 1024)
        return room


class _Asked:
    """All that the data was asked in this process, from what is *kept* on."""

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self._data: dict[Key, _Data] = {}

    def of(self, model: str, system: str, engine: str, devices: int) -> _Data:
        key = Key(
            library=version("aiconfigurator-core"),
            model=model,
            system=system,
            engine=engine,
            devices=devices,
            sequences_max=SEQUENCES_MAX,
            memory_used=MEMORY_USED,
            prefill_factor=PREFILL_FACTOR,
            decode_factor=DECODE_FACTOR,
        )
        if key not in self._data:
            answers = self.kept.read(key) if self.kept else Answers()
            self._data[key] = _Data(key, answers)
        return self._data[key]

    def write(self) -> None:
        if self.kept is not None:
            changed = {k: d for k, d in self._data.items() if d.kept != d.answers.counts()}
            self.kept.write({key: data.answers for key, data in changed.items()})
            for data in changed.values():
                data.kept = data.answers.counts()


_ASKED = _Asked()


@contextmanager
def kept_in(folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """What the data is asked within, it is asked once of all processes with this *folder*. *warn*
    is told, once, what keeps it from being used.
    """
    _ASKED.kept = Kept(folder, warn)
    try:
        yield
    finally:
        _ASKED.write()
        _ASKED.kept = None


@cache
def _times(model: str, worker: Worker) -> StepTimes | NoDataError:
    system = system_of(worker.device)
    where = f"{model} on {worker.devices}x {worker.device} with {worker.engine}"
    if system is None or worker.engine not in ENGINES:
        return NoDataError(f"{where}: nothing has been measured there")
    data = _ASKED.of(model, system, worker.engine, worker.devices)
    room = data.room(worker.batched_tokens)
    if isinstance(room, Gap):
        return (NoRoomError if room.is_measured else NoDataError)(f"{where}: {room.reason}")
    if room.kv_tokens <= 0:
        return NoRoomError(f"{where}: its weights leave no room for KV")
    return _Times(data, room, _layers(model) * LAYER_S if worker.engine == "vllm" else 0.0)


def system_of(device: str) -> str | None:
    """What the data calls a device, or None."""
    return next((to for part, to in SYSTEMS.items() if part in device.upper()), None)


@cache
def known_models() -> tuple[str, ...]:
    """Those whose configuration comes with the data."""
    ends = "_config.json"
    names = (item.name for item in files("aiconfigurator_core").joinpath("model_configs").iterdir())
    return tuple(
        sorted(
            name.removesuffix(ends).replace("--", "/", 1)
            for name in names
            if name.endswith(ends) and not name.endswith("_hf_quant" + ends)
        )
    )


def _parallel(model: str, devices: int) -> dict[str, Any]:
    """Experts are split as everything else is, which is what engines do unasked."""
    if not _config(model).get("num_experts"):
        return {"tp_size": devices}
    return {"tp_size": devices, "moe_tp_size": devices, "moe_ep_size": 1}


def _layers(model: str) -> int:
    return int(_config(model).get("num_layers", 0))


@cache
def _config(model: str) -> dict[str, Any]:
    name = model.replace("/", "--") + "_config.json"
    path = files("aiconfigurator_core").joinpath("model_configs", name)
    if not path.is_file():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))
    told = told.get("text_config", told)
    experts = next((told[k] for k in _EXPERTS if told.get(k)), 0)
    return {"num_layers": told.get("num_hidden_layers", 0), "num_experts": experts}
