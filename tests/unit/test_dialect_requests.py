"""What is read, refused and estimated of a request in each dialect."""

import json

import msgspec
import pytest
from dialects import BODIES

from gateway.api.operations import BY_NAME, OPERATIONS
from gateway.api.request import parse_request
from gateway.errors import BadRequestError

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PATHS = [operation.path for operation in BY_NAME.values()]
GENERATING = [operation.path for operation in BY_NAME.values() if operation.generates]


def parse(path, **fields):
    body = {"model": "m", **BODIES[path], **fields}
    return parse_request(OPERATIONS[path], json.dumps(body).encode())


def refused(path, **fields):
    with pytest.raises(BadRequestError) as caught:
        parse(path, **fields)
    assert len(caught.value.message) > 20
    return caught.value.param


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["kv_transfer_params", "bootstrap_room", "data_parallel_rank"])
def test_control_fields_are_refused_in_every_dialect(path, name):
    assert refused(path, **{name: 1}) == name
    assert refused(path, vllm_xargs={name: 1}) == name
    assert refused(path, sampling_params={"extra_args": {name: {}}}) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background", True),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("previous_response_id", "resp_1"),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_what_a_response_would_need_somebodys_memory_for_is_refused(name, value):
    assert refused(RESPONSES, **{name: value}) == name
    assert parse(RESPONSES, **{name: None})


def test_a_responses_own_off_values_pass_and_it_is_never_kept():
    request = parse(RESPONSES, background=False, store=True, previous_response_id=None)
    sent = json.loads(msgspec.json.encode(request.body))
    assert (sent["background"], sent["store"]) == (False, False)


@pytest.mark.parametrize(
    "kind",
    [
        "mcp",
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
    ],
)
def test_tools_that_a_server_would_run_are_refused(kind):
    tool = {"type": kind, "server_url": "http://10.0.0.1", "name": "x"}
    assert refused(RESPONSES, tools=[{"type": "function", "name": "f"}, tool]) == "tools"
    assert (
        refused(RESPONSES, tools=[{"type": "namespace", "name": "n", "tools": [tool]}]) == "tools"
    )
    assert refused(MESSAGES, tools=[{**tool, "type": f"{kind}_20250305"}]) == "tools"


@pytest.mark.parametrize("tools", [1, "x", [1], {"type": "function"}, [{"type": ["function"]}]])
def test_tools_that_are_no_list_of_tools_are_refused(tools):
    for path in (RESPONSES, MESSAGES):
        assert refused(path, tools=tools) == "tools"


def test_tools_that_the_client_runs_pass():
    function = {"type": "function", "name": "f", "parameters": {"x": {"image_url": "http://x"}}}
    namespace = {"type": "namespace", "name": "n", "tools": [function]}
    assert parse(RESPONSES, tools=[function, {"type": "custom", "name": "c"}, namespace])
    assert parse(RESPONSES, tools=[])
    assert parse(RESPONSES, tools=None)
    schema = {"name": "f", "input_schema": {"properties": {"image_url": {"type": "string"}}}}
    assert parse(MESSAGES, tools=[schema, {**schema, "type": "custom"}])
    assert parse(CHAT, tools=[{"type": "function", "function": {"name": "f"}}])


def test_mcp_servers_are_contacted_by_nobody():
    assert refused(MESSAGES, mcp_servers=[{"type": "url", "url": "http://x"}]) == "mcp_servers"
    assert parse(MESSAGES, mcp_servers=[])


# Media.

URL = "http://169.254.169.254/latest"
PARTS = [
    (CHAT, "messages", [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]),
    (
        MESSAGES,
        "messages",
        [{"content": [{"type": "image", "source": {"type": "url", "url": URL}}]}],
    ),
    (
        MESSAGES,
        "messages",
        [
            {
                "content": [
                    {
                        "type": "tool_result",
                        "content": [{"type": "image", "source": {"type": "url", "url": URL}}],
                    }
                ]
            }
        ],
    ),
    (MESSAGES, "system", [{"type": "document", "source": {"type": "url", "url": URL}}]),
    (
        "/v1/messages/count_tokens",
        "messages",
        [{"content": [{"source": {"type": "url", "url": URL}}]}],
    ),
    (RESPONSES, "input", [{"content": [{"type": "input_image", "image_url": URL}]}]),
    (RESPONSES, "input", [{"content": [{"type": "input_file", "file_url": URL}]}]),
    (RESPONSES, "input", [{"type": "function_call_output", "output": [{"image_url": URL}]}]),
    (RESPONSES, "previous_input_messages", [{"content": [{"image_url": URL}]}]),
    ("/v1/embeddings", "input", [{"role": "user", "content": [{"image_url": {"url": URL}}]}]),
    ("/v1/embeddings", "messages", [{"content": [{"video_url": {"url": URL}}]}]),
    ("/v1/embeddings", "input", [{"text": "x"}, {"image": URL}]),
    ("/v1/embeddings", "input", [{"text": "x", "video": URL}]),
    ("/v1/rerank", "documents", ["x", {"image": URL}]),
    ("/v1/rerank", "documents", {"content": [{"image_url": {"url": URL}}]}),
    ("/v1/rerank", "query", {"content": [{"image_url": URL}]}),
    ("/v1/score", "queries", {"content": [{"image_url": URL}]}),
    ("/v1/score", "data_2", {"content": [{"image_url": URL}]}),
    ("/tokenize", "messages", [{"content": [{"image_url": {"url": URL}}]}]),
]


