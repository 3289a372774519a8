"""Step times from measured loads: what is known comes out again, and it goes before the data."""

import pytest
from msgspec.structs import replace
from planner_world import Linear, demand, fleet

from pipelines.planner.fit import fit, nonnegative
from pipelines.planner.nearest import Likeness
from pipelines.planner.options import options
from pipelines.planner.profiled import MeasuredFirst
from pipelines.planner.recommend import Known
from pipelines.planner.times import NoDataError, StepTimes, Worker
from pipelines.planner.views import TimesFrom
from pipelines.tuning.loads import loads
from registry.state import LoadPoint, Profile

BASE_S, TOKEN_S, LENGTH_S, SEQUENCE_S, CONTEXT_S, OVERHEAD_S = 8e-3, 4e-5, 2e-9, 3e-5, 4e-8, 5e-3
LOADS = loads(model_tokens_max=32_768, batched_tokens=2048, kv_tokens=0)
WORKER = Worker("vllm", "H100", 1, 2048)


def step_s(part: int, prompt: int, sequences: int, context: float) -> float:
    prompts_s = part * (TOKEN_S + prompt * LENGTH_S)
    return BASE_S + prompts_s + sequences * (SEQUENCE_S + context * CONTEXT_S)


def took_s(requests: int, prompt: int, answer: int) -> float:
    """As an engine whose steps take 2,048 tokens of prompts."""
    if answer > 1:
        return step_s(0, 0, requests, prompt + answer / 2)
    spent_s = OVERHEAD_S
    for tokens in (prompt, (requests - 1) * prompt):
        whole, rest = divmod(tokens, 2048)
        spent_s += whole * step_s(2048, prompt, 0, 0)
        spent_s += step_s(rest, prompt, 0, 0) if rest else 0.0
    return spent_s


