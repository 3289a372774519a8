"""Step times as they were measured on this fleet: the planner's first choice. Pure."""

import re
from collections.abc import Sequence

import msgspec

from pipelines.planner.fit import Fit, fit
from pipelines.planner.options import TimesOf
from pipelines.planner.times import NoDataError, StepTimes, Worker
from registry.state import Profile


class ProfiledTimes(msgspec.Struct, frozen=True):
    fit: Fit
    kv_tokens: int
    kv_token_bytes: int
    weight_bytes: int
    memory_bytes: int

    @property
    def overhead_s(self) -> float:
        return self.fit.overhead_s

    def step_s(self, prompt_part: int, prompt: int, sequences: int, context: int) -> float:
        return self.fit.step_s(prompt_part, prompt, sequences, context)


class MeasuredFirst:
    """The times of one model: of what *profiles* have of its *source*, else as *otherwise* has
    them, if there is that.
    """

    def __init__(self, source: str, profiles: Sequence[Profile], otherwise: TimesOf | None) -> None:
        self._source = source
        self._profiles = [profile for profile in profiles if profile.source == source]
        self._otherwise = otherwise
        self._made: dict[tuple[str, str, int], StepTimes] = {}

    @property
    def shapes(self) -> tuple[str, ...]:
        """What was measured, as in ``vllm on 1x H100``."""
        return tuple(f"{p.engine} on {p.devices}x {p.device_model}" for p in self._profiles)

    def has(self, worker: Worker) -> bool:
        return self._profile(worker) is not None

    def times(self, worker: Worker) -> StepTimes:
        """Raises NoDataError."""
        profile = self._profile(worker)
        if profile is not None:
            key = (worker.engine, worker.device, worker.devices)
            if key not in self._made:
                self._made[key] = self._of(profile, worker)
            return self._made[key]
        if self._otherwise is None:
            raise NoDataError(
                f"{self._source} on {worker.devices}x {worker.device} with {worker.engine}: it was "
                "not measured there (modelyard measure)"
            )
        return self._otherwise(worker)

    def _profile(self, worker: Worker) -> Profile | None:
        """A fleet may name a part of its devices' name, as a spec's placement does: in whole words,
        as an L4 is no L40S.
        """
        named = re.compile(rf"(?<![^\W_]){re.escape(worker.device)}(?![^\W_])", re.IGNORECASE)
        found = [
            profile
            for profile in self._profiles
            if (profile.engine, profile.devices) == (worker.engine, worker.devices)
            and named.search(profile.device_model)
        ]
        whole = [profile for profile in found if profile.device_model == worker.device]
        return next(iter(whole or found), None)

    def _of(self, profile: Profile, worker: Worker) -> ProfiledTimes:
        """Sizes that no measurement shows are those of the data, else bounded by the memory that
        was claimed: a planned transfer or waking then takes rather too long.
        """
        sizes = self._sizes(worker)
        weight_bytes = sizes.weight_bytes if sizes else profile.memory_bytes
        token_bytes = (
            sizes.kv_token_bytes if sizes else -(-profile.memory_bytes // profile.kv_tokens)
        )
        return ProfiledTimes(
            fit=fit(profile),
            kv_tokens=profile.kv_tokens,
            kv_token_bytes=token_bytes,
            weight_bytes=weight_bytes,
            memory_bytes=profile.memory_bytes,
        )

    def _sizes(self, worker: Worker) -> StepTimes | None:
        try:
            return self._otherwise(worker) if self._otherwise else None
        except NoDataError:
            return None
