"""Looks at a running worker over HTTP: is it up, does it generate, what does it count."""

import asyncio
import secrets
import ssl
import time
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from pipelines.engines import ENGINES
from pipelines.engines.base import Body, EngineMetrics, Pairing, ProtocolError
from registry.spec import Role, Task
from registry.state import Worker

_PROMPT = "The capital of France is Paris, and the capital of Italy is Rome. " * 4
_COMPLETIONS = "/v1/completions"
_CHAT = "/v1/chat/completions"
_EMBEDDINGS = "/v1/embeddings"
_RERANK = "/v1/rerank"
_MODELS = "/v1/models"
_GENERATION_TIMEOUT_S = 60.0
# On a loaded machine of few cores a KV read can stall for longer than its 30 s lease.
_TRANSFER_TIMEOUT_S = 150.0
_ROOM_BITS = 63
_MESSAGE_CHARS_MAX = 200
# Says that there is nothing at this path, not that it failed.
_NO_SUCH_ROUTE = frozenset({401, 403, 404, 405, 501})
_A = TypeVar("_A")
_UNCOUNTED = "serves, but its KV transfers cannot be counted: "


class ProbeError(Exception):
    """The worker does not do its work (yet); the message says which step failed. *status* is that
    of its answer, 0 without one.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def probe_client() -> httpx.AsyncClient:
    """A client for worker addresses: no proxies from the environment, no redirects, and the
    system's certificates, as in the gateway (httpx would bring its own).
    """
    return httpx.AsyncClient(
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(None, connect=2.0),  # each call has a deadline of its own
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
    )


async def scrape(
    client: httpx.AsyncClient, worker: Worker, timeout_s: float = 2.0
) -> EngineMetrics:
    """The engine's own counts. Raises ProbeError."""
    engine = ENGINES[worker.plan.engine]
    if not engine.metrics_path:
        raise ProbeError(f"{worker.id}: engine {worker.plan.engine} has no metrics", 404)
    response = await _call(client, worker, "GET", engine.metrics_path, timeout_s=timeout_s)
    return engine.metrics(response.text)


async def tell(
    client: httpx.AsyncClient, worker: Worker, path: str, body: bytes, *, timeout_s: float
) -> None:
    """Has the engine do something that it is done with when it answers. Raises ProbeError."""
    await _call(client, worker, "POST", path, content=body, timeout_s=timeout_s)


async def check_health(client: httpx.AsyncClient, worker: Worker) -> None:
    """Raises ProbeError unless the engine's HTTP side says it is well; of an external one, unless
    it also still takes our key, which a health route may not ask for.
    """
    path = ENGINES[worker.plan.engine].health_path
    if path:
        await _call(client, worker, "GET", path, timeout_s=5.0)
    if worker.plan.external:
        try:
            await _call(client, worker, "GET", _MODELS, timeout_s=5.0)
        except ProbeError as error:
            if error.status not in {404, 405}:  # who says that is up, and lists no models
                raise


async def check_generation(client: httpx.AsyncClient, worker: Worker) -> None:
    """One real token from the worker alone, where its engine can give one; of a model that gives
    no tokens, one real embedding or ranking. Raises ProbeError.
    """
    if worker.plan.task is Task.EMBED:
        await _embed(client, worker)
        return
    if worker.plan.task is Task.RERANK:
        await _rerank(client, worker)
        return
    engine = ENGINES[worker.plan.engine]
    if engine.pairing is Pairing.CONCURRENT and worker.plan.role is not Role.UNIFIED:
        return
    if engine.has_completions:
        await _generate(client, worker, _request(worker))
    else:
        await _check_chat(client, worker)


async def _embed(client: httpx.AsyncClient, worker: Worker) -> None:
    body = {"model": _model(worker), "input": _PROMPT}
    answer = await _ask(client, worker, _EMBEDDINGS, body, _Embeddings)
    # NaN comes as null, which is no float.
    if not any(any(item.embedding) for item in answer.data):
        raise ProbeError(f"{worker.id} {_EMBEDDINGS}: its vector is empty or all zero")


async def _rerank(client: httpx.AsyncClient, worker: Worker) -> None:
    documents = ["Paris is the capital of France.", "The tax form is due in April."]
    body = {"model": _model(worker), "query": "What is the capital?", "documents": documents}
    answer = await _ask(client, worker, _RERANK, body, _Ranking)
    if len(answer.results) != len(documents):
        raise ProbeError(f"{worker.id} {_RERANK}: it ranked {len(answer.results)} of 2 documents")


