"""What a request may come to use, before any worker has counted it. Pure."""

import re
from typing import NamedTuple

from pipelines.engines.base import Body
from registry.spec import Price

# Of an answer whose length the client leaves open. What it comes to is known at its end.
ASSUMED_TOKENS = 512
_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_SEVERAL = ("n", "best_of")
_DIGITS_MAX = 12
# Of an image or a sound within the prompt, however many bytes it has.
MEDIA_TOKENS = 1000
_MEDIA_MARKS = (b"base64", b"input_audio")
_MEDIA = re.compile(rb"[A-Za-z0-9+/=_-]{1024,}")
_BYTES_PER_TOKEN = 4


class Estimate(NamedTuple):
    """Tokens of the prompt and of all answers; *assumed* where the client has not said how long an
    answer may be: a limit below that does not shut it out.
    """

    prompt_tokens: int
    answer_tokens: int
    assumed: bool = False

    def tokens_within(self, most: int) -> int:
        """What to set aside of *most* tokens, 0 being no limit."""
        tokens = self.prompt_tokens + self.answer_tokens
        if self.assumed and most and tokens > most:
            return max(most, self.prompt_tokens)
        return tokens

    def cost_within(self, budget_nano: int, price: Price) -> int:
        """What to set aside of a budget."""
        cost_nano = price.cost_nano(self.prompt_tokens, self.answer_tokens)
        if self.assumed and cost_nano > budget_nano:
            return max(budget_nano, price.cost_nano(self.prompt_tokens, 0))
        return cost_nano


def estimate(body: Body, prompt: bytes, prompt_tokens: int, *, generates: bool = True) -> Estimate:
    """*body* is the request's, parsed and checked; *prompt* the raw JSON of its prompt, which has
    *prompt_tokens* if it is text; *generates*: tokens are made for it.
    """
    if any(mark in prompt for mark in _MEDIA_MARKS):
        media = [found.end() - found.start() for found in _MEDIA.finditer(prompt)]
        prompt_tokens -= sum(media) // _BYTES_PER_TOKEN
        prompt_tokens = max(0, prompt_tokens) + MEDIA_TOKENS * len(media)
    if not generates:
        return Estimate(prompt_tokens, 0)
    answers = max(_count(body, name) or 1 for name in _SEVERAL)
    for name in _LENGTHS:
        most = _count(body, name)
        if most is not None:
            return Estimate(prompt_tokens, most * answers)
    return Estimate(prompt_tokens, ASSUMED_TOKENS * answers, assumed=True)


def _count(body: Body, name: str) -> int | None:
    raw = body.get(name)
    if raw is None:
        return None
    text = bytes(raw)
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else None
