"""Answers to every operation in the form that vLLM gives them, and workers that speak them.

`test_transcripts_dialects.py` holds these forms against what a real engine has answered.
"""

import base64
import json
import struct

from gateway_world import DONE, USAGE_EVENT, completion, event, token

WORDS = ("Paris", " is", " it.")
PROMPT_TOKENS, ANSWER_TOKENS = 7, 3
STREAMED = ("chat.completions", "completions", "responses", "messages")


def named(kind, data) -> bytes:
    """An event with a name, as Responses and Anthropic have them."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


# Responses.


def response(status="completed", words=WORDS, **more):
    text = "".join(words)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    item = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(words),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT_TOKENS + len(words),
    }
    begun = status == "in_progress"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": [] if begun else [item],
        "usage": None if begun else usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "incomplete_details": None,
        "kv_transfer_params": None,
        **more,
    }


def response_events(words=WORDS, *, end="response.completed"):
    """Numbered; without *end* it breaks off."""
    begun = response("in_progress")
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    bodies = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **where, "part": part},
        *(
            {"type": "response.output_text.delta", **where, "delta": word, "logprobs": []}
            for word in words
        ),
    ]
    if end:
        text = "".join(words)
        bodies += [
            {"type": "response.output_text.done", **where, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **where, "part": {**part, "text": text}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": end, "response": response(end.removeprefix("response."), words)},
        ]
    return [
        named(body["type"], {**body, "sequence_number": number})
        for number, body in enumerate(bodies)
    ]


# Anthropic's messages.


def message(words=WORDS, **more):
    return {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "".join(words)}],
        "model": "m",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": len(words)},
        **more,
    }


def message_events(words=WORDS, *, end=True):
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": 0}
    begun = message((), content=[], usage=usage, stop_reason=None, stop_sequence=None)
    bodies = [
        {"type": "message_start", "message": begun},
        {
            "index": 0,
            "type": "content_block_start",
            "content_block": {"type": "text", "text": ""},
        },
        *(
            {
                "index": 0,
                "type": "content_block_delta",
                "delta": {"type": "text_delta", "text": word},
            }
            for word in words
        ),
    ]
    if end:
        bodies += [
            {"index": 0, "type": "content_block_stop"},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": len(words)},
            },
            {"type": "message_stop"},
        ]
    return [named(body["type"], body) for body in bodies]


# OpenAI's.


def chat_events(words=WORDS, *, end=True, usage=True):
    def chunk(delta, finish_reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return event({**base, "choices": [choice]})

    out = [chunk({"role": "assistant", "content": ""})]
    out += [chunk({"content": word}) for word in words]
    if end:
        out += [chunk({}, "stop"), *([USAGE_EVENT] if usage else []), DONE]
    return out


def chat(body):
    """With as many answers, logprobs and tool calls as *body* asks for."""
    said = {"role": "assistant", "content": "".join(WORDS)}
    if body.get("tools"):
        call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city":"Paris"}'}
        said = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }
    if "response_format" in body or "structured_outputs" in body:
        said["content"] = '{"city":"Paris"}'
    logprobs = None
    if body.get("logprobs"):
        top = [{"token": "Paris", "logprob": -0.1, "bytes": None}]
        top *= body.get("top_logprobs") or 1
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
    ended = "tool_calls" if body.get("tools") else "stop"
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": index, "message": said, "finish_reason": ended, "logprobs": logprobs}
            for index in range(body.get("n") or 1)
        ],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
        },
    }


# Without tokens of an answer.

_POOLED = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}


def embeddings(body):
    numbers = (0.25, -0.5, 1.0)
    vector = list(numbers)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<3f", *numbers)).decode()
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    return {
        "id": "embd-1",
        "object": "list",
        "created": 1,
        "model": "m",
        "data": [
            {"index": index, "object": "embedding", "embedding": vector}
            for index in range(len(texts))
        ],
        "usage": {**_POOLED, "completion_tokens": 0, "prompt_tokens_details": None},
    }


def rerank(body):
    return {
        "id": "rerank-1",
        "model": "m",
        "usage": _POOLED,
        "results": [
            {
                "index": index,
                "document": {"text": text, "multi_modal": None},
                "relevance_score": 0.5,
            }
            for index, text in enumerate(body["documents"])
        ],
    }


def score(body):
    return {
        "id": "score-1",
        "object": "list",
        "created": 1,
        "model": "m",
        "data": [{"index": i, "object": "score", "score": 0.5} for i, _ in enumerate(body)],
        "usage": _POOLED,
    }


WHOLE = {
    "/v1/chat/completions": chat,
    "/v1/completions": lambda _: completion("".join(WORDS), PROMPT_TOKENS, ANSWER_TOKENS),
    "/v1/responses": lambda _: response(),
    "/v1/messages": lambda _: message(),
    "/v1/messages/count_tokens": lambda _: {
        "input_tokens": PROMPT_TOKENS,
        "context_management": {"original_input_tokens": PROMPT_TOKENS},
    },
    "/v1/embeddings": embeddings,
    "/v1/rerank": rerank,
    "/v1/score": score,
    "/tokenize": lambda _: {"count": 2, "max_model_len": 64, "tokens": [1, 2], "token_strs": None},
    "/detokenize": lambda _: {"prompt": "hi"},
}
EVENTS = {
    "/v1/chat/completions": chat_events,
    "/v1/completions": lambda words=WORDS: [*map(token, words), USAGE_EVENT, DONE],
    "/v1/responses": response_events,
    "/v1/messages": message_events,
}
# Enough of a body for each path.
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/v1/score": {"queries": "a", "documents": ["b", "c"]},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1, 2]},
}


async def speaks(call):
    """Answers any operation as an engine does, P/D protocol included."""
    if call.json.get("stream"):
        await call.begin_stream()
        for data in EVENTS[call.path]():
            await call.chunk(data)
        await call.end_stream()
        return
    answer = WHOLE[call.path](call.json)
    if (call.json.get("kv_transfer_params") or {}).get("do_remote_decode"):
        answer["kv_transfer_params"] = {"do_remote_prefill": True, "remote_engine_id": "e"}
    await call.answer(body=answer)


def breaks_off(*, after, how="cut"):
    """Streams *after* events and then fails: ``cut`` the connection, ``end`` it as if all had been
    said, or report an ``error`` in the dialect of the path.
    """

    async def behaviour(call):
        await call.begin_stream()
        for data in EVENTS[call.path]()[:after]:
            await call.chunk(data)
        if how == "error":
            report = {"type": "error", "error": {"type": "internal_error", "message": "secret"}}
            if call.path == "/v1/responses":
                report = {"type": "error", "code": "x", "message": "secret", "sequence_number": 9}
            await call.chunk(named("error", report))
        if how != "cut":
            await call.end_stream()
        call.writer.close()

    return behaviour
