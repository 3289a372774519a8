"""The request body: canonical, bounded, and untouched where it is not ours."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.operations import OPERATIONS
from gateway.api.refusals import CONTROL_FIELDS
from gateway.api.request import parse_request
from gateway.errors import BadRequestError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OURS = {
    *("model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "min_tokens"),
    *("logprobs", "top_logprobs", "prompt_logprobs", "max_output_tokens", "encoding_format"),
    *("n", "best_of", "messages", "vllm_xargs", "extra_body", "extra_args", "sampling_params"),
    *("nvext", "custom_params", *CONTROL_FIELDS),
}
fields = st.dictionaries(st.text().filter(lambda name: name not in OURS), json_values, max_size=5)


def parse(data, path="/v1/completions"):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return parse_request(OPERATIONS[path], raw)


def sent(request):
    return json.loads(msgspec.json.encode(request.body))


@given(rest=fields, escaped=st.booleans())
def test_fields_we_do_not_know_go_on_as_they_came(rest, escaped):
    body = {"model": "m", **rest}
    request = parse(json.dumps(body, ensure_ascii=escaped).encode())
    assert sent(request) == body


@given(data=st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data):
    with contextlib.suppress(BadRequestError):
        assert isinstance(parse(data).model, str)


@given(name=st.sampled_from(sorted(CONTROL_FIELDS)), value=json_values, rest=fields)
def test_control_fields_are_refused_whatever_they_hold(name, value, rest):
    with pytest.raises(BadRequestError) as caught:
        parse({**rest, "model": "m", name: value})
    assert caught.value.param == name
    with pytest.raises(BadRequestError):
        parse({"model": "m", "vllm_xargs": {"extra_args": {name: value}}})


def test_a_field_given_twice_goes_on_once_as_we_read_it():
    request = parse(b'{"model":"a","n":1,"model":"b"}')
    assert request.model == "b"
    assert msgspec.json.encode(request.body).count(b'"model"') == 1


@pytest.mark.parametrize(
    ("given_options", "sent_options", "wants"),
    [
        (None, {"include_usage": True}, False),
        ({}, {"include_usage": True}, False),
        ({"include_usage": True}, {"include_usage": True}, True),
        ({"include_usage": False, "x": [1]}, {"include_usage": True, "x": [1]}, False),
        ({"include_usage": None}, {"include_usage": True}, False),
    ],
)
def test_a_stream_always_asks_for_usage_and_remembers_if_the_client_did(
    given_options, sent_options, wants
):
    request = parse({"model": "m", "stream": True, "stream_options": given_options})
    assert sent(request)["stream_options"] == sent_options
    assert (request.stream, request.wants_usage) == (True, wants)


def test_without_a_stream_its_options_stay_as_they_came():
    assert "stream_options" not in sent(parse({"model": "m"}))


@given(ids=st.lists(st.integers(0, 100_000), max_size=50))
def test_the_length_of_token_ids_is_exact(ids):
    assert parse({"model": "m", "prompt": ids}).prompt_tokens() == len(ids)


def test_the_length_of_text_is_a_quarter_of_its_bytes():
    text = "é" * 200
    body = json.dumps({"model": "m", "prompt": text}, ensure_ascii=False).encode()
    assert parse(body).prompt_tokens() == (2 * 200 + 2) // 4
    assert parse({"model": "m"}).prompt_tokens() == 0


def test_deep_nesting_inside_containers_is_no_way_around():
    body = '{"model":"m","vllm_xargs":' + '{"vllm_xargs":' * 200 + '{"remote_host":1}' + "}" * 201
    with pytest.raises(BadRequestError):
        parse(body.encode())
