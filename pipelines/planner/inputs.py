"""What a plan is asked for in files: the traffic of each model, and the fleet.

Every error is a SpecError that names the field and what is allowed there.
"""

from typing import Any, TypeVar

import msgspec

from pipelines.planner.demand import ENGINES, ENGINES_MEASURED, SHARE
from pipelines.planner.fleet import Fleet
from registry.errors import SpecError
from registry.explain import explain
from registry.spec.checks import Strict, check_name, check_range, check_text, refuse
from registry.spec.demand import Slo
from registry.spec.sources import check_source
from registry.state import Profile
from registry.yaml_documents import load_documents

MODELS_MAX = 200
TOKENS_MAX = 10_000_000
HEADROOM_MAX = 10.0
LENGTH_CV = 1.0  # of prompts and of answers, about as in public traces of chats

Read = TypeVar("Read")


class ModelTraffic(Strict, frozen=True, kw_only=True):
    """What one model is asked: *requests_per_s* of prompts and answers of these mean lengths, which
    vary by *length_cv* (their deviation over their mean), or as a *trace* recorded it, at its own
    rate or at *requests_per_s*. All within *slo*, of *share* of the requests.
    It is planned for *headroom* more than that (0.3: for 1.3 times), which bursts may need.

    *source* is where its weights are, as in a spec; *measured_as* names the model whose measured
    times it has, where *source* does not say it (or none of it is measured).
    """

    name: str
    source: str
    slo: Slo
    requests_per_s: float = 0.0
    prompt_tokens: float = 0.0
    answer_tokens: float = 0.0
    length_cv: float = LENGTH_CV
    trace: str = ""
    share: float = SHARE
    weight: float = 1.0
    headroom: float | None = None
    engines: tuple[str, ...] = ENGINES
    measured_as: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_source(self.source)
        if not (self.slo.ttft_s and self.slo.tpot_s):
            refuse("slo", "promises nothing, allowed are ttft_s and tpot_s above 0")
        check_range("requests_per_s", self.requests_per_s, 0, 1_000_000)
        check_range("length_cv", self.length_cv, 0, 3)
        check_range("share", self.share, 0.5, 0.999)
        check_range("weight", self.weight, 0.001, 1000)
        check_range("headroom", self.headroom or 0.0, 0, HEADROOM_MAX)
        check_text("trace", self.trace, 4096)
        check_text("measured_as", self.measured_as, 256)
        if self.trace:
            for field in ("prompt_tokens", "answer_tokens"):
                if getattr(self, field):
                    refuse(field, "is the trace's to say: leave it out, or leave trace out")
        else:
            check_range("requests_per_s", self.requests_per_s, 1e-6, 1_000_000)
            check_range("prompt_tokens", self.prompt_tokens, 1, TOKENS_MAX)
            check_range("answer_tokens", self.answer_tokens, 1, TOKENS_MAX)
        if not self.engines:
            refuse("engines", f"are none, allowed are {', '.join(ENGINES_MEASURED)}")
        for engine in self.engines:
            if engine not in ENGINES_MEASURED:
                allowed = ", ".join(ENGINES_MEASURED)
                refuse("engines", f"has {engine[:80]!r}, allowed are {allowed}")


class Traffic(Strict, frozen=True, kw_only=True):
    models: tuple[ModelTraffic, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= MODELS_MAX:
            refuse("models", f"are {len(self.models)}, allowed are 1 to {MODELS_MAX}")
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                refuse("models", f"has {name!r} twice, allowed is each name once")

    def with_headroom(self, headroom: float) -> "Traffic":
        """Of the models that say none themselves."""
        return Traffic(
            models=tuple(
                msgspec.structs.replace(model, headroom=headroom)
                if model.headroom is None
                else model
                for model in self.models
            )
        )


class _Item(msgspec.Struct, frozen=True):
    profile: Profile

    def __post_init__(self) -> None:
        if not self.profile.points:
            refuse("profile.points", "are none, allowed is at least one")
        for index, point in enumerate(self.profile.points):
            for field in ("requests", "prompt_tokens", "answer_tokens"):
                where = f"profile.points[{index}].{field}"
                check_range(where, getattr(point, field), 1, TOKENS_MAX)
            check_range(f"profile.points[{index}].seconds", point.seconds, 1e-9, 1e6)
        check_range("profile.devices", self.profile.devices, 1, 64)
        check_range("profile.kv_tokens", self.profile.kv_tokens, 1, 10**12)


class _Listed(msgspec.Struct, frozen=True):
    """With more in each item, which is not the planner's."""

    items: tuple[_Item, ...]


def traffic_of(text: str) -> Traffic:
    """Raises SpecError."""
    return traffic_from(_document(text, "models"))


def fleet_of(text: str) -> Fleet:
    """Raises SpecError."""
    return fleet_from(_document(text, "nodes"))


def traffic_from(data: Any) -> Traffic:
    """Of plain data. Raises SpecError."""
    return _convert(data, Traffic)


def fleet_from(data: Any) -> Fleet:
    """Of plain data. Raises SpecError."""
    return _convert(data, Fleet)


def profiles_of(text: str) -> tuple[Profile, ...]:
    """As `modelyard get profiles` writes them. Raises SpecError."""
    return profiles_from(_document(text, "items"))


def profiles_from(data: Any) -> tuple[Profile, ...]:
    """Of plain data. Raises SpecError."""
    return tuple(one.profile for one in _convert(data, _Listed).items)


def _document(text: str, top: str) -> Any:
    documents = load_documents(text)
    if len(documents) != 1:
        raise SpecError("", f"has {len(documents)} documents, allowed is one with {top}: [...]")
    return documents[0]


def _convert(data: Any, kind: type[Read]) -> Read:
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, ValueError) as error:
        field, message = explain(error, kind, data)
        raise SpecError(field, message) from None
