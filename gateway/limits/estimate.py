"""What a request may come to use, before any worker has counted it. Pure."""

from typing import NamedTuple

from pipelines.engines.base import Body
from registry.spec import Price

# Of an answer whose length the client leaves open. What it comes to is known at its end.
ASSUMED_TOKENS = 512
_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_SEVERAL = ("n", "best_of")
_DIGITS_MAX = 12


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


def estimate(body: Body, prompt_tokens: int, *, generates: bool = True) -> Estimate:
    """*body* is the request's, parsed and checked; *generates*: tokens are made for it."""
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
