"""Records what running SGLang workers answer, for the contract tests: transcripts/sglang.json.

    ENGINE_KEY=… python tests/contract/record_sglang.py --unified http://127.0.0.1:8000 \
        --events ipc:///…/kv-events --prefill http://127.0.0.1:8010 --bootstrap-port 8011 \
        --decode http://127.0.0.1:8020

They serve their model as ``smollm2``, were started as the adapter starts them, and are quiet
otherwise. Written as `record_transcripts.py` writes vLLM's.
"""

import argparse
import json
import os
import re
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import zmq
from record_transcripts import CHAT, HERE, USAGE, chat, completion
from record_transcripts import _event as event
from record_transcripts import _normal as normal

STORY = [
    {"role": "system", "content": "You are a patient teacher of geography. " * 8},
    {"role": "user", "content": "What is the capital of France?"},
]
SAID = [*CHAT, {"role": "assistant", "content": "The capital"}]
UNIFIED: list[tuple[str, str, Any]] = [
    ("chat streamed with usage", "/v1/chat/completions", chat(stream=True, stream_options=USAGE)),
    ("completion streamed", "/v1/completions", completion(stream=True, stream_options=USAGE)),
    ("chat", "/v1/chat/completions", chat()),
    (
        "chat continued",
        "/v1/chat/completions",
        chat(messages=SAID, continue_final_message=True, add_generation_prompt=False),
    ),
    ("tokens of a chat", "/tokenize", {"model": "smollm2", "messages": CHAT}),
    (
        "tokens of a chat continued",
        "/tokenize",
        {"model": "smollm2", "messages": SAID, "continue_final_message": True},
    ),
    (
        "tokens of a chat continued, as vLLM is asked",
        "/tokenize",
        {
            "model": "smollm2",
            "messages": SAID,
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
    ),
    (
        "tokens of a text",
        "/tokenize",
        {"model": "smollm2", "prompt": "The capital", "add_special_tokens": False},
    ),
    ("tokens of a story", "/tokenize", {"model": "smollm2", "messages": STORY}),
    ("error: max_tokens over the context", "/v1/completions", completion(max_tokens=9000)),
]
_OWN_METRICS = re.compile(
    r"sglang:(num_running_reqs|num_[a-z_]*queue_reqs|token_usage|kv_transfer_latency_ms_(count|sum)"
    r"|num_transfer_failed_reqs_total|prompt_tokens_total|generation_tokens_total)[ {]"
)


class Recorder:
    def __init__(self, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(trust_env=False, timeout=120, headers=headers)

    def ask(self, name: str, url: str, path: str, body: Any = None) -> dict[str, Any]:
        method = "GET" if body is None else "POST"
        response = self.client.request(method, url + path, json=body)
        sys.stderr.write(f"{response.status_code}: {name}\n")
        return {
            "name": name,
            "method": method,
            "path": path,
            "body": body,
            "response": _answer(response),
        }

    def pair(self, urls: dict[str, str], port: int) -> list[dict[str, Any]]:
        """One request over the pair, and what its halves count afterwards."""
        room = {
            "bootstrap_host": httpx.URL(urls["prefill"]).host,
            "bootstrap_port": port,
            "bootstrap_room": secrets.randbits(63),
        }
        body = completion(**room)
        with ThreadPoolExecutor(2) as pool:
            legs = [
                pool.submit(self.ask, role, urls[role], "/v1/completions", body) for role in urls
            ]
            exchanges = [leg.result() for leg in legs]
        exchanges.append(
            self.ask("decode without a room", urls["decode"], "/v1/completions", completion())
        )
        exchanges += [self.ask(f"{role} metrics after", urls[role], "/metrics") for role in urls]
        for exchange in exchanges[:2]:
            exchange["body"] = {**body, "bootstrap_room": 1, "bootstrap_port": 1}
        return exchanges

    def events(self, url: str, endpoint: str) -> list[list[str]]:
        """The frames that one prompt brings, as they came."""
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"")
            socket.connect(endpoint)
            socket.poll(1000)  # a subscription takes a moment
            self.ask("a story", url, "/v1/chat/completions", chat(messages=STORY))
            frames = []
            while socket.poll(2000):
                frames.append([frame.hex() for frame in socket.recv_multipart()])
        return frames


def _answer(response: httpx.Response) -> dict[str, Any]:
    kind = response.headers.get("content-type", "")
    answer: dict[str, Any] = {"status": response.status_code, "content_type": kind}
    if kind.startswith("text/event-stream"):
        answer["events"] = [event(each) for each in response.text.split("\n\n") if each]
    elif kind.startswith("application/json"):
        answer["body"] = normal(response.json())
    else:
        lines = response.text.splitlines()
        answer["text"] = "\n".join(line for line in lines if _OWN_METRICS.match(line)) + "\n"
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--engine", default="sglang 0.5.23 on CPU, SmolLM2-135M-Instruct bf16")
    for name in ("unified", "events", "prefill", "decode"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bootstrap-port", type=int, required=True)
    given = parser.parse_args()
    recorder = Recorder(os.environ["ENGINE_KEY"])
    exchanges = [recorder.ask(name, given.unified, path, body) for name, path, body in UNIFIED]
    exchanges.append(recorder.ask("metrics after", given.unified, "/metrics"))
    urls = {"prefill": given.prefill, "decode": given.decode}
    exchanges += recorder.pair(urls, given.bootstrap_port)
    frames = recorder.events(given.unified, given.events)
    told = {"engine": given.engine, "exchanges": exchanges, "frames_hex": frames}
    text = json.dumps(told, indent=1, ensure_ascii=False)
    (HERE / "transcripts" / "sglang.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