@pytest.mark.parametrize(("path", "field", "value"), PARTS)
def test_media_that_somebody_would_have_to_fetch_are_refused(path, field, value):
    assert refused(path, **{field: value}) == field
    hidden = json.dumps({"model": "m", **BODIES[path], field: value})
    for name in ("image_url", "image", "source", "url"):
        hidden = hidden.replace(f'"{name}"', '"' + f"\\u{ord(name[0]):04x}" + name[1:] + '"')
    with pytest.raises(BadRequestError):
        parse_request(OPERATIONS[path], hidden.encode())
    inline = json.loads(json.dumps(value).replace(URL, "data:image/png;base64,AA=="))
    assert parse(path, **{field: inline})


@pytest.mark.parametrize("part", [{"image_url": None}, {"type": "video_url"}])
def test_media_that_workers_would_share_by_a_name_are_refused(part):
    assert refused(CHAT, messages=[{"content": [{**part, "uuid": "a"}]}]) == "messages"
    assert parse(CHAT, messages=[{"content": [{"type": "text", "text": "a", "uuid": "a"}]}])


def test_what_a_model_called_a_tool_with_is_no_media():
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"image_url": URL, "url": URL}}
    assert parse(MESSAGES, messages=[{"role": "assistant", "content": [call]}])
    image = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    assert parse(MESSAGES, messages=[{"content": [{"type": "image", "source": image}]}])


@pytest.mark.parametrize("place", ["/srv/private.png", "file:///srv/private.png", "private.png"])
def test_a_file_where_the_engine_runs_is_no_data(place):
    assert refused("/v1/embeddings", input=[{"text": "x"}, {"image": place}]) == "input"
    assert parse("/v1/embeddings", input=["image", "/srv/private.png"])


# Bounds.


@pytest.mark.parametrize("path", [path for path in PATHS if not OPERATIONS[path].streams])
def test_what_does_not_stream_says_so(path):
    assert refused(path, stream=True) == "stream"
    assert not parse(path, stream=False).stream


@pytest.mark.parametrize("encoding", ["bytes", "bytes_only", 1, ["float"]])
def test_an_embedding_is_json(encoding):
    assert refused("/v1/embeddings", encoding_format=encoding) == "encoding_format"
    for good in ("float", "base64", None):
        assert parse("/v1/embeddings", encoding_format=good)


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("n", 129, 128),
        ("best_of", 0, 2),
        ("top_logprobs", 1025, 20),
        ("logprobs", -1, 5),
        ("logprobs", 2**40, True),
        ("prompt_logprobs", -1, 0),
        ("max_output_tokens", 0, 1),
        ("max_tokens", -5, 1),
    ],
)
@pytest.mark.parametrize("path", GENERATING)
def test_numbers_are_bounded(path, name, bad, good):
    assert refused(path, **{name: bad}) == name
    assert parse(path, **{name: good})


def test_what_generates_nothing_may_have_fields_of_these_names():
    assert parse("/v1/embeddings", max_tokens=0, n="x")
    assert parse("/v1/rerank", logprobs="x")


# Estimates.


@pytest.mark.parametrize(
    ("path", "fields", "tokens"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 7}, 7),
        (CHAT, {"max_tokens": 7, "max_completion_tokens": 5, "n": 3}, 15),
        (COMPLETIONS, {}, 16),
        (COMPLETIONS, {"max_tokens": 7, "best_of": 2}, 14),
        (COMPLETIONS, {"max_tokens": None, "n": 2}, 32),
        (RESPONSES, {}, None),
        (RESPONSES, {"max_output_tokens": 9, "max_tokens": 3}, 9),
        (MESSAGES, {"max_tokens": 9}, 9),
        ("/v1/embeddings", {}, 0),
        ("/v1/messages/count_tokens", {}, 0),
        ("/tokenize", {}, 0),
    ],
)
def test_how_many_tokens_may_come_back(path, fields, tokens):
    assert parse(path, **fields).answer_tokens_max() == tokens


@pytest.mark.parametrize(
    ("path", "fields", "tokens"),
    [
        (COMPLETIONS, {"prompt": [1, 2, 3]}, 3),
        (COMPLETIONS, {"prompt": ["a", "b"]}, None),
        (COMPLETIONS, {"prompt": "x" * 38}, 10),
        (CHAT, {"messages": "x" * 38, "tools": [["y" * 36]]}, 20),
        (RESPONSES, {"input": "x" * 38, "instructions": "y" * 38}, 20),
        (MESSAGES, {"messages": "x" * 38, "system": "y" * 38}, 20),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 3),
        ("/v1/embeddings", {"input": ["x" * 36, "y" * 35]}, 19),
        ("/v1/rerank", {"query": "x" * 38, "documents": ["y" * 36]}, 20),
        ("/v1/score", {"queries": "x" * 38, "documents": "y" * 38}, 20),
        ("/detokenize", {"tokens": [1, 2, 3, 4]}, 4),
    ],
)
def test_how_long_a_prompt_is(path, fields, tokens):
    body = json.dumps({"model": "m", **fields}, separators=(",", ":")).encode()
    request = parse_request(OPERATIONS[path], body)
    assert request.prompt_tokens() == tokens
    for value in fields.values():
        assert msgspec.json.encode(value) in request.prompt()


def test_a_conversation_is_known_by_what_each_dialect_calls_it():
    assert parse(MESSAGES, metadata={"user_id": "u"}).session() == "u"
    assert parse(RESPONSES, prompt_cache_key="k", user="u").session() == "k"
    for nothing in ({}, {"user_id": 1}, None, "x", {"user_id": None}):
        assert parse(MESSAGES, metadata=nothing).session() == ""
    assert parse(RESPONSES, metadata={"user_id": "u"}).session() == ""


def test_a_prompt_begins_with_what_a_template_puts_first():
    request = parse(MESSAGES, system="s", tools=[{"name": "f"}], messages=[1])
    assert request.prompt() == b'[{"name": "f"}]"s"[1]'
