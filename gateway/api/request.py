"""A client's request body: parsed once, checked where the gateway acts on it, else untouched.

The top level becomes a dict whose values stay as they came. What goes to a worker is encoded from
that dict, never the client's own bytes: so a key that comes twice cannot mean one thing here and
another thing there.
"""

from typing import Annotated, Any

import msgspec

from gateway.api.media import check_media
from gateway.errors import BadRequestError
from pipelines.engines.base import Body

ANSWERS_PER_REQUEST_MAX = 128
_TOKENS_MAX = 2**31 - 1
# A token of English text has about four bytes; the estimate only decides whether to bypass.
_BYTES_PER_TOKEN = 4

# They tell an engine whom to contact or where to run: for the gateway to set, never for a client.
CONTROL_FIELDS = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "bootstrap_host",
        "bootstrap_pair_key",
        "bootstrap_port",
        "bootstrap_room",
        "custom_llm_provider",
        "data_parallel_rank",
        "data_parallel_rank_decode",
        "disagg_prefill_dp_rank",
        "do_remote_decode",
        "do_remote_prefill",
        "ec_transfer_params",
        "kv_transfer_params",
        "remote_block_ids",
        "remote_engine_id",
        "remote_host",
        "remote_port",
        "routed_dp_rank",
    }
)
# Engines merge these into the request itself.
_CONTAINERS = (
    "custom_params",
    "extra_args",
    "extra_body",
    "nvext",
    "sampling_params",
    "vllm_xargs",
)

_Count = Annotated[int, msgspec.Meta(ge=1, le=_TOKENS_MAX)]
_Answers = Annotated[int, msgspec.Meta(ge=1, le=ANSWERS_PER_REQUEST_MAX)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_BODY: msgspec.json.Decoder[Body] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT: msgspec.json.Decoder[Body] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FIELDS = {
    "model": _decoder(Annotated[str, msgspec.Meta(min_length=1)]),
    "stream": _decoder(bool | None),
    "stream_options": _decoder(_StreamOptions | None),
    "max_tokens": _decoder(_Count | None),
    "max_completion_tokens": _decoder(_Count | None),
    "min_tokens": _decoder(Annotated[int, msgspec.Meta(ge=0, le=_TOKENS_MAX)] | None),
    "n": _decoder(_Answers | None),
    "best_of": _decoder(_Answers | None),
}
# With one of these set, an engine answers in more than one sequence or reads the prompt again on
# decode; the P/D protocol carries one prompt and one answer.
_SEVERAL = ("best_of", "echo", "n", "prompt_logprobs", "use_beam_search")
# The body's own words for who talks: the first that is given.
_SESSIONS = ("prompt_cache_key", "user")
_SESSION_BYTES_MAX = 256
_ONE = frozenset({b"1", b"null", b"false"})
_TOKEN_IDS = msgspec.json.Decoder(list[int])
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """*body* is what a worker gets; a streamed one always asks for usage, and *wants_usage* says
    whether the client did too.
    """

    path: str
    body: Body
    model: str
    stream: bool
    wants_usage: bool

    def prompt(self) -> bytes:
        """The raw JSON of what is to be answered."""
        return bytes(self.body.get("messages") or self.body.get("prompt") or b"")

    def session(self) -> str:
        """What the client calls its conversation, by the fields that OpenAI has for it."""
        for name in _SESSIONS:
            raw = self.body.get(name)
            if raw is not None and bytes(raw).startswith(b'"'):
                return bytes(raw)[1 : _SESSION_BYTES_MAX + 1].decode(errors="replace")
        return ""

    def fits_pair(self, bypass_tokens: int) -> bool:
        """Whether prefill and decode apart can serve it, and its prompt is long enough for it."""
        if any(bytes(self.body[name]) not in _ONE for name in _SEVERAL if name in self.body):
            return False
        tokens = self.prompt_tokens()
        return tokens is not None and (not bypass_tokens or tokens >= bypass_tokens)

    def prompt_tokens(self) -> int | None:
        """How long the prompt is: exact for token ids, else an estimate, a quarter of its UTF-8
        bytes as JSON. None for several prompts in one request.
        """
        prompt = self.body.get("prompt")
        if prompt is None:
            return len(memoryview(self.body.get("messages", b""))) // _BYTES_PER_TOKEN
        raw = bytes(prompt)
        if not raw.startswith(b"["):
            return len(raw) // _BYTES_PER_TOKEN
        try:
            return len(_TOKEN_IDS.decode(prompt))
        except msgspec.DecodeError:
            return None


def parse_request(path: str, data: bytes) -> InferenceRequest:
    """Raises BadRequestError, with the field's name as its param."""
    body = _parse_body(data)
    _refuse_control_fields(body)
    given = {name: _field(name, body[name]) for name in _FIELDS if name in body}
    if "model" not in given:
        raise BadRequestError("The field 'model' is missing.", param="model")
    if "messages" in body:
        check_media(bytes(body["messages"]))
    stream = bool(given.get("stream"))
    options = given.get("stream_options")
    if stream:
        body["stream_options"] = _with_usage(body) if options else _WITH_USAGE
    return InferenceRequest(
        path=path,
        body=body,
        model=given["model"],
        stream=stream,
        wants_usage=bool(options and options.include_usage),
    )


def _parse_body(data: bytes) -> Body:
    try:
        if not data.isascii():
            data.decode()  # msgspec does not check strings that stay raw
        return _BODY.decode(data)
    except msgspec.ValidationError:
        raise BadRequestError("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise BadRequestError("The body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.") from None


def _field(name: str, raw: msgspec.Raw) -> Any:
    try:
        return _FIELDS[name].decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The field '{name}': {error}", param=name) from None


def _refuse_control_fields(body: Body) -> None:
    pending = [body]
    while pending:
        fields = pending.pop()
        if not CONTROL_FIELDS.isdisjoint(fields):
            name = min(CONTROL_FIELDS.intersection(fields))
            raise BadRequestError(
                f"The field '{name}' is set by the gateway and cannot be given.", param=name
            )
        pending.extend(
            _OBJECT.decode(fields[container])
            for container in _CONTAINERS
            if container in fields and bytes(fields[container]).startswith(b"{")
        )


def _with_usage(body: Body) -> msgspec.Raw:
    options = _OBJECT.decode(body["stream_options"])
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(options))
