"""Going on with an answer that another worker began: the request put so that it continues there.

The interface is vLLM's: a chat goes on behind a partial assistant message with
``continue_final_message`` and without a generation prompt, a completion behind its prompt and the
text so far; ``/tokenize`` counts a request's prompt as the engine itself would. Which engines have
it, and in how far, their adapters say (`base.Resuming`). Pure.
"""

from typing import Any

import msgspec

from pipelines.engines.base import Body

TOKENIZE_PATH = "/tokenize"
# The fields of a request on which its prompt's tokens depend.
TOKENIZED = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template_kwargs",
    }
)

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
# Of a chat's two, the first that is given counts.
_CHAT_LIMITS = ("max_completion_tokens", "max_tokens")
# What /v1/completions takes where no limit is given. A chat goes on until its context is full.
_DEFAULT_COMPLETION_TOKENS = 16
_TEXT_FORMAT = b'{"type":"text"}'
_Ids = tuple[int, ...]
_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_IDS = msgspec.json.Decoder(list[int])
_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])


class _Tokens(msgspec.Struct):
    tokens: list[int]


def can_resume(body: Body) -> bool:
    """Whether an answer to *body* is text of one sequence that can be gone on with."""
    return all(name in _PLAIN or _is_off(name, bytes(value)) for name, value in body.items())


def tokenize_body(body: Body, tokenized: frozenset[str]) -> Body:
    """The question how many tokens the prompt of *body* has, of the fields that the engine asks."""
    return {name: value for name, value in body.items() if name in tokenized}


def text_tokens_body(body: Body, text: str) -> Body:
    """The question for the tokens of *text* alone."""
    return {"model": body["model"], "prompt": _raw(text), "add_special_tokens": _FALSE}


def read_tokens(answer: bytes) -> tuple[int, ...] | None:
    """The token ids that the engine found; None if it says none."""
    try:
        return tuple(msgspec.json.decode(answer, type=_Tokens).tokens)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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


def continues_own(body: Body) -> bool:
    """Whether the client itself asks to go on with the last message."""
    return bytes(body.get("continue_final_message", _FALSE)) == b"true"


def is_behind(longer: _Ids, prompt: _Ids, text_tokens: int, *, missing: int = 0) -> bool:
    """Whether *longer*, a chat's prompt put to go on with a text of *text_tokens*, is *prompt* and
    that text, as far as tokens tell. At most *missing* of them are known not to be there.

    A chat template may do otherwise: leave out or add a block of reasoning, for example. Where
    prompt and text meet, two tokens may become one.
    """
    meets = max(0, len(prompt) - 1)
    added = len(longer) - len(prompt) - text_tokens
    return longer[:meets] == prompt[:meets] and -1 - missing <= added <= 1


def shortened(body: Body, said_tokens: int) -> Body | None:
    """*body* with its limits less what was said already; None if nothing may follow."""
    out = dict(body)
    limits = [(name, limit) for name in _limit_names(body) if (limit := _count(body, name))]
    if not limits and "messages" not in body:
        limits = [("max_tokens", _DEFAULT_COMPLETION_TOKENS)]
    if limits and limits[0][1] <= said_tokens:
        return None
    for name, limit in limits:
        out[name] = _raw(max(1, limit - said_tokens))
    least = _count(body, "min_tokens")
    if least:
        out["min_tokens"] = _raw(max(0, least - said_tokens))
    return out


def _limit_names(body: Body) -> tuple[str, ...]:
    return _CHAT_LIMITS if "messages" in body else ("max_tokens",)


def _is_off(name: str, raw: bytes) -> bool:
    """Whether a field that is not plain says nothing but what holds without it."""
    if name == "response_format" and raw.replace(b" ", b"") == _TEXT_FORMAT:
        return True
    return raw in (_ONE if name in _SINGLE else _NO)


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
        if continues_own(body) and messages:
            last = msgspec.json.decode(messages[-1], type=dict[str, Any])
            if not isinstance(last.get("content"), str):
                return None
            last["content"] += text
            messages[-1] = _raw(last)
        elif bytes(body.get("add_generation_prompt", _TRUE)) == b"false":
            return None  # the answer began in the middle of whatever the last message was
        else:
            messages.append(_raw({"role": "assistant", "content": text}))
    except (KeyError, msgspec.DecodeError, RecursionError):
        return None
    return _raw(messages)
