"""The emulated engine: routes, checks, and the way of a request from its body to its tokens."""

import asyncio
import hmac
import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pipelines.engines.emulator.answers import Answer
from pipelines.engines.emulator.ask import (
    Ask,
    RefusalError,
    read_chat,
    read_completion,
    read_tokenize,
)
from pipelines.engines.emulator.batch import Batch, Generation
from pipelines.engines.emulator.counters import Counters, exposition
from pipelines.engines.emulator.faults import Fault, FaultKind, Faults
from pipelines.engines.emulator.http import Reply, Request
from pipelines.engines.emulator.kv import KvError, Leases, read_remote
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.prefix_cache import PrefixCache
from pipelines.engines.emulator.sinks import Sink, StreamSink, WholeSink, strike
from pipelines.engines.emulator.text import Token, make_token, state_of, tokens
from registry.spec import Role

_UNAUTHORIZED = b'{"error":"Unauthorized"}'
_METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_Route = Callable[[Request, Reply], None]


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
        self._requests = 0
        self._models = _models(options)
        self._routes: dict[str, dict[str, _Route]] = {
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": lambda _, reply: reply.send(200, self._models)},
            "/v1/completions": {"POST": self._completion},
            "/v1/chat/completions": {"POST": self._chat},
            "/tokenize": {"POST": self._tokenize},
            "/fault": {
                "GET": self._list_faults,
                "POST": self._add_fault,
                "DELETE": self._clear_faults,
            },
        }

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
        else:
            try:
                methods[request.method](request, reply)
            except RefusalError as refusal:
                reply.send(refusal.status, refusal.body())

    def _guarded(self, path: str) -> bool:
        return bool(self._authorization) and path.startswith(("/v1", "/fault"))

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

    def _completion(self, request: Request, reply: Reply) -> None:
        self._generate(read_completion(request.body, self.options), request, reply)

    def _chat(self, request: Request, reply: Reply) -> None:
        self._generate(read_chat(request.body, self.options), request, reply)

    def _generate(self, ask: Ask, request: Request, reply: Reply) -> None:
        reads_kv = self._reads_kv(ask)
        fault = self.faults.take(reads_kv=reads_kv)
        if fault is not None and fault.strikes_at_once:
            self._fail_at_once(fault, ask, reply)
        elif reads_kv:
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
        strike(fault, reply, streams=ask.stream)

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
            self._sink(ask, request, reply, stop=None, state=0).fail()
            return
        await asyncio.sleep(self.options.kv_transfer_ms / 1e3)
        self.counters.kv_transfers += 1
        self.counters.kv_transfer_s += self._loop.time() - began
        if fault is not None and fault.kind is FaultKind.KV_NEVER:
            self._sink(ask, request, reply, stop=None, state=state).open()
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
        stream = tokens(state, starts_text=ask.starts_text, may_end=ask.may_end)
        stop = None
        if ask.stops:
            stream, stop = _cut(stream, ask)
        generation = Generation(
            stream,
            self._sink(ask, request, reply, stop=stop, state=state),
            limit=ask.limit,
            prompt_tokens=ask.prompt_tokens,
            cached_tokens=self.prefixes.take(ask.token_ids()) if self.prefixes else 0,
            prefilled=prefilled,
            fault=fault,
        )
        reply.on_disconnect = lambda: self.batch.end(generation, "abort")
        self.batch.submit(generation)

    def _sink(
        self, ask: Ask, request: Request, reply: Reply, *, stop: str | None, state: int
    ) -> Sink:
        self._requests += 1
        answer = Answer(
            ask,
            model=self.options.model,
            request_id=request.headers.get("x-request-id") or f"{self._requests:016x}",
            created=int(time.time()),
        )
        if ask.stream:
            return StreamSink(reply, answer, stop=stop)
        return WholeSink(reply, answer, stop=stop, transfer=lambda: self._grant(ask, state))

    def _grant(self, ask: Ask, state: int) -> dict[str, Any] | None:
        if not ask.transfer.do_remote_decode or self.options.role is not Role.PREFILL:
            return None
        return self.leases.grant(
            state=state, tokens=ask.prompt_tokens, host=self.options.host, port=self.kv_port
        )


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


def _models(options: Options) -> bytes:
    permission = {
        "id": "modelperm-emulator",
        "object": "model_permission",
        "created": 0,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": options.model,
        "object": "model",
        "created": 0,
        "owned_by": "vllm",
        "root": options.model,
        "parent": None,
        "max_model_len": options.max_model_len,
        "permission": [permission],
    }
    return msgspec.json.encode({"object": "list", "data": [card]})
