"""The emulated engine: routes, checks, and the way of a request from its body to its tokens."""

import asyncio
import hmac
import itertools
import random
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pipelines.engines.emulator import pooling
from pipelines.engines.emulator.answers import Answer, ChatAnswer
from pipelines.engines.emulator.ask import Ask, RefusalError
from pipelines.engines.emulator.batch import Batch, Generation
from pipelines.engines.emulator.card import models_answer
from pipelines.engines.emulator.counters import Counters, exposition
from pipelines.engines.emulator.dialects import read_count_tokens, read_messages, read_responses
from pipelines.engines.emulator.faults import Fault, FaultKind, Faults
from pipelines.engines.emulator.http import Reply, Request
from pipelines.engines.emulator.kv import KvError, Leases, read_remote
from pipelines.engines.emulator.messages import MessagesAnswer
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.prefix_cache import PrefixCache
from pipelines.engines.emulator.requests import (
    read_chat,
    read_completion,
    read_detokenize,
    read_tokenize,
)
from pipelines.engines.emulator.responses import ResponsesAnswer
from pipelines.engines.emulator.rest import Rest
from pipelines.engines.emulator.sinks import PoolingSink, Stream, Target, Whole, strike
from pipelines.engines.emulator.text import (
    Token,
    count_tokens,
    make_token,
    pieces,
    state_of,
    tokens,
)
from registry.spec import Role, Task

_UNAUTHORIZED = b'{"error":"Unauthorized"}'
_METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_ANTHROPIC = "/v1/messages"
_Route = Callable[[Request, Reply], None]
_Read = Callable[[bytes, Options], Ask]
_Pool = Callable[[bytes, Options], pooling.Pooled]