def a_profile(noise: float = 0.0, **changes) -> Profile:
    points = tuple(
        LoadPoint(
            requests=one.requests,
            prompt_tokens=one.prompt_tokens,
            answer_tokens=one.answer_tokens,
            seconds=took_s(one.requests, one.prompt_tokens, one.answer_tokens)
            * (1 + noise * (-1) ** (number // 2)),
            rounds=3,
        )
        for number, one in enumerate(LOADS)
    )
    made = Profile(
        source="hf://org/m",
        engine="vllm",
        device_model="NVIDIA H100 80GB HBM3",
        devices=1,
        memory_bytes=80 * 2**30,
        batched_tokens=2048,
        kv_tokens=400_000,
        is_kv_told=True,
        points=points,
    )
    return replace(made, **changes)


def elsewhere(worker: Worker) -> StepTimes:
    """Data of one kind of device only."""
    if worker.device != "H100":
        raise NoDataError("none")
    return Linear(
        kv_tokens=9, base_s=1.0, token_s=1.0, kv_token_bytes=131_072, weight_bytes=16 * 2**30
    )


def test_the_constants_of_a_known_engine_come_out_again():
    found = fit(a_profile())

    assert found.base_s == pytest.approx(BASE_S, rel=1e-3)
    assert found.prompt_token_s == pytest.approx(TOKEN_S, rel=1e-3)
    assert found.prompt_token_length_s == pytest.approx(LENGTH_S, rel=1e-2)
    assert found.sequence_s == pytest.approx(SEQUENCE_S, rel=1e-3)
    assert found.context_token_s == pytest.approx(CONTEXT_S, rel=1e-3)
    assert found.overhead_s == pytest.approx(OVERHEAD_S, rel=1e-2)
    assert found.error < 1e-6


def test_noise_shows_as_the_error_and_hardly_in_the_steps():
    found = fit(a_profile(noise=0.04))

    assert found.error == pytest.approx(0.04, rel=0.4)
    for step in ((2048, 4096, 0, 0), (0, 0, 64, 1024), (512, 512, 16, 2000)):
        assert found.step_s(*step) == pytest.approx(step_s(*step), rel=0.06)


def test_what_would_be_negative_is_nothing_and_the_rest_is_the_best_without_it():
    rows = [(1.0, float(x)) for x in range(5)]

    falling = nonnegative(rows, [5.0, 4.0, 3.0, 2.0, 1.0])
    rising = nonnegative(rows, [1.0, 3.0, 5.0, 7.0, 9.0])

    assert falling == pytest.approx((3.0, 0.0))
    assert rising == pytest.approx((1.0, 2.0))


def test_what_no_load_tells_of_is_nothing():
    prompts = tuple(point for point in a_profile().points if point.answer_tokens == 1)

    found = fit(a_profile(points=prompts))

    assert (found.sequence_s, found.context_token_s) == (0.0, 0.0)
    assert found.prompt_token_s == pytest.approx(TOKEN_S, rel=0.02)


@pytest.mark.parametrize(
    "worker",
    [
        Worker("vllm", "A100", 1, 2048),
        Worker("vllm", "H100", 2, 2048),
        Worker("sglang", "H100", 1, 2048),
    ],
)
def test_a_profile_is_for_its_engine_its_device_and_as_many_of_them(worker: Worker):
    alone = MeasuredFirst("hf://org/m", [a_profile()], None)

    assert alone.has(WORKER)
    assert not alone.has(worker)
    with pytest.raises(NoDataError, match="was not measured there"):
        alone.times(worker)
    other = MeasuredFirst("hf://org/other", [a_profile()], None)
    assert (other.has(WORKER), other.shapes) == (False, ())


def test_a_fleet_may_name_its_devices_in_part_but_in_whole_words():
    l40s, l4 = a_profile(device_model="NVIDIA L40S"), a_profile(device_model="NVIDIA L4")

    for device, profiles, found in (
        ("L4", [l40s], False),
        ("L4", [l40s, l4], True),
        ("NVIDIA L40", [l40s], False),
        ("l40s", [l40s], True),
        ("A100", [a_profile(device_model="NVIDIA A100-SXM4-80GB")], True),
        ("x86_64", [a_profile(device_model="x86_64")], True),
    ):
        here = MeasuredFirst("hf://org/m", profiles, None)
        assert here.has(Worker("vllm", device, 1, 2048)) == found, device


def test_a_profile_of_the_very_same_device_goes_before_those_named_in_part():
    other = a_profile(device_model="NVIDIA A100 NVL", kv_tokens=1)
    same = a_profile(device_model="NVIDIA A100", kv_tokens=2)

    here = MeasuredFirst("hf://org/m", [other, same], None)

    assert here.times(Worker("vllm", "NVIDIA A100", 1, 2048)).kv_tokens == 2


def test_what_was_measured_goes_before_the_data_which_has_the_sizes_that_it_lacks():
    here = MeasuredFirst("hf://org/m", [a_profile()], elsewhere)

    times = here.times(WORKER)

    assert times.step_s(0, 0, 1, 100) == pytest.approx(step_s(0, 0, 1, 100), rel=1e-3)
    assert (times.kv_tokens, times.kv_token_bytes, times.weight_bytes) == (
        400_000,
        131_072,
        16 * 2**30,
    )
    assert here.times(Worker("vllm", "H100", 2, 2048)) == elsewhere(WORKER)
    bounded = MeasuredFirst("hf://org/m", [a_profile()], None).times(WORKER)
    assert bounded.weight_bytes == 80 * 2**30  # all that it claimed


def test_a_model_that_the_data_does_not_know_is_planned_on_what_was_measured():
    here = MeasuredFirst("hf://org/m", [a_profile()], None)

    made = options(demand(prompt=500), here.times, fleet(H100=8), engines=("vllm",))

    assert made
    assert all(part.worker.devices == 1 for option in made for part in option.parts)


def test_the_plan_says_where_the_times_of_a_shape_come_from():
    other = Worker("vllm", "H100", 2, 2048)
    here = MeasuredFirst("hf://org/m", [a_profile()], elsewhere)
    own, like = Likeness("org/m"), Likeness("org/n", 1.1, is_estimate=True)

    for likeness, found in ((own, TimesFrom.DATA), (like, TimesFrom.ESTIMATE)):
        known = Known(source="hf://org/m", here=here, like=likeness)
        assert known.times_from([WORKER, WORKER]) is TimesFrom.MEASURED
        assert known.times_from([WORKER, other]) is found
        assert known.times_from([]) is found


def test_loads_fit_the_model_and_its_cache_and_begin_with_both_kinds():
    small = loads(model_tokens_max=1024, batched_tokens=0, kv_tokens=8192)

    assert all(one.prompt_tokens + one.answer_tokens < 1024 for one in small)
    assert all(one.tokens <= 8192 for one in small)
    assert {one.answer_tokens == 1 for one in small[:2]} == {True, False}
    assert max(one.requests for one in LOADS) == 64
