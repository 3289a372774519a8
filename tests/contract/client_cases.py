"""What is recorded of the routes that clients other than chat and completions use.

CLIENTS are asked of one worker, POOLING of a model that embeds, PAIR_CLIENTS of prefill and decode.
"""

from typing import Any

Case = dict[str, Any]

MODEL = "smollm2"
EMBEDDER = "minilm"
QUESTION = "What is the capital of France?"
STORY = "The capital of France is Paris, and the capital of Italy is Rome. " * 8
NO_KV = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
# One possible value, so that any model that is held to the schema says it.
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {
    "name": "get_weather",
    "description": "The weather.",
    "parameters": CITY,
    "strict": True,
}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
RESPONSES_TOOLS = [{"type": "function", **FUNCTION}]
MESSAGES_TOOLS = [
    {"name": "get_weather", "description": "The weather.", "input_schema": CITY, "strict": True}
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def case(name: str, path: str, body: Any = None, **more: Any) -> Case:
    """*to* is unified, prefill or decode; *auth* good, wrong or none; *kv_of* names the exchange
    whose kv_transfer_params the request takes, changed by *kv_change*."""
    method = "GET" if body is None and "text" not in more else "POST"
    return {"name": name, "to": "unified", "method": method, "path": path, "body": body, **more}


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def chat(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": MODEL, "messages": messages, "max_tokens": 6, "temperature": 0, **more}


def completion(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": STORY, "max_tokens": 6, "temperature": 0, **more}


def responses(**more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "input": QUESTION,
        "max_output_tokens": 6,
        "temperature": 0,
        **more,
    }


def messages(**more: Any) -> dict[str, Any]:
    given = [{"role": "user", "content": QUESTION}]
    return {"model": MODEL, "messages": given, "max_tokens": 6, "temperature": 0, **more}


SCHEMA = {"name": "city", "schema": CITY, "strict": True}
_CHAT = "/v1/chat/completions"
_COMPLETIONS = "/v1/completions"
_RESPONSES = "/v1/responses"
_MESSAGES = "/v1/messages"
_COUNT = "/v1/messages/count_tokens"
_CHATS: list[Case] = [
    case("chat with logprobs", _CHAT, chat(logprobs=True, top_logprobs=2)),
    case("chat with logprobs, streamed", _CHAT, chat(logprobs=True, top_logprobs=2, stream=True)),
    case("chat with n", _CHAT, chat(n=2, max_tokens=3, temperature=1, seed=1)),
    case(
        "chat with n, streamed", _CHAT, chat(n=2, max_tokens=1, temperature=1, seed=1, stream=True)
    ),
    case("chat with a named tool", _CHAT, chat(tools=CHAT_TOOLS, tool_choice=NAMED, max_tokens=90)),
    case(
        "chat with a named tool, streamed",
        _CHAT,
        chat(tools=CHAT_TOOLS, tool_choice=NAMED, max_tokens=90, stream=True),
    ),
    case(
        "chat with a required tool",
        _CHAT,
        chat(tools=CHAT_TOOLS, tool_choice="required", max_tokens=90),
    ),
    case(
        "chat with a required tool, streamed",
        _CHAT,
        chat(tools=CHAT_TOOLS, tool_choice="required", max_tokens=90, stream=True),
    ),
    case("chat with tools it need not use", _CHAT, chat(tools=CHAT_TOOLS, tool_choice="none")),
    case(
        "chat held to a schema",
        _CHAT,
        chat(max_tokens=90, response_format={"type": "json_schema", "json_schema": SCHEMA}),
    ),
    case("completion with logprobs", _COMPLETIONS, completion(logprobs=2, max_tokens=2)),
    case(
        "completion with logprobs, streamed",
        _COMPLETIONS,
        completion(logprobs=2, max_tokens=2, stream=True),
    ),
    case("completion with n", _COMPLETIONS, completion(n=2, max_tokens=3, temperature=1, seed=1)),
    case("detokenize", "/detokenize", {"model": MODEL, "tokens": [504, 3575]}),
    case("error: embeddings of a chat model", "/v1/embeddings", {"model": MODEL, "input": "a"}),
    case("error: rerank by a chat model", "/v1/rerank", {"model": MODEL, "query": "a"}),
    case("error: a named tool that is none", _CHAT, chat(tool_choice=NAMED)),
]
_OF_RESPONSES: list[Case] = [
    case("responses", _RESPONSES, responses()),
    case(
        "responses of messages",
        _RESPONSES,
        responses(
            instructions="You answer in one short sentence.",
            input=[
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
            ],
        ),
    ),
    case("responses streamed", _RESPONSES, responses(stream=True)),
    case(
        "responses with a named tool",
        _RESPONSES,
        responses(
            tools=RESPONSES_TOOLS,
            tool_choice={"type": "function", "name": "get_weather"},
            max_output_tokens=90,
        ),
    ),
    case(
        "responses with a required tool",
        _RESPONSES,
        responses(tools=RESPONSES_TOOLS, tool_choice="required", max_output_tokens=90),
    ),
    case(
        "responses with a required tool, streamed",
        _RESPONSES,
        responses(tools=RESPONSES_TOOLS, tool_choice="required", max_output_tokens=90, stream=True),
    ),
    case(
        "responses held to a schema",
        _RESPONSES,
        responses(max_output_tokens=90, text={"format": {"type": "json_schema", **SCHEMA}}),
    ),
    case("error: responses, no input", _RESPONSES, without(responses(), "input")),
    case("error: responses, unknown model", _RESPONSES, responses(model="nope")),
    case(
        "error: responses, unknown model, streamed",
        _RESPONSES,
        responses(model="nope", stream=True),
    ),
    case("error: responses, an earlier one", _RESPONSES, responses(previous_response_id="resp_1")),
    case("error: responses over the context", _RESPONSES, responses(input="word " * 4000)),
]
_OF_MESSAGES: list[Case] = [
    case("messages", _MESSAGES, messages()),
    case(
        "messages of blocks, with a system",
        _MESSAGES,
        messages(
            system="You answer in one short sentence.",
            messages=[
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
            ],
        ),
    ),
    case("messages streamed", _MESSAGES, messages(stream=True)),
    case("messages with a stop", _MESSAGES, messages(max_tokens=40, stop_sequences=[" "])),
    case(
        "messages with a stop, streamed",
        _MESSAGES,
        messages(max_tokens=40, stop_sequences=[" "], stream=True),
    ),
    case(
        "messages with a named tool",
        _MESSAGES,
        messages(
            tools=MESSAGES_TOOLS,
            tool_choice={"type": "tool", "name": "get_weather"},
            max_tokens=90,
        ),
    ),
    case(
        "messages with any tool",
        _MESSAGES,
        messages(tools=MESSAGES_TOOLS, tool_choice={"type": "any"}, max_tokens=90),
    ),
    case(
        "messages with any tool, streamed",
        _MESSAGES,
        messages(tools=MESSAGES_TOOLS, tool_choice={"type": "any"}, max_tokens=90, stream=True),
    ),
    case("count tokens", _COUNT, without(messages(), "max_tokens", "temperature")),
    case("error: messages, none", _MESSAGES, without(messages(), "messages")),
    case("error: messages, no max_tokens", _MESSAGES, without(messages(), "max_tokens")),
    case("error: messages, unknown model", _MESSAGES, messages(model="nope")),
    case(
        "error: messages, unknown model, streamed", _MESSAGES, messages(model="nope", stream=True)
    ),
    case("error: messages over the context", _MESSAGES, messages(max_tokens=9000)),
    case("error: count tokens, unknown model", _COUNT, {"model": "nope", "messages": []}),
]
CLIENTS: list[Case] = [*_CHATS, *_OF_RESPONSES, *_OF_MESSAGES]


def embeddings(**more: Any) -> dict[str, Any]:
    return {"model": EMBEDDER, "input": "a cat", **more}


def rerank(**more: Any) -> dict[str, Any]:
    documents = ["a tax form", "a kitten", "a cat on a mat"]
    return {"model": EMBEDDER, "query": "a cat", "documents": documents, **more}


def score(**more: Any) -> dict[str, Any]:
    return {"model": EMBEDDER, "text_1": "a cat", "text_2": ["a tax form", "a kitten"], **more}


_EMBEDDINGS = "/v1/embeddings"
_SCORE = "/v1/score"
POOLING: list[Case] = [
    case("models", "/v1/models"),
    case("embedding", _EMBEDDINGS, embeddings()),
    case("embeddings of a list", _EMBEDDINGS, embeddings(input=["a cat", "a kitten"])),
    case("embedding in base64", _EMBEDDINGS, embeddings(encoding_format="base64")),
    case("embedding of token ids", _EMBEDDINGS, embeddings(input=[101, 1037, 4937, 102])),
    case(
        "embeddings of lists of token ids",
        _EMBEDDINGS,
        embeddings(input=[[101, 1037, 4937, 102], [101, 102]]),
    ),
    case("rerank", "/v1/rerank", rerank()),
    case("rerank, Cohere's path", "/v2/rerank", rerank()),
    case("rerank, Jina's path, the best", "/rerank", rerank(top_n=1)),
    case("score", _SCORE, score()),
    case("score, the other path", "/score", score(text_2="a kitten")),
    case("score by pairs", _SCORE, score(text_1=["a cat", "a form"])),
    case("score of queries", _SCORE, {"model": EMBEDDER, "queries": "a", "documents": ["b"]}),
    case("tokenize", "/tokenize", {"model": EMBEDDER, "prompt": "a cat"}),
    case("detokenize", "/detokenize", {"model": EMBEDDER, "tokens": [1037, 4937]}),
    case("error: no input", _EMBEDDINGS, without(embeddings(), "input")),
    case("error: unknown model", _EMBEDDINGS, embeddings(model="nope")),
    case("error: input over the context", _EMBEDDINGS, embeddings(input="cat " * 3000)),
    case("error: dimensions", _EMBEDDINGS, embeddings(dimensions=8)),
    case("error: an unknown encoding", _EMBEDDINGS, embeddings(encoding_format="hex")),
    case("error: rerank, no documents", "/v1/rerank", without(rerank(), "documents")),
    case("error: rerank, unknown model", "/v1/rerank", rerank(model="nope")),
    case("error: score, lists that do not pair", _SCORE, score(text_1=["a", "b", "c"])),
    case("error: score, unknown model", _SCORE, score(model="nope")),
    case("error: chat with an embedder", _CHAT, chat(model=EMBEDDER)),
    case("error: completion of an embedder", _COMPLETIONS, completion(model=EMBEDDER)),
    case("error: responses of an embedder", _RESPONSES, responses(model=EMBEDDER)),
    case("error: messages to an embedder", _MESSAGES, messages(model=EMBEDDER)),
]

_LONG_RESPONSES = responses(input=STORY + QUESTION)
_LONG_MESSAGES = messages(messages=[{"role": "user", "content": STORY + QUESTION}])
PAIR_CLIENTS: list[Case] = [
    case("decode metrics before", "/metrics", to="decode", auth="none"),
    case("responses alone", _RESPONSES, _LONG_RESPONSES, to="prefill"),
    case(
        "prefill for responses",
        _RESPONSES,
        {**_LONG_RESPONSES, "max_output_tokens": 1, "stream": False, "kv_transfer_params": NO_KV},
        to="prefill",
    ),
    case(
        "decode responses", _RESPONSES, _LONG_RESPONSES, to="decode", kv_of="prefill for responses"
    ),
    case(
        "prefill for responses, streamed",
        _RESPONSES,
        {**_LONG_RESPONSES, "max_output_tokens": 1, "stream": False, "kv_transfer_params": NO_KV},
        to="prefill",
    ),
    case(
        "decode responses, streamed",
        _RESPONSES,
        {**_LONG_RESPONSES, "stream": True},
        to="decode",
        kv_of="prefill for responses, streamed",
    ),
    case("messages alone", _MESSAGES, _LONG_MESSAGES, to="prefill"),
    case(
        "prefill for messages",
        _MESSAGES,
        {**_LONG_MESSAGES, "max_tokens": 1, "stream": False, "kv_transfer_params": NO_KV},
        to="prefill",
    ),
    case("decode messages", _MESSAGES, _LONG_MESSAGES, to="decode", kv_of="prefill for messages"),
    case(
        "prefill for messages, streamed",
        _MESSAGES,
        {**_LONG_MESSAGES, "max_tokens": 1, "stream": False, "kv_transfer_params": NO_KV},
        to="prefill",
    ),
    case(
        "decode messages, streamed",
        _MESSAGES,
        {**_LONG_MESSAGES, "stream": True},
        to="decode",
        kv_of="prefill for messages, streamed",
    ),
    case("decode metrics after", "/metrics", to="decode", auth="none"),
    case(
        "prefill for responses, dead",
        _RESPONSES,
        {**_LONG_RESPONSES, "max_output_tokens": 1, "stream": False, "kv_transfer_params": NO_KV},
        to="prefill",
    ),
    *(
        case(
            f"decode {kind} from a dead address{', streamed' if stream else ''}",
            path,
            {**body, "stream": stream},
            to="decode",
            kv_of="prefill for responses, dead",
            kv_change={
                "remote_port": 1,
                "remote_engine_id": f"{number}" * 8 + "-1111-1111-1111-111111111111",
            },
        )
        for number, (kind, path, body, stream) in enumerate(
            [
                ("responses", _RESPONSES, _LONG_RESPONSES, False),
                ("responses", _RESPONSES, _LONG_RESPONSES, True),
                ("messages", _MESSAGES, _LONG_MESSAGES, False),
                ("messages", _MESSAGES, _LONG_MESSAGES, True),
            ],
            start=1,
        )
    ),
]
