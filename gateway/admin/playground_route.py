"""The route of the playground: an answer of the inference listener, passed through as it comes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import httpx
from litestar import Controller, Response, post
from litestar.params import RawBody
from litestar.response import Stream

from gateway.admin.context import AdminRequest, Context, stream
from gateway.admin.documented import WRITE_REFUSALS, TakesChat

_PASSED = frozenset({"content-type", "retry-after"})
_OURS = "x-modelyard-"
_CLIENT_GONE = 499


class PlaygroundController(Controller):
    path = "/admin/v1/playground"
    tags = ("playground",)

    @post(
        "/",
        operation_id="chat",
        operation_class=TakesChat,
        responses=WRITE_REFUSALS,
        status_code=200,
        media_type="application/json",
        description="A chat completion, streamed or not, as `/v1/chat/completions` of this gateway "
        "answers it, its errors included. It is metered as the key `console`.",
    )
    async def chat(
        self, ctx: Context, request: AdminRequest, body: RawBody
    ) -> Stream | Response[bytes]:
        asked = asyncio.ensure_future(ctx.playground.ask(body, request.auth))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not asked.done():
                asked.cancel()  # a model that sleeps may hold it for minutes
        if asked.cancelled() or not asked.done():
            return Response(b"", status_code=_CLIENT_GONE)
        response = asked.result()
        headers = {
            name: value
            for name, value in response.headers.items()
            if name in _PASSED or name.startswith(_OURS)
        }
        # Its content type is among the headers, which go before the route's own.
        return stream(_chunks(response), "application/json", headers, response.status_code)


async def _gone(request: AdminRequest) -> None:
    """Until the client goes: the body is read already, so nothing else comes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(response):
        async for chunk in response.aiter_raw():
            yield chunk
