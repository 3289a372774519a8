"""What another worker must be asked so that it goes on with a stream that broke off.

Only here a request is looked at again after it was sent: how much has been said, in the engine's
own tokens, so that limits and usage stay those of one answer.
"""

import asyncio

from gateway.openai.answer import Usage
from gateway.proxy.errors import CannotResumeError
from gateway.proxy.exchange import Exchange
from gateway.proxy.journal import Journal
from gateway.proxy.resume import Resumption
from gateway.proxy.wire import Wire
from gateway.routing.pick import Route
from gateway.routing.table import Endpoint
from pipelines.engines.base import Body
from pipelines.engines.resume import (
    TOKENIZING_ENGINES,
    continued,
    prompt_ids,
    shortened,
    text_tokens_body,
    tokenize_body,
)

_TOKENIZE_S_MAX = 5.0


class Takeover:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def body(self, exchange: Exchange, route: Route) -> Body | None:
        """The request for the next worker. None if nothing was left to say: then the client has
        its end.

        Raises CannotResumeError.
        """
        journal, request = exchange.journal, exchange.request
        assert request is not None
        assert journal is not None
        text = journal.text()
        if not journal.whole or journal.head is None:
            raise CannotResumeError
        answerer = route.answerer
        tokenizes = route.variant.engine in TOKENIZING_ENGINES
        text_ids: tuple[int, ...] = ()
        if text and tokenizes and prompt_ids(request.body) is not None:
            asked = text_tokens_body(request.body, text)
            text_ids = await self._tokens(exchange, answerer, asked) or ()
        body = continued(request.body, text, text_ids)
        if body is None:
            raise CannotResumeError
        exchange.resumption = await self._counted(exchange, answerer, body, journal, tokenizes)
        short = shortened(body, exchange.resumption.said_tokens)
        if journal.finish_reason is not None:
            self._end(exchange, None)
            return None
        if short is None:
            self._end(exchange, "length")
        return short

    async def _counted(
        self, exchange: Exchange, answerer: Endpoint, body: Body, journal: Journal, tokenizes: bool
    ) -> Resumption:
        """Both counts by the engine; where it does not count, a token for each chunk of text."""
        assert exchange.request is not None
        if tokenizes:
            first = exchange.resumption
            original = (
                first.prompt_tokens
                if first is not None
                else await self._count(exchange, answerer, exchange.request.body)
            )
            longer = await self._count(exchange, answerer, body)
            if original is not None and longer is not None:
                said = max(0, longer - original)
                return Resumption(journal, prompt_tokens=original, said_tokens=said)
        prompt_tokens = exchange.request.prompt_tokens() or 0
        return Resumption(journal, prompt_tokens=prompt_tokens, said_tokens=journal.chunks)

    async def _count(self, exchange: Exchange, answerer: Endpoint, body: Body) -> int | None:
        ids = prompt_ids(body)
        if ids is not None:
            return len(ids)
        tokens = await self._tokens(exchange, answerer, tokenize_body(body))
        return None if tokens is None else len(tokens)

    async def _tokens(
        self, exchange: Exchange, answerer: Endpoint, body: Body
    ) -> tuple[int, ...] | None:
        try:
            async with asyncio.timeout(_TOKENIZE_S_MAX):
                return await self._wire.tokens(exchange, answerer, body)
        except TimeoutError:
            return None

    def _end(self, exchange: Exchange, finish_reason: str | None) -> None:
        assert exchange.request is not None
        assert exchange.resumption is not None
        exchange.usage = exchange.resumption.total(Usage())
        ending = exchange.resumption.ending(
            finish_reason=finish_reason, usage_wanted=exchange.request.wants_usage
        )
        exchange.finished = True
        exchange.client.end(ending)
