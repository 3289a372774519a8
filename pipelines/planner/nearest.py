"""Which of the measured models a model is, or is most like: by its name, and by its size."""

import re
from math import log

import msgspec

from pipelines.planner.options import TimesOf
from pipelines.planner.times import StepTimes, Worker

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)B(?:-A(\d+(?:\.\d+)?)B)?", re.IGNORECASE)
_NOISE = re.compile(r"(meta-|-instruct|-chat|-it|-base|-hf)", re.IGNORECASE)
_KNOWN_SIZES = {  # billions of parameters, all and those that a token meets; names that do not say
    "mistralai/Mixtral-8x7B-v0.1": (46.7, 12.9),
    "mistralai/Mixtral-8x22B-v0.1": (141.0, 39.0),
    "openai/gpt-oss-120b": (117.0, 5.1),
    "openai/gpt-oss-20b": (21.0, 3.6),
}


class Likeness(msgspec.Struct, frozen=True):
    """*measured* is the one that has data; a step of the model takes *factor* of its steps, which
    *is_estimate* where it is another model.
    """

    measured: str
    factor: float = 1.0
    is_estimate: bool = False


def likeness(name: str, known: tuple[str, ...]) -> Likeness | None:
    """Of a model as it is named where its weights are (``org/name``): itself, else itself but for
    what its name says of its tuning, else the nearest in size and kind; None where its name says no
    size.
    """
    if name in known:
        return Likeness(name)
    plain = {_plain(other): other for other in known}
    if _plain(name) in plain:
        return Likeness(plain[_plain(name)])
    own = size_of(name)
    if own is None:
        return None
    sized = [(other, size) for other in known if (size := size_of(other))]
    measured, size = min(sized, key=lambda pair: (_distance(own, pair[1], name, pair[0]), pair[0]))
    return Likeness(measured, round(own[1] / size[1], 3), is_estimate=True)


def size_of(name: str) -> tuple[float, float] | None:
    """Billions of parameters: all, and those that a token meets."""
    if name in _KNOWN_SIZES:
        return _KNOWN_SIZES[name]
    found = _SIZE.search(name.rpartition("/")[2])
    if not found:
        return None
    every = float(found[1])
    return (every, float(found[2]) if found[2] else every) if every > 0 else None


class Scaled(msgspec.Struct, frozen=True):
    """The times of a like model, stretched."""

    times: StepTimes
    factor: float

    @property
    def kv_tokens(self) -> int:
        return self.times.kv_tokens

    @property
    def kv_token_bytes(self) -> int:
        return self.times.kv_token_bytes

    @property
    def weight_bytes(self) -> int:
        return round(self.factor * self.times.weight_bytes)

    @property
    def memory_bytes(self) -> int:
        return self.times.memory_bytes

    @property
    def overhead_s(self) -> float:
        return self.times.overhead_s

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        return self.factor * self.times.step_s(prompt_part, prompt, sequences, context)


def scaled(times_of: TimesOf, factor: float) -> TimesOf:
    def of(worker: Worker) -> StepTimes:
        return Scaled(times_of(worker), factor)

    return of if factor != 1.0 else times_of


def _plain(name: str) -> str:
    return _NOISE.sub("", name.rpartition("/")[2]).lower()


def _distance(
    own: tuple[float, float], other: tuple[float, float], name: str, other_name: str
) -> float:
    sizes = abs(log(own[0] / other[0])) + abs(log(own[1] / other[1]))
    return sizes + 0.1 * (("fp8" in name.lower()) != ("fp8" in other_name.lower()))
