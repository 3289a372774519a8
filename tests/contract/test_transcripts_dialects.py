"""What a real vLLM has answered in every dialect, held against what the gateway reads of it and
against the fakes that other tests use.
"""

import json
from pathlib import Path

import msgspec
import pytest
from dialects import EVENTS as FAKE_EVENTS
from dialects import WHOLE

from gateway.api.answer import read_answer
from gateway.api.envelope import worker_error
from gateway.api.events import EVENTS
from gateway.api.operations import OPERATIONS
from gateway.api.request import parse_request
from gateway.errors import BadAnswerError
from gateway.proxy.stream import Relay

HERE = Path(__file__).parent / "transcripts"
EXCHANGES = [
    exchange
    for name in ("dialects", "pooling")
    for exchange in json.loads((HERE / f"{name}.json").read_text())["exchanges"]
]


def those(wanted):
    found = [e for e in EXCHANGES if wanted(e["response"])]
    assert found
    return pytest.mark.parametrize("exchange", found, ids=lambda e: e["name"])


def kinds(events):
    """The types of a stream's events, those of its tokens once."""
    found = []
    for event in events:
        kind = json.loads(event.split("data: ", 1)[1])["type"]
        if not found or found[-1] != kind:
            found.append(kind)
    return found


@those(lambda response: response["status"] == 200 and "body" in response)
def test_a_whole_answer_is_one_and_says_its_usage(exchange):
    operation, body = OPERATIONS[exchange["path"]], exchange["response"]["body"]
    usage = read_answer(json.dumps(body).encode(), operation)
    counts = body.get("usage") or {}
    assert usage.prompt_tokens == counts.get("prompt_tokens", counts.get("input_tokens", 0))
    assert usage.completion_tokens == (
        counts.get("completion_tokens") or counts.get("output_tokens") or 0
    )
    assert bool(usage.prompt_tokens) == operation.metered


@those(lambda response: response["status"] == 200 and "body" in response)
def test_an_answer_to_one_operation_is_none_to_another(exchange):
    path, body = exchange["path"], json.dumps(exchange["response"]["body"]).encode()
    same = {"/v1/chat/completions": "/v1/completions", "/v1/embeddings": "/v1/score"}
    same |= {"/v1/score": "/v1/embeddings", "/v1/rerank": ""}
    for operation in OPERATIONS.values():
        if operation.path in (path, same.get(path)) or operation.name == "rerank":
            continue
        with pytest.raises(BadAnswerError):
            read_answer(body, operation)


@those(lambda response: "events" in response)
def test_a_stream_is_read_to_its_end_and_its_usage(exchange):
    form = EVENTS[OPERATIONS[exchange["path"]].name]
    events = [event.encode() + b"\n\n" for event in exchange["response"]["events"]]
    relay = Relay(form, usage_wanted=True)
    assert b"".join(relay.feed(event) for event in events) == b"".join(events)
    assert (relay.done, relay.failed) == (True, False)
    said = sum(b"delta" in event and b"_delta" not in event[:20] for event in events[:-3])
    assert relay.usage.prompt_tokens > 10
    assert 0 < relay.usage.completion_tokens <= said + 1  # the end is a token
    assert relay.events == len(events) - 1


@those(lambda response: "events" in response)
def test_the_fakes_streams_have_the_same_events(exchange):
    fakes = [event.decode() for event in FAKE_EVENTS[exchange["path"]]()]
    assert kinds(fakes) == kinds(exchange["response"]["events"])


@those(lambda response: response["status"] == 200 and "body" in response)
def test_the_fakes_whole_answers_have_no_field_of_their_own(exchange):
    fake = WHOLE[exchange["path"]](exchange["body"])
    if exchange["path"] == "/v1/messages":
        fake.pop("stop_sequence", None)
    assert fake.keys() <= exchange["response"]["body"].keys()


@those(lambda response: response["status"] >= 400)
def test_an_error_is_read_in_whatever_form_it_is_told(exchange):
    body = exchange["response"]["body"]
    error = worker_error(json.dumps(body).encode())
    assert error.message in (body.get("detail"), body.get("error", {}).get("message"))


@those(lambda response: response["status"] == 200)
def test_what_was_asked_passes_the_gateway_with_every_field(exchange):
    operation = OPERATIONS[exchange["path"]]
    request = parse_request(operation, json.dumps(exchange["body"]).encode())
    sent = json.loads(msgspec.json.encode(request.body))
    added = {"store"} if operation.name == "responses" else set()
    assert {k: v for k, v in sent.items() if k not in added} == {
        k: v for k, v in exchange["body"].items() if k not in added
    }
    assert request.prompt()
    assert request.prompt_tokens() is not None
