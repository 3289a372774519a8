"""Step times from measured silicon data: NVIDIA's `aiconfigurator-core`, an optional dependency.

The library holds times of single operations as they were measured on real devices, per engine, and
adds them up to whole steps. What it leaves out is added here, by the constants of its own upper
package (`aiconfigurator` 0.12): 10 % on prefill and 8 % on decode for what runs between the
operations, and for vLLM 0.8 ms a layer before a prompt's first step.
"""

import json
import logging
from functools import cache
from importlib.resources import files
from typing import Any

from aiconfigurator_core import sdk

from pipelines.planner.demand import ENGINES
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

    def __init__(self, engine: Any, *, kv: dict[str, Any], overhead_s: float) -> None:
        self._engine = engine
        self._known: dict[tuple[int, int, int, int], float] = {}
        self.kv_tokens = int(kv["total_kv_size_tokens"])
        self.kv_token_bytes = int(kv["kv_size_per_token_bytes"])
        self.weight_bytes = int(kv["memory_breakdown"]["weights_bytes"])
        self.memory_bytes = int(MEMORY_USED * kv["total_gpu_capacity_bytes"])
        self.overhead_s = overhead_s

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        part = -(-prompt_part // _PART_GRAIN) * _PART_GRAIN
        length = max(part, -(-prompt // _CONTEXT_GRAIN) * _CONTEXT_GRAIN) if part else 0
        context = max(1, round(context / _CONTEXT_GRAIN)) * _CONTEXT_GRAIN
        key = (part, length, sequences, context)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._ask(*key)
        return found

    def _ask(self, part: int, prompt: int, sequences: int, context: int) -> float:
        if not part:
            told = self._engine.decode_step_latency(sequences, context, 2)
            return float(told) / 1e3 * DECODE_FACTOR
        answer = max(2, 2 * (context - prompt))  # the middle of an answer is where it is asked
        told = self._engine.mixed_step_latency(part, sequences, prompt, answer)
        return float(told) / 1e3 * PREFILL_FACTOR


@cache
def _times(model: str, worker: Worker) -> StepTimes | NoDataError:
    system = system_of(worker.device)
    where = f"{model} on {worker.devices}x {worker.device} with {worker.engine}"
    if system is None or worker.engine not in ENGINES:
        return NoDataError(f"{where}: nothing has been measured there")
    parallel = _parallel(model, worker.devices)
    try:
        engine = sdk.EngineHandle.compile(model, system, worker.engine, **parallel)
        kv = sdk.estimate_kv_cache(
            model,
            system,
            worker.engine,
            "current",
            max_num_tokens=worker.batched_tokens,
            max_batch_size=SEQUENCES_MAX,
            memory_fraction_kind="of_total",
            memory_fraction_value=MEMORY_USED,
            **parallel,
        )
        times = _Times(
            engine,
            kv=kv,
            overhead_s=_layers(model) * LAYER_S if worker.engine == "vllm" else 0.0,
        )
        times.step_s(worker.batched_tokens, worker.batched_tokens, 1, 1024)
        times.step_s(0, 0, 1, 1024)
    except Exception as error:  # noqa: BLE001 - its errors have no common parent
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return (NoRoomError if _NO_ROOM in said else NoDataError)(f"{where}: {said}")
    if times.kv_tokens <= 0:
        return NoRoomError(f"{where}: its weights leave no room for KV")
    return times


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
