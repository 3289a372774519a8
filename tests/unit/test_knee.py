"""The smallest batch that saturates: on curves as they are, and as they are measured."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tuning.batches import PROMPTS_MAX, lengths, prompts
from pipelines.tuning.knee import Point, knee, rising

TOKENS = (256, 512, 1024, 2048, 4096, 8192)


def points(*throughputs, tokens=TOKENS):
    return [
        Point(tokens=count, throughput=value, ttft_s=count / value, rounds=3)
        for count, value in zip(tokens, throughputs, strict=False)
    ]


@pytest.mark.parametrize(
    ("throughputs", "tokens", "reached"),
    [
        ((100, 190, 200, 201, 202, 200), 512, True),
        ((100, 150, 180, 195, 199, 200), 1024, True),
        ((100, 200, 400, 800, 1600, 3200), 8192, False),  # it may go on
        ((100, 100, 100, 100, 100, 100), 256, True),
        ((100, 200, 180, 120, 80, 60), 512, True),  # beyond it, it may fall
        ((100, 197, 130, 150, 180, 200), 4096, True),  # a lucky one is none
        ((150, 200, 20, 20, 20, 20), 512, True),  # nor makes a fall behind it 150 enough
        ((100,), 256, False),
    ],
)
def test_the_knee_is_the_smallest_that_saturates(throughputs, tokens, reached):
    found = knee(points(*throughputs))
    assert (found.tokens, found.reached) == (tokens, reached)


def test_noise_moves_the_knee_by_one_step_at_most():
    """time(T) = 20 ms + T / 10,000: throughput is 90 % of that of 8192 from 1,446 tokens on."""
    rng = random.Random(7)
    found = set()
    for _ in range(200):
        noisy = [t / (0.02 + t / 10_000) * rng.uniform(0.98, 1.02) for t in TOKENS]
        found.add(knee(points(*noisy)).tokens)
    assert found == {2048, 4096}


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=12))
def test_the_curve_rises_and_keeps_the_sum(values):
    curve = rising(values)
    assert len(curve) == len(values)
    assert all(low <= high for low, high in pairwise(curve))
    assert sum(curve) == pytest.approx(sum(values))
    assert knee(points(*values, tokens=range(1, 13))).tokens <= len(values)


@given(st.integers(16, 200_000), st.integers(16, 4096), st.integers(4, 200_000))
def test_the_prompts_of_a_batch_have_its_tokens_and_fit_the_model(tokens, shortest, model_max):
    found = lengths(tokens, shortest=shortest, model_tokens_max=model_max)
    if found:
        assert sum(found) == tokens
        assert max(found) <= model_max - 2
        assert min(found) >= 1
        assert len(found) <= PROMPTS_MAX
    else:
        assert tokens > PROMPTS_MAX * (model_max - 2)


def test_small_batches_are_a_few_prompts_of_one_length():
    assert lengths(256, shortest=256, model_tokens_max=2048) == (256,)
    assert lengths(1024, shortest=256, model_tokens_max=2048) == (256,) * 4
    assert lengths(4096, shortest=256, model_tokens_max=2048) == (512,) * 8
    assert lengths(40_000, shortest=256, model_tokens_max=2048) == (*(2046,) * 19, 1126)


def test_no_two_prompts_begin_alike():
    rng = random.Random(1)
    made = prompts((64,) * 8, rng) + prompts((64,) * 8, rng)
    assert len({tuple(prompt[:16]) for prompt in made}) == len(made)
