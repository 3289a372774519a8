"""What every history must satisfy: each request ends exactly once, in full or with an error.

The emulator's text is a function of the prompt, so "in full" means: exactly this text.
"""

import itertools
import json
from enum import StrEnum
from typing import NamedTuple

import msgspec
from fault_client import CHAT, Answer, Call
from fault_processes import PACE

from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.requests import read_chat, read_completion
from pipelines.engines.emulator.text import state_of, tokens

OPTIONS = Options(model="m", max_model_len=PACE["max-model-len"])


class End(StrEnum):
    OK = "ok"
    REFUSED = "refused"  # an HTTP error
    BROKEN = "broken"  # an error event in a stream


class Expected(NamedTuple):
    text: str
    finish: str
    usage: dict[str, int]


def expected(path, body) -> Expected:
    options = msgspec.structs.replace(OPTIONS, model=body["model"])
    ask = (read_chat if path == CHAT else read_completion)(json.dumps(body).encode(), options)
    state = state_of(options.seed, options.model, ask.text)
    made = tokens(state, starts_text=ask.starts_text, may_end=ask.may_end)
    words = [token.text for token in itertools.islice(made, ask.limit)]
    ended = len(words) < ask.limit  # the end is a token, too
    count = len(words) + ended
    usage = {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": count,
        "total_tokens": ask.prompt_tokens + count,
    }
    return Expected("".join(words), "stop" if ended else "length", usage)


def check(call: Call, answer: Answer) -> End:
    """How it ended. Fails if it ended in no way that a client may rely on."""
    assert answer.status, f"silence after {answer.seconds:.2f} s: {call.body}"
    assert answer.whole, f"cut without a word: {answer!r}"
    wanted = expected(call.path, call.body)
    if answer.status != 200:
        _check_error(answer.error)
        return End.REFUSED
    if not call.body.get("stream"):
        whole = json.loads(answer.body)
        (choice,) = whole["choices"]
        said = choice["message"]["content"] if call.path == CHAT else choice["text"]
        assert (said, choice["finish_reason"]) == (wanted.text, wanted.finish)
        _check_usage(whole["usage"], wanted)
        return End.OK
    return _check_stream(call, answer, wanted)


def _check_error(error) -> None:
    assert error["message"], error
    assert error["code"], error


def _check_stream(call: Call, answer: Answer, wanted: Expected) -> End:
    *events, last = answer.events
    assert "[DONE]" not in events, f"[DONE] before the end: {answer!r}"
    chunks = list(map(json.loads, events if last == "[DONE]" else [*events, last]))
    error = None if last == "[DONE]" else chunks.pop().get("error")
    assert not any("error" in chunk for chunk in chunks), f"an error and more: {answer!r}"
    assert len({chunk["id"] for chunk in chunks}) == 1, answer.events
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(map(_piece, choices))
    roles = sum("role" in choice.get("delta", ()) for choice in choices)
    assert roles == (call.path == CHAT), f"{roles} chunks name the role: {answer.events}"
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    if error is not None:
        _check_error(error)
        assert wanted.text.startswith(text), f"{text!r} is not of {wanted.text!r}"
        assert not finishes, f"finished, and then an error: {answer!r}"
        return End.BROKEN
    assert last == "[DONE]", f"a stream without its end: {answer!r}"
    assert text == wanted.text
    assert finishes == [wanted.finish], finishes
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if call.body.get("stream_options", {}).get("include_usage"):
        (usage,) = usages
        _check_usage(usage, wanted)
    else:
        assert not usages, usages
    return End.OK


def _piece(choice) -> str:
    return choice["delta"].get("content") or "" if "delta" in choice else choice["text"]


def _check_usage(usage, wanted: Expected) -> None:
    assert {name: usage[name] for name in wanted.usage} == wanted.usage
