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
NAMES = ("clients", "pair_clients", "pooling", "unified", "pair")
EXCHANGES = [
    {**exchange, "name": f"{name}: {exchange['name']}"}
    for name in NAMES
    for exchange in json.loads((HERE / f"{name}.json").read_text())["exchanges"]
    if exchange["path"] in OPERATIONS
]


# A pair's decode worker that is sent to an address where nobody is.
DEAD = "from a dead address"


def those(wanted, *, dead=False):
    found = [e for e in EXCHANGES if wanted(e["response"]) and (DEAD in e["name"]) is dead]
    assert found
    return pytest.mark.parametrize("exchange", found, ids=lambda e: e["name"])


def wire(events):
    """As they came, or as the recorder took them apart."""
    for event in events:
        if isinstance(event, str) and event != "[DONE]":
            yield event.encode() + b"\n\n"
        else:
            data = event if event == "[DONE]" else json.dumps(event, separators=(",", ":"))
            yield f"data: {data}\n\n".encode()


def is_named(response):
    return "events" in response and str(response["events"][0]).startswith("event: ")


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
    alike = ({"chat.completions", "completions"}, {"embeddings", "score"})
    name = OPERATIONS[exchange["path"]].name
    same = {name}.union(*(group for group in alike if name in group))
    body = json.dumps(exchange["response"]["body"]).encode()
    for operation in OPERATIONS.values():
        if operation.name not in same:
            with pytest.raises(BadAnswerError):
                read_answer(body, operation)


@those(lambda response: "events" in response)
def test_a_stream_is_read_to_its_end_and_its_usage(exchange):
    operation = OPERATIONS[exchange["path"]]
    events = list(wire(exchange["response"]["events"]))
    relay = Relay(EVENTS[operation.name], usage_wanted=True)
    assert b"".join(relay.feed(event) for event in events) == b"".join(events)
    assert (relay.done, relay.failed) == (True, False)
    assert relay.events == len(events) - 1
    if operation.resumes and not (exchange["body"].get("stream_options") or {}):
        assert relay.usage.prompt_tokens == 0
        return
    assert relay.usage.prompt_tokens > 2
    assert relay.usage.completion_tokens > 0


@those(is_named)
def test_the_fakes_streams_have_the_same_events(exchange):
    fakes = [event.decode() for event in FAKE_EVENTS[exchange["path"]]()]
    said = kinds(exchange["response"]["events"])
    if "tool" in exchange["name"] or "stop" in exchange["name"]:
        assert said[0] == kinds(fakes)[0]
        assert said[-1] == kinds(fakes)[-1]
    else:
        assert said == kinds(fakes)


@those(is_named)
def test_no_more_comes_before_the_first_token_than_the_form_says(exchange):
    form = EVENTS[OPERATIONS[exchange["path"]].name]
    events = exchange["response"]["events"]
    first = next(number for number, event in enumerate(events) if "delta\n" in event)
    assert form.early < first <= form.framing  # a tool's call has no part to open


@those(lambda response: "events" in response, dead=True)
def test_a_pairs_stream_whose_kv_did_not_come_has_no_end_and_has_told_nothing(exchange):
    form = EVENTS[OPERATIONS[exchange["path"]].name]
    relay = Relay(form, usage_wanted=True)
    for event in wire(exchange["response"]["events"]):
        relay.feed(event)
    assert not relay.done
    assert relay.events <= form.early


@those(lambda response: response["status"] == 200 and "body" in response)
def test_the_fakes_whole_answers_have_no_field_of_their_own(exchange):
    if "tool" in exchange["name"]:
        return
    fake = WHOLE[OPERATIONS[exchange["path"]].path](exchange["body"])
    assert fake.keys() <= exchange["response"]["body"].keys()


@those(lambda response: response["status"] >= 400 and response["status"] != 401)
def test_an_error_is_read_in_whatever_form_it_is_told(exchange):
    body = exchange["response"]["body"]
    error = worker_error(json.dumps(body).encode())
    assert error is not None
    assert error.message in (body.get("detail"), body.get("error", {}).get("message"))


@those(lambda response: response["status"] == 200)
def test_what_was_asked_passes_the_gateway_with_every_field(exchange):
    operation, body = OPERATIONS[exchange["path"]], exchange["body"]
    ours = {"kv_transfer_params", "stream_options"}
    if operation.name == "responses":
        ours.add("store")
    given = {name: value for name, value in body.items() if name not in ours}
    request = parse_request(operation, json.dumps(given).encode())
    sent = json.loads(msgspec.json.encode(request.body))
    assert {name: value for name, value in sent.items() if name not in ours} == given
    assert request.prompt()
    assert request.prompt_tokens() is not None
