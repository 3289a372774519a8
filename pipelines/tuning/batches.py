"""The prompts of a batch: how many, how long, and of which tokens. Pure.

Prompts are of random tokens, so that no prefix cache has seen them: by their numbers, which every
engine here takes in place of a text, and which alone say exactly how many there are.
"""

import random
from collections.abc import Sequence

PROMPTS_WANTED = 8  # of a batch at most, where they are not too long for the model so
PROMPTS_MAX = 32  # half of the connections that the admin API has for workers
MODEL_TOKENS_ASSUMED = 2048  # where an engine does not say how many a model takes
ANSWER_TOKENS = 1
SPARE_TOKENS = 1  # what an engine may put in front
# Vocabularies have their special tokens at either end; no model that generates has a smaller one.
_TOKENS = range(1_000, 30_000)


def lengths(tokens: int, *, shortest: int, model_tokens_max: int) -> tuple[int, ...]:
    """Of the prompts that together have *tokens*; () where they would be too many. A few prompts of
    equal length, not shorter than *shortest* (but for the last one), not longer than the model
    takes.
    """
    longest = model_tokens_max - ANSWER_TOKENS - SPARE_TOKENS
    if longest < 1:
        return ()
    each = min(longest, max(shortest, -(-tokens // PROMPTS_WANTED)))
    count = -(-tokens // each)
    if count > PROMPTS_MAX:
        return ()
    return (*[each] * (count - 1), tokens - each * (count - 1))


def prompts(of: Sequence[int], rng: random.Random) -> list[list[int]]:
    """One of each length in *of*."""
    return [rng.choices(_TOKENS, k=length) for length in of]