class Emulator:
    """Owns everything but the sockets."""

    def __init__(self, options: Options, *, token: str, loop: asyncio.AbstractEventLoop) -> None:
        rng = random.Random(options.seed)  # noqa: S311 - repeatable is the point
        self.options = options
        self.kv_port = 0  # set once it is bound
        self.counters = Counters()
        self.leases = Leases(lease_s=options.kv_lease_s, clock=loop.time)
        self.faults = Faults(
            failure_rate=options.failure_rate, die_after_tokens=options.die_after_tokens, rng=rng
        )
        self.batch = Batch(options, self.counters, rng, loop)
        self._authorization = f"Bearer {token}".encode() if token else b""
        # Only with somebody to tell of it: else each prompt costs its whole time.
        self.prefixes: PrefixCache | None = None
        self._reads: set[asyncio.Task[None]] = set()  # KV reads under way
        self._hanging: set[Reply] = set()  # without a generation
        self._loop = loop
        self._rest = Rest(loop, options.wake_s)
        self._requests = 0
        self._models = models_answer(options)
        self._routes: dict[str, dict[str, _Route]] = {
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": lambda _, reply: reply.send(200, self._models)},
            **{path: {"POST": route} for path, route in self._working_routes().items()},
            "/tokenize": {"POST": self._tokenize},
            "/detokenize": {"POST": self._detokenize},
            "/fault": {
                "GET": self._list_faults,
                "POST": self._add_fault,
                "DELETE": self._clear_faults,
            },
        }
        if options.enable_sleep_mode:
            self._routes |= self._rest.routes()

    async def aclose(self) -> None:
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)

    def handle(self, request: Request, reply: Reply) -> None:
        if self._guarded(request.path) and not self._authorized(request):
            reply.send(401, _UNAUTHORIZED)
            return
        methods = self._routes.get(request.path)
        if methods is None:
            reply.send(404, b'{"detail":"Not Found"}')
        elif request.method not in methods:
            reply.send(405, b'{"detail":"Method Not Allowed"}')
        elif self._rest.refuses(request.path):
            reply.send(503, b'{"error":"The engine is asleep"}')
        else:
            try:
                methods[request.method](request, reply)
            except RefusalError as refusal:
                anthropic = request.path.startswith(_ANTHROPIC)
                reply.send(refusal.status, refusal.body(anthropic=anthropic))

    def _working_routes(self) -> dict[str, _Route]:
        """Those that a model of its task has: as vLLM's, it does not know the others."""
        if self.options.task is Task.GENERATE:
            return {
                "/v1/completions": self._generates(read_completion),
                "/v1/chat/completions": self._generates(read_chat),
                "/v1/responses": self._generates(read_responses),
                _ANTHROPIC: self._generates(read_messages),
                "/v1/messages/count_tokens": self._count_tokens,
            }
        ranks, scores = self._pools(pooling.rerank), self._pools(pooling.score)
        routes = dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), ranks)
        routes |= dict.fromkeys(("/score", "/v1/score"), scores)
        if self.options.task is Task.EMBED:
            routes["/v1/embeddings"] = self._pools(pooling.embed)
        return routes

    def _guarded(self, path: str) -> bool:
        return bool(self._authorization) and path.startswith(
            ("/v1", "/fault", *self._rest.routes())
        )

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, self._authorization)

    def _health(self, _: Request, reply: Reply) -> None:
        reply.send(200 if self.faults.healthy else 503, b"", "")

    def _metrics(self, _: Request, reply: Reply) -> None:
        used = self.batch.blocks + self.leases.blocks
        body = exposition(
            self.counters,
            model=self.options.model,
            running=self.batch.running + len(self._hanging),
            waiting=self.batch.waiting + len(self._reads),
            kv_usage=min(1.0, used / self.options.kv_blocks),
            kv_blocks=self.options.kv_blocks,
            kv_expired=self.leases.expired,
            with_transfers=self.options.role is not Role.UNIFIED,
        )
        reply.send(200, body, _METRICS_TYPE)

    def _list_faults(self, _: Request, reply: Reply) -> None:
        reply.send(200, msgspec.json.encode({"faults": self.faults.pending}))

    def _add_fault(self, request: Request, reply: Reply) -> None:
        try:
            self.faults.add(msgspec.json.decode(request.body, type=Fault))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RefusalError(400, str(error)) from None
        self._list_faults(request, reply)

    def _clear_faults(self, request: Request, reply: Reply) -> None:
        self.faults.clear()
        self._list_faults(request, reply)

    def _tokenize(self, request: Request, reply: Reply) -> None:
        tokens = read_tokenize(request.body, self.options)
        answer = {
            "count": len(tokens),
            "max_model_len": self.options.max_model_len,
            "tokens": tokens,
            "token_strs": None,
        }
        reply.send(200, msgspec.json.encode(answer))

    def _detokenize(self, request: Request, reply: Reply) -> None:
        prompt = read_detokenize(request.body, self.options)
        reply.send(200, msgspec.json.encode({"prompt": prompt}))

    def _count_tokens(self, request: Request, reply: Reply) -> None:
        count = count_tokens(read_count_tokens(request.body, self.options))
        context = {"original_input_tokens": count}
        answer = {"input_tokens": count, "context_management": context}
        reply.send(200, msgspec.json.encode(answer))

    def _generates(self, read: _Read) -> _Route:
        return lambda request, reply: self._generate(
            read(request.body, self.options), request, reply
        )

    def _pools(self, pool: _Pool) -> _Route:
        return lambda request, reply: self._pool(pool(request.body, self.options), request, reply)

    def _pool(self, pooled: pooling.Pooled, request: Request, reply: Reply) -> None:
        ask = pooled.ask()
        fault = self.faults.take(reads_kv=False)
        if fault is not None and fault.strikes_at_once:
            self._fail_at_once(fault, ask, reply)
            return
        body = pooled.answer(self._request_id(request), created=int(time.time()))
        generation = Generation(
            iter(()),
            PoolingSink(reply, ask, body),
            limit=0,
            prompt_tokens=pooled.prompt_tokens,
            prefilled=False,
            fault=fault,
        )
        reply.on_disconnect = lambda: self.batch.end(generation, "abort")
        self.batch.submit(generation)

    def _generate(self, ask: Ask, request: Request, reply: Reply) -> None:
        reads_kv = self._reads_kv(ask)
        fault = self.faults.take(reads_kv=reads_kv)
        if fault is not None and fault.strikes_at_once:
            self._fail_at_once(fault, ask, reply)
        elif reads_kv and (fault is None or fault.kind is not FaultKind.KV_RECOMPUTE):
            self._read_kv(ask, request, reply, fault)
        else:
            state = state_of(self.options.seed, self.options.model, ask.text)
            self._begin(ask, request, reply, fault, state, prefilled=False)

    def _reads_kv(self, ask: Ask) -> bool:
        return ask.transfer.do_remote_prefill and self.options.role is not Role.UNIFIED

    def _fail_at_once(self, fault: Fault, ask: Ask, reply: Reply) -> None:
        if fault.kind is FaultKind.HANG:
            self._hang(reply)
            return
        self.counters.finished["error"] += 1
        strike(fault, reply, ask)

    def _hang(self, reply: Reply) -> None:
        """Holds the request until the client goes."""
        self._hanging.add(reply)

        def abort() -> None:
            self._hanging.remove(reply)
            self.counters.finished["abort"] += 1

        reply.on_disconnect = abort

    def _read_kv(self, ask: Ask, request: Request, reply: Reply, fault: Fault | None) -> None:
        task = self._loop.create_task(self._read_then_begin(ask, request, reply, fault))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

        def abort() -> None:
            task.cancel()
            self.counters.finished["abort"] += 1

        reply.on_disconnect = abort

    async def _read_then_begin(
        self, ask: Ask, request: Request, reply: Reply, fault: Fault | None
    ) -> None:
        began = self._loop.time()
        try:
            state = await read_remote(ask.transfer, timeout_s=self.options.kv_timeout_s)
        except KvError:
            self.counters.kv_failures += 1
            self.counters.finished["error"] += 1
            self._target(ask, request, reply, state=0).fail()
            return
        await asyncio.sleep(self.options.kv_transfer_ms / 1e3)
        self.counters.kv_transfers += 1
        self.counters.kv_transfer_s += self._loop.time() - began
        if fault is not None and fault.kind is FaultKind.KV_NEVER:
            self._target(ask, request, reply, state=state).open()
            self._hang(reply)
            return
        self._begin(ask, request, reply, fault, state, prefilled=True)

    def _begin(
        self,
        ask: Ask,
        request: Request,
        reply: Reply,
        fault: Fault | None,
        state: int,
        *,
        prefilled: bool,
    ) -> None:
        target = self._target(ask, request, reply, state=state)
        cached_tokens = self.prefixes.take(ask.token_ids()) if self.prefixes else 0
        generations = []
        for index in range(ask.choices):
            stream, stop = _said(ask, state, index)
            generations.append(
                Generation(
                    stream,
                    target.choice(index, stop),
                    limit=ask.limit,
                    # The prompt is read once for all of its choices.
                    prompt_tokens=0 if index else ask.prompt_tokens,
                    cached_tokens=0 if index else cached_tokens,
                    prefilled=prefilled,
                    fault=None if index else fault,
                )
            )

        def abort() -> None:
            for generation in generations:
                self.batch.end(generation, "abort")

        reply.on_disconnect = abort
        for generation in generations:
            self.batch.submit(generation)

    def _target(self, ask: Ask, request: Request, reply: Reply, *, state: int) -> Target:
        request_id, created = self._request_id(request), int(time.time())
        answers = [
            self._answer(ask, request_id, created, index=index) for index in range(ask.choices)
        ]
        if ask.stream:
            return Stream(reply, ask, answers)
        return Whole(reply, ask, answers[0], transfer=lambda: self._grant(ask, state))

    def _answer(self, ask: Ask, request_id: str, created: int, *, index: int) -> Answer:
        model = self.options.model
        if ask.operation == "responses":
            return ResponsesAnswer(ask, model=model, request_id=request_id, created=created)
        if ask.operation == "messages":
            return MessagesAnswer(ask, model=model, request_id=request_id)
        return ChatAnswer(ask, model=model, request_id=request_id, created=created, index=index)

    def _request_id(self, request: Request) -> str:
        self._requests += 1
        return request.headers.get("x-request-id") or f"{self._requests:016x}"

    def _grant(self, ask: Ask, state: int) -> dict[str, Any] | None:
        if not ask.transfer.do_remote_decode or self.options.role is not Role.PREFILL:
            return None
        return self.leases.grant(
            state=state, tokens=ask.prompt_tokens, host=self.options.host, port=self.kv_port
        )


