"""What a request may come to use, before any worker has counted it. Pure."""

import re
from typing import NamedTuple

from registry.spec import Price

# Of an answer whose length the client leaves open. What it comes to is known at its end.
ASSUMED_TOKENS = 512
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


def estimate(
    prompt: bytes, prompt_tokens: int, answer_tokens: int | None, *, answers: int = 1
) -> Estimate:
    """*prompt* is the raw JSON of the prompt, which has *prompt_tokens* if it is text;
    *answer_tokens* what may come back, all answers together, None if nothing bounds them.
    """
    if any(mark in prompt for mark in _MEDIA_MARKS):
        media = [found.end() - found.start() for found in _MEDIA.finditer(prompt)]
        prompt_tokens -= sum(media) // _BYTES_PER_TOKEN
        prompt_tokens = max(0, prompt_tokens) + MEDIA_TOKENS * len(media)
    if answer_tokens is None:
        return Estimate(prompt_tokens, ASSUMED_TOKENS * answers, assumed=True)
    return Estimate(prompt_tokens, answer_tokens)
