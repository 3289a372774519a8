"""Which loads an engine is given to learn how long its steps take. Pure.

Prompts that are asked for one token show steps that carry prompts, alone and several of them;
requests that are answered together show steps that carry so many answers, at short and at long
contexts.
"""

from itertools import chain, zip_longest

import msgspec

from pipelines.tuning.batches import SPARE_TOKENS
from registry.state import PROMPTS_ANSWER_TOKENS

REQUESTS_MAX = 64  # as many connections as a probe's client has
_ALONE = (64, 256, 1024, 4096, 16_384)
_TOGETHER = ((4, 256), (8, 1024))  # prompts, tokens of each
_SHORT_PROMPT, _ANSWER = 32, 32
_ANSWERED = (1, 2, 4, 8, 16, 32, REQUESTS_MAX)
_ANSWERED_LONG = (1, 4, 16)
_LONG_PROMPT = 4096
_BATCHED_ASSUMED = 2048


class Load(msgspec.Struct, frozen=True, order=True):
    """*requests* at once, each of a prompt and so many tokens of an answer."""

    requests: int
    prompt_tokens: int
    answer_tokens: int

    @property
    def tokens(self) -> int:
        """That a KV cache must have room for, at its end."""
        return self.requests * (self.prompt_tokens + self.answer_tokens)

    def __str__(self) -> str:
        return f"{self.requests}x {self.prompt_tokens}+{self.answer_tokens}"


def loads(*, model_tokens_max: int, batched_tokens: int, kv_tokens: int) -> tuple[Load, ...]:
    """Those that a model of so many tokens and its KV cache have room for, of prompts and of
    answers in turn, so that few of them show both. *batched_tokens* bound a step, *kv_tokens* the
    cache; 0: not known.
    """
    prompts = [
        *(Load(1, tokens, PROMPTS_ANSWER_TOKENS) for tokens in _ALONE),
        *(Load(count, tokens, PROMPTS_ANSWER_TOKENS) for count, tokens in _TOGETHER),
    ]
    long = min(_LONG_PROMPT, model_tokens_max // 2)
    answers = [Load(count, _SHORT_PROMPT, _ANSWER) for count in _ANSWERED]
    for count in _ANSWERED_LONG:
        # While the last prompts are computed, the first answers go on: they must last longer.
        steps = -(-count * long // (batched_tokens or _BATCHED_ASSUMED))
        answers.append(Load(count, long, _ANSWER + 2 * steps))
    both = chain.from_iterable(zip_longest(prompts, answers))
    return tuple(
        load
        for load in dict.fromkeys(both)
        if load is not None
        and load.prompt_tokens + load.answer_tokens + SPARE_TOKENS <= model_tokens_max
        and (not kv_tokens or load.tokens <= kv_tokens)
    )