async def _check_chat(client: httpx.AsyncClient, worker: Worker) -> None:
    """Where there may be no completions route; old mocks have no chat."""
    message = {"role": "user", "content": "Say yes."}
    body: Body = {
        "model": _raw(_model(worker)),
        "messages": _raw([message]),
        "max_tokens": _raw(2),
    }
    try:
        await _generate(client, worker, body, path=_CHAT)
    except ProbeError as error:
        if error.status not in {404, 405}:
            raise
        await _generate(client, worker, _request(worker))


async def model_tokens_max(client: httpx.AsyncClient, worker: Worker) -> int:
    """How many tokens a prompt and its answer may have together; 0 where it does not say. Raises
    ProbeError.
    """
    response = await _call(client, worker, "GET", _MODELS, timeout_s=5.0)
    listed = _decode(worker, _MODELS, response.content, _Models).data
    return next((item.max_model_len for item in listed if item.id == _model(worker)), 0)


async def token_times(
    client: httpx.AsyncClient, worker: Worker, prompt: list[int], tokens: int, timeout_s: float
) -> tuple[list[float], int]:
    """When the events came of an answer of *tokens*, by `time.perf_counter`, and how many tokens
    they have been together. Raises ProbeError.
    """
    body = _request(worker) | {
        "prompt": _raw(prompt),
        "max_tokens": _raw(tokens),
        "ignore_eos": _raw(True),
        "stream": _raw(True),
        "stream_options": _raw({"include_usage": True}),
    }
    content, at, counted = msgspec.json.encode(body), [], tokens
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream(
                "POST", worker.url + _COMPLETIONS, content=content, headers=_headers(worker)
            ) as response,
        ):
            if response.status_code != httpx.codes.OK:
                await response.aread()
            _check_status(worker, _COMPLETIONS, response)
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if data in {"", "[DONE]"}:
                    continue
                event = _decode(worker, _COMPLETIONS, data.encode(), _Event)
                if event.choices:
                    at.append(time.perf_counter())
                elif event.usage is not None:
                    counted = event.usage.completion_tokens
    except (httpx.HTTPError, TimeoutError) as error:
        raise _broken(worker, _COMPLETIONS, error) from None
    if not at:
        raise ProbeError(f"{worker.id} {_COMPLETIONS}: its answer holds no token")
    return at, counted


async def answered(
    client: httpx.AsyncClient, worker: Worker, prompt: list[int], tokens: int, timeout_s: float
) -> None:
    """Returns when all *tokens* of an answer are there. Raises ProbeError."""
    body = _request(worker) | {
        "prompt": _raw(prompt),
        "max_tokens": _raw(tokens),
        "ignore_eos": _raw(True),
    }
    await _generate(client, worker, body, timeout_s=timeout_s)


async def check_transfer(client: httpx.AsyncClient, prefill: Worker, decode: Worker) -> str:
    """One real generation over the pair whose KV transfer the engine itself counts.

    Raises ProbeError, also when the answer came but no KV moved: decode then recomputed it.
    An external worker may have no counts to show; then the answer says so, else it is "".
    """
    engine = ENGINES[decode.plan.engine]
    concurrent = engine.pairing is Pairing.CONCURRENT
    if concurrent and decode.plan.external:
        await _generate_at_once(client, prefill, decode)
        return ""  # whatever it shows: such a decode worker cannot have recomputed it
    counting = prefill if engine.counts_transfers is Role.PREFILL else decode
    before = await _count(client, counting)
    await (_generate_at_once if concurrent else _generate_in_turn)(client, prefill, decode)
    if before is None:
        return f"{_UNCOUNTED}it shows no metrics"
    for _ in range(20):  # the engine updates its counters a moment after the answer
        after = await scrape(client, counting)
        if after.kv_transfers > before.kv_transfers:
            return ""
        await asyncio.sleep(0.25)
    if decode.plan.external and after == EngineMetrics():
        return f"{_UNCOUNTED}its metrics are not those of {decode.plan.engine}"
    raise ProbeError(
        f"{decode.id} answered, but {counting.id} counted no KV transfer from {prefill.id}"
    )


async def _count(client: httpx.AsyncClient, worker: Worker) -> EngineMetrics | None:
    """None where an external worker has no metrics; ours always have."""
    try:
        return await scrape(client, worker)
    except ProbeError as error:
        if worker.plan.external and error.status in _NO_SUCH_ROUTE:
            return None
        raise


