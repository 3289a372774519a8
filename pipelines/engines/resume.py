"""Going on with an answer that another worker began: the request put so that it continues there.

The interface is vLLM's: a chat goes on behind a partial assistant message with
``continue_final_message`` and without a generation prompt, a completion behind its prompt and the
text so far; ``/tokenize`` counts a request's prompt as the engine itself would. SGLang takes the
same chat fields. Pure.
"""

from typing import Any

import msgspec

from pipelines.engines.base import Body
from registry.spec import EngineName

TOKENIZE_PATH = "/tokenize"
RESUMING_ENGINES = frozenset({EngineName.VLLM, EngineName.SGLANG, EngineName.EMULATOR})
TOKENIZING_ENGINES = frozenset({EngineName.VLLM, EngineName.EMULATOR})

_NO = (b"null", b"false", b"0", b"[]", b"{}", b'""')
_ONE = (b"null", b"1")
# Fields under which an answer is plain text, one token after the other, whatever they hold. One
# that is not here (tools, logprobs, a grammar, …) has a state of its own that text cannot carry.
_PLAIN = frozenset(
    {
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "frequency_penalty",
        "ignore_eos",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "min_tokens",
        "model",
        "presence_penalty",
        "priority",
        "prompt",
        "prompt_cache_key",
        "repetition_penalty",
        "safety_identifier",
        "seed",
        "service_tier",
        "skip_special_tokens",
        "stop",
        "stop_token_ids",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
        "user",
    }
)
_SINGLE = frozenset({"n", "best_of"})
_MAX_TOKENS = ("max_tokens", "max_completion_tokens")
_TOKENIZED = ("model", "messages", "prompt", "add_generation_prompt", "continue_final_message")
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_IDS = msgspec.json.Decoder(list[int])
_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])


class _Tokens(msgspec.Struct):
    tokens: list[int]


def can_resume(body: Body) -> bool:
    """Whether an answer to *body* is text of one sequence that can be gone on with."""
    for name, value in body.items():
        if name in _PLAIN:
            continue
        raw = bytes(value)
        if raw not in (_ONE if name in _SINGLE else _NO):
            return False
    return True


def tokenize_body(body: Body) -> Body:
    """The question how many tokens the prompt of *body* has."""
    asked = {name: body[name] for name in _TOKENIZED if name in body}
    if "chat_template_kwargs" in body:
        asked["chat_template_kwargs"] = body["chat_template_kwargs"]
    return asked


def text_tokens_body(body: Body, text: str) -> Body:
    """The question for the tokens of *text* alone, to be put behind a prompt of token ids."""
    return {
        "model": body["model"],
        "prompt": _raw(text),
        "add_special_tokens": _FALSE,
    }


def read_tokens(answer: bytes) -> tuple[int, ...] | None:
    """The token ids that the engine found; None if it says none."""
    try:
        return tuple(msgspec.json.decode(answer, type=_Tokens).tokens)
    except (msgspec.DecodeError, RecursionError):
        return None


def prompt_ids(body: Body) -> list[int] | None:
    """The prompt of *body*, if it came as token ids."""
    try:
        return _IDS.decode(body["prompt"]) if "prompt" in body else None
    except msgspec.DecodeError:
        return None


def continued(body: Body, text: str, text_ids: tuple[int, ...] = ()) -> Body | None:
    """*body* put so that its answer goes on behind *text*; None if there is no way to.

    *text_ids* are the text's tokens, needed where the prompt came as token ids.
    """
    if not text:
        return body
    if "messages" not in body:
        prompt = _prompt_with(body, text, text_ids)
        return None if prompt is None else {**body, "prompt": prompt}
    messages = _messages_with(body, text)
    if messages is None:
        return None
    return {
        **body,
        "messages": messages,
        "add_generation_prompt": _FALSE,
        "continue_final_message": _TRUE,
    }


def shortened(body: Body, said_tokens: int) -> Body | None:
    """*body* with its limits less what was said already; None if nothing may follow."""
    out = dict(body)
    for name in _MAX_TOKENS:
        allowed = _count(body, name)
        if allowed is not None:
            if allowed <= said_tokens:
                return None
            out[name] = _raw(allowed - said_tokens)
    least = _count(body, "min_tokens")
    if least:
        out["min_tokens"] = _raw(max(0, least - said_tokens))
    return out


def is_bounded(body: Body) -> bool:
    """Whether *body* limits the tokens of its answer."""
    return any(_count(body, name) is not None for name in (*_MAX_TOKENS, "min_tokens"))


def _count(body: Body, name: str) -> int | None:
    return msgspec.json.decode(body[name], type=int | None) if name in body else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _prompt_with(body: Body, text: str, text_ids: tuple[int, ...]) -> msgspec.Raw | None:
    ids = prompt_ids(body)
    if ids is not None:
        return _raw([*ids, *text_ids]) if text_ids else None
    try:
        return _raw(msgspec.json.decode(body["prompt"], type=str) + text)
    except (KeyError, msgspec.DecodeError):
        return None


def _messages_with(body: Body, text: str) -> msgspec.Raw | None:
    try:
        messages = _MESSAGES.decode(body["messages"])
        if bytes(body.get("continue_final_message", _FALSE)) == b"true" and messages:
            last = msgspec.json.decode(messages[-1], type=dict[str, Any])
            if not isinstance(last.get("content"), str):
                return None
            last["content"] += text
            messages[-1] = _raw(last)
        else:
            messages.append(_raw({"role": "assistant", "content": text}))
    except msgspec.DecodeError:
        return None
    return _raw(messages)
