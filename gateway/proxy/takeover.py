"""What another worker must be asked so that it goes on with a stream that broke off.

Only here a request is looked at again after it was sent: how much has been said, in the engine's
own tokens, so that limits and usage stay those of one answer; and whether its chat template lets
a text be gone on with as it is.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from gateway.api.answer import NO_USAGE
from gateway.api.request import InferenceRequest
from gateway.proxy.deadline import Stop
from gateway.proxy.errors import CannotResumeError
from gateway.proxy.exchange import Exchange
from gateway.proxy.journal import Journal
from gateway.proxy.resume import Resumption, Said
from gateway.proxy.wire import Wire
from gateway.routing.pick import Route
from pipelines.engines.base import Body, Engine, Resuming
from pipelines.engines.resume import (
    continued,
    continues_own,
    is_behind,
    prompt_ids,
    shortened,
    text_tokens_body,
    tokenize_body,
)
from registry.spec import EngineName

_Ids = tuple[int, ...]


class _Tokens(NamedTuple):
    """What the engine makes of it; None where it was not asked, or does not say."""

    prompt: _Ids | None = None  # the client's own
    text: _Ids | None = None  # what was said, alone
    longer: _Ids | None = None  # a chat's prompt with the text behind it
    bare: _Ids | None = None  # the same without the white space at the end of the text


class Takeover:
    def __init__(self, wire: Wire, engines: Mapping[EngineName, Engine]) -> None:
        self._wire = wire
        self._engines = engines

    async def body(self, exchange: Exchange, route: Route) -> Body | None:
        """The request for the next worker. None if nothing was left to say: then the client has
        its end.

        Raises CannotResumeError.
        """
        journal, request = exchange.journal, exchange.request
        assert request is not None
        assert journal is not None
        text = journal.text()
        resuming = self._engines[route.variant.engine].resuming
        if not journal.whole or journal.head is None or resuming is None:
            raise CannotResumeError
        tokens = await self._tokens(exchange, route, text, resuming)
        said = _said(request, journal, text, tokens, counts=resuming.counts)
        exchange.resumption = Resumption(journal, said)
        if journal.finish_reason is not None:
            _end(exchange, journal)
            return None
        if not _is_seen(request.body, tokens, said.trimmed):
            raise CannotResumeError
        body = continued(request.body, text.removesuffix(said.trimmed), tokens.text or ())
        if body is None:
            raise CannotResumeError
        short = shortened(body, said.tokens)
        if short is None:
            _end(exchange, journal, "length")
        return short

    async def _tokens(
        self, exchange: Exchange, route: Route, text: str, resuming: Resuming
    ) -> _Tokens:
        """All that has to be asked, asked at once."""
        assert exchange.request is not None
        assert exchange.model is not None
        if not resuming.tokenized:
            return _Tokens()
        watch = exchange.watch
        questions = _questions(exchange.request.body, text, resuming)
        # The queue is behind; from here on no single worker's slowness may end the request.
        watch.until(watch.total_at, Stop.TOTAL)
        try:
            async with asyncio.timeout(exchange.model.limits.between_tokens_s / 2):
                answers = await asyncio.gather(
                    *(
                        self._wire.tokens(exchange, route.answerer, question)
                        for question in questions.values()
                    )
                )
        except TimeoutError:
            return _Tokens()
        return _Tokens(**dict(zip(questions, answers, strict=True)))


def _questions(body: Body, text: str, resuming: Resuming) -> dict[str, Body]:
    """By the field of _Tokens that their answers are for."""
    asked: dict[str, Body] = {}
    tokenized, counts = resuming.tokenized, resuming.counts
    ids = prompt_ids(body)
    if ids is None:
        asked["prompt"] = tokenize_body(body, tokenized)
    if text and (counts or ids is not None):
        asked["text"] = text_tokens_body(body, text)
    if text and counts and "messages" in body:
        shown = (
            {"longer": text} if text == text.rstrip() else {"longer": text, "bare": text.rstrip()}
        )
        longer = {name: continued(body, words) for name, words in shown.items()}
        asked |= {name: tokenize_body(other, tokenized) for name, other in longer.items() if other}
    return asked


def _said(
    request: InferenceRequest, journal: Journal, text: str, tokens: _Tokens, *, counts: bool
) -> Said:
    """By the engine's count if it *counts*; else each chunk of text is a token."""
    if not text and journal.finish_reason is None:
        return Said()
    prompt_tokens = request.prompt_tokens() if tokens.prompt is None else len(tokens.prompt)
    said = Said(prompt_tokens or 0, journal.tokens)
    if not counts or tokens.text is None:
        return said
    if journal.finish_reason is not None:
        ended = journal.finish_reason == "stop"  # by a token without text
        return Said(said.prompt_tokens, len(tokens.text) + ended)
    if tokens.bare is not None and tokens.bare == tokens.longer and tokens.prompt is not None:
        # The template strips the text. What it strips at the end is said again.
        seen_tokens = max(0, len(tokens.bare) - len(tokens.prompt))
        return Said(said.prompt_tokens, seen_tokens, trimmed=text[len(text.rstrip()) :])
    return Said(said.prompt_tokens, len(tokens.text))


def _is_seen(body: Body, tokens: _Tokens, trimmed: str) -> bool:
    """Whether the next worker sees the text so far as its own words; True if nobody says."""
    if tokens.longer is None or tokens.prompt is None or tokens.text is None:
        return True
    if continues_own(body):
        return True  # the template has had its way with that message before
    return is_behind(tokens.longer, tokens.prompt, len(tokens.text), missing=len(trimmed))


def _end(exchange: Exchange, journal: Journal, finish_reason: str | None = None) -> None:
    """What the client has not had of the end."""
    assert exchange.request is not None
    resumption = exchange.resumption
    assert resumption is not None
    if not journal.told_usage:
        exchange.usage = resumption.total(NO_USAGE)
    ending = resumption.ending(
        finish_reason=finish_reason,
        usage_wanted=exchange.request.wants_usage and not journal.told_usage,
    )
    exchange.finished = True
    exchange.client.end(ending)