async def _generate_in_turn(client: httpx.AsyncClient, prefill: Worker, decode: Worker) -> None:
    engine = ENGINES[decode.plan.engine]
    body = _request(prefill)
    answer = await _generate(client, prefill, engine.prefill_body(body, "completions"))
    try:
        leg = engine.decode_body(body, answer)
    except ProtocolError as error:
        raise ProbeError(f"{prefill.id}: {error}") from None
    await _generate(client, decode, leg, timeout_s=_TRANSFER_TIMEOUT_S)


async def _generate_at_once(client: httpx.AsyncClient, prefill: Worker, decode: Worker) -> None:
    """Either leg's failure cancels the other, which would wait for it in vain."""
    external = prefill.plan.external
    body = ENGINES[decode.plan.engine].concurrent_body(
        _request(decode),
        bootstrap_host=urlsplit(prefill.url).hostname or "",
        bootstrap_port=external.bootstrap_port if external else prefill.kv_port,
        room=secrets.randbits(_ROOM_BITS),
    )
    try:
        async with asyncio.TaskGroup() as legs:
            for worker in (prefill, decode):
                leg = _generate(client, worker, body, timeout_s=_TRANSFER_TIMEOUT_S)
                legs.create_task(leg)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


class _Answer(msgspec.Struct):
    choices: list[msgspec.Raw]


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw]
    usage: _Usage | None = None


class _Listed(msgspec.Struct):
    id: str
    max_model_len: int = 0


class _Models(msgspec.Struct):
    data: list[_Listed]


class _Embedding(msgspec.Struct):
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


class _Ranked(msgspec.Struct):
    relevance_score: float


class _Ranking(msgspec.Struct):
    results: list[_Ranked]


async def _generate(
    client: httpx.AsyncClient,
    worker: Worker,
    body: Body,
    *,
    path: str = _COMPLETIONS,
    timeout_s: float = _GENERATION_TIMEOUT_S,
) -> bytes:
    """The answer, which holds at least one choice. Raises ProbeError."""
    content = msgspec.json.encode(body)
    response = await _call(client, worker, "POST", path, content=content, timeout_s=timeout_s)
    if not _decode(worker, path, response.content, _Answer).choices:
        raise ProbeError(f"{worker.id} {path}: its answer holds no choice")
    return response.content


async def _ask(
    client: httpx.AsyncClient, worker: Worker, path: str, body: object, kind: type[_A]
) -> _A:
    content = msgspec.json.encode(body)
    response = await _call(client, worker, "POST", path, content=content)
    return _decode(worker, path, response.content, kind)


def _decode(worker: Worker, path: str, content: bytes, kind: type[_A]) -> _A:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ProbeError(f"{worker.id} {path}: its answer is none of its kind: {error}") from None


def _model(worker: Worker) -> str:
    external = worker.plan.external
    return (external.served_name if external else "") or worker.plan.model


def _request(worker: Worker) -> Body:
    return {
        "model": _raw(_model(worker)),
        "prompt": _raw(_PROMPT),
        "max_tokens": _raw(2),
        "temperature": _raw(0),
    }


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def _call(
    client: httpx.AsyncClient,
    worker: Worker,
    method: str,
    path: str,
    *,
    content: bytes | None = None,
    timeout_s: float = _GENERATION_TIMEOUT_S,
) -> httpx.Response:
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.request(
                method, worker.url + path, content=content, headers=_headers(worker)
            )
    except (httpx.HTTPError, TimeoutError) as error:
        raise _broken(worker, path, error) from None
    _check_status(worker, path, response)
    return response


def _headers(worker: Worker) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if worker.token:
        headers["authorization"] = f"Bearer {worker.token}"
    return headers


def _broken(worker: Worker, path: str, error: Exception) -> ProbeError:
    return ProbeError(f"{worker.id} {path}: {type(error).__name__} {error}".strip())


def _check_status(worker: Worker, path: str, response: httpx.Response) -> None:
    """Raises ProbeError."""
    if response.status_code != httpx.codes.OK:
        text = _without_token(response.text, worker)[:_MESSAGE_CHARS_MAX]
        message = f"{worker.id} {path}: {response.status_code} {text}".strip()
        raise ProbeError(message, response.status_code)


def _without_token(text: str, worker: Worker) -> str:
    """Some servers repeat a key that they refuse."""
    return text.replace(worker.token, "(its key)") if worker.token else text
