"""What real SGLang workers were recorded to answer is what Modelyard reads and relies on."""

import json
from pathlib import Path

import msgspec
import pytest

from gateway.api.answer import Usage
from gateway.kv_feed import decode
from gateway.proxy.journal import Journal
from gateway.proxy.stream import Relay
from gateway.routing.blocks import token_blocks
from gateway.routing.kv_index import KvIndexes
from pipelines.engines.base import EngineMetrics
from pipelines.engines.resume import continued, is_behind, read_tokens, tokenize_body
from pipelines.engines.sglang import SglangEngine
from registry.engine_args import Arg

RECORDED = json.loads((Path(__file__).parent / "transcripts" / "sglang.json").read_text("utf-8"))
EXCHANGES = {exchange["name"]: exchange for exchange in RECORDED["exchanges"]}
ENGINE = SglangEngine()


def answer(name: str) -> dict:
    return EXCHANGES[name]["response"]


def body(name: str) -> dict:
    assert answer(name)["status"] == 200, answer(name)
    return answer(name)["body"]


def tokens(name: str) -> tuple[int, ...]:
    found = read_tokens(json.dumps(body(name)).encode())
    assert found is not None
    return found


def asked(request: dict[str, Arg]) -> dict:
    """What SGLang's tokenizer is asked of *request*."""
    raw = msgspec.json.decode(json.dumps(request), type=dict[str, msgspec.Raw])
    return json.loads(msgspec.json.encode(tokenize_body(raw, ENGINE.resuming.tokenized)))


def test_each_role_counts_what_it_does_and_prefill_the_transfers():
    metrics = {
        role: ENGINE.metrics(answer(f"{role}metrics after")["text"])
        for role in ("", "prefill ", "decode ")
    }
    assert metrics == {
        "": EngineMetrics(prompt_tokens=208, generation_tokens=24),
        "prefill ": EngineMetrics(kv_transfers=1, prompt_tokens=122, generation_tokens=1),
        # It also counts the prompt of the request that it refused for having no room.
        "decode ": EngineMetrics(prompt_tokens=2 * 122, generation_tokens=6),
    }


@pytest.mark.parametrize("name", ["chat streamed with usage", "completion streamed"])
def test_a_stream_is_text_whose_tokens_and_usage_are_read(name):
    *chunks, done = answer(name)["events"]
    assert done == "[DONE]"
    events = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks]
    relay, journal = Relay(usage_wanted=True), Journal()
    for each in events:
        journal.add(relay.feed(each))
    text = journal.text()
    assert (journal.whole, journal.finish_reason) == (True, "length")
    assert "Paris" in text
    assert journal.tokens == relay.usage.completion_tokens == 6
    assert relay.usage == Usage(28 if "chat" in name else 122, 6)


def test_a_chat_goes_on_exactly_behind_what_was_said():
    prompt, longer = tokens("tokens of a chat"), tokens("tokens of a chat continued")
    text = tokens("tokens of a text")
    assert longer == (*prompt, *text)
    assert is_behind(longer, prompt, len(text))
    whole, rest = body("chat"), body("chat continued")
    assert rest["usage"]["prompt_tokens"] == len(longer)
    said = "The capital" + rest["choices"][0]["message"]["content"]
    assert said.startswith(whole["choices"][0]["message"]["content"])


def test_its_tokenizer_refuses_what_vllms_is_asked_so_it_is_asked_less():
    refused = EXCHANGES["tokens of a chat continued, as vLLM is asked"]
    assert refused["response"]["status"] == 400
    assert asked(refused["body"]) == EXCHANGES["tokens of a chat continued"]["body"]


def test_what_we_send_to_go_on_is_what_was_recorded():
    chat = EXCHANGES["chat"]["body"]
    raw = msgspec.json.decode(json.dumps(chat), type=dict[str, msgspec.Raw])
    sent = json.loads(msgspec.json.encode(continued(raw, "The capital")))
    assert sent == EXCHANGES["chat continued"]["body"]


def test_decode_answers_in_a_room_only_and_begins_with_prefills_token():
    """So there is no bypass, and no degraded mode."""
    assert answer("decode without a room")["status"] == 400
    first, whole = (body(role)["choices"][0]["text"] for role in ("prefill", "decode"))
    assert first
    assert whole.startswith(first)
    assert EXCHANGES["prefill"]["body"] == EXCHANGES["decode"]["body"]


def test_its_kv_events_hold_the_tokens_that_its_tokenizer_makes_of_the_request():
    prompt = tokens("tokens of a story")
    index = KvIndexes()
    for frames in RECORDED["frames_hex"]:
        _, events = decode([bytes.fromhex(frame) for frame in frames])
        assert all(event.block_size == 16 for event in events)
        index.apply("w", events)
    cached = index.cached_tokens(lambda size: token_blocks(prompt, size))
    assert cached == {"w": len(prompt) // 16 * 16}