def _said(ask: Ask, state: int, index: int) -> tuple[Iterator[Token], str | None]:
    """The tokens of a request's choice *index*, and what they are stopped by, if they are."""
    if ask.forced is not None:
        return iter(pieces(ask.forced.text)), None
    if index:  # another choice is another text
        state = zlib.crc32(b"%d" % index, state)
    stream = tokens(state, starts_text=ask.starts_text, may_end=ask.may_end)
    return _cut(stream, ask) if ask.stops else (stream, None)


def _cut(stream: Iterator[Token], ask: Ask) -> tuple[Iterator[Token], str | None]:
    """The tokens before the first stop string, and that string if there is one.

    The text ends where the stop string begins, so the last token may be a part of one.
    """
    text, kept = "", []
    for token in itertools.islice(stream, ask.limit):
        text += token.text
        kept.append(token)
        found = [(text.find(stop), stop) for stop in ask.stops if stop in text]
        if found:
            at, stop = min(found)
            return iter(_shorten(kept, at)), stop
    return iter(kept), None


def _shorten(kept: list[Token], length: int) -> list[Token]:
    """The first *length* characters of *kept*, in as few changed tokens as can be."""
    short: list[Token] = []
    for token in kept:
        if length <= 0:
            break
        short.append(token if len(token.text) <= length else make_token(token.text[:length]))
        length -= len(token.text)
    return short
