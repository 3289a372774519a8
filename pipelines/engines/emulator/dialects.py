"""The requests of /v1/responses and /v1/messages, brought to the form of all others."""

from typing import Any

import msgspec

from pipelines.engines.emulator.ask import (
    Ask,
    Bounds,
    RefusalError,
    Transfer,
    check_model,
    decode,
    make_ask,
    rendered,
)
from pipelines.engines.emulator.forced import Forced, Tool, call_of, json_of
from pipelines.engines.emulator.options import Options

_Blocks = str | list[dict[str, Any]]


class _Turn(msgspec.Struct):
    """A message, or an item of another kind, of which nothing but its text is looked at."""

    role: str = ""
    content: _Blocks | None = None
    type: str = ""
    output: Any = None
    arguments: str = ""


class _Responses(msgspec.Struct, kw_only=True):
    input: str | list[_Turn]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = True
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    text: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    metadata: dict[str, str] | None = None
    kv_transfer_params: Transfer | None = None


class _Messages(msgspec.Struct, kw_only=True):
    model: str
    messages: list[_Turn]
    max_tokens: int
    system: _Blocks | None = None
    stream: bool | None = False
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    kv_transfer_params: Transfer | None = None


class _CountTokens(msgspec.Struct, kw_only=True):
    model: str
    messages: list[_Turn]
    system: _Blocks | None = None


def read_responses(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = decode(body, _Responses)
    check_model(request.model, options)
    if request.previous_response_id:
        raise RefusalError(
            404,
            f"Response with id '{request.previous_response_id}' not found.",
            kind="invalid_request_error",
            param="response_id",
        )
    given = request.input
    turns = [_Turn(role="user", content=given)] if isinstance(given, str) else given
    return make_ask(
        "responses",
        options,
        _conversation(request.instructions, turns),
        Bounds(limit=request.max_output_tokens, stop=request.stop, ignore_eos=request.ignore_eos),
        starts_text=True,
        stream=bool(request.stream),
        transfer=request.kv_transfer_params,
        forced=_forced_response(request),
        echo=_echo(request),
    )


def read_messages(body: bytes, options: Options) -> Ask:
    """Raises RefusalError."""
    request = decode(body, _Messages)
    check_model(request.model, options)
    return make_ask(
        "messages",
        options,
        _conversation(request.system, request.messages),
        Bounds(limit=request.max_tokens, stop=request.stop_sequences),
        starts_text=True,
        stream=bool(request.stream),
        transfer=request.kv_transfer_params,
        forced=_forced_message(request),
    )


def read_count_tokens(body: bytes, options: Options) -> str:
    """The text whose tokens are to be counted. Raises RefusalError."""
    request = decode(body, _CountTokens)
    check_model(request.model, options)
    return _conversation(request.system, request.messages)


def _conversation(system: _Blocks | None, turns: list[_Turn]) -> str:
    said = [("system", _text(system))] if system else []
    said += [(turn.role or turn.type, _said(turn)) for turn in turns]
    return rendered(said)


def _said(turn: _Turn) -> str:
    if turn.role:
        return _text(turn.content)
    return turn.arguments or (turn.output if isinstance(turn.output, str) else _json(turn.output))


def _text(content: _Blocks | None) -> str:
    if isinstance(content, list):
        return "".join(str(block["text"]) if "text" in block else _json(block) for block in content)
    return content or ""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _forced_response(request: _Responses) -> Forced | None:
    choice = request.tool_choice
    tools = [Tool(each.get("name", ""), each.get("parameters") or {}) for each in request.tools]
    if choice == "required":
        return call_of(tools, "")
    if isinstance(choice, dict):
        found = call_of(tools, str(choice.get("name")))
        if found is None:
            raise RefusalError(
                400,
                "Tool choice 'function' not found in 'tools' parameter.",
                param="tool_choice",
            )
        return found
    return _schema((request.text or {}).get("format"))


def _forced_message(request: _Messages) -> Forced | None:
    choice = request.tool_choice or {}
    tools = [
        Tool(each.get("name", ""), each.get("input_schema") or {}) for each in request.tools or []
    ]
    if choice.get("type") == "any":
        return call_of(tools, "")
    if choice.get("type") == "tool":
        return call_of(tools, str(choice.get("name")))
    return _schema((request.output_config or {}).get("format"))


def _schema(form: dict[str, Any] | None) -> Forced | None:
    if form and form.get("type") == "json_schema":
        return json_of(form.get("schema") or {})
    return Forced("{}") if form and form.get("type") == "json_object" else None


def _echo(request: _Responses) -> dict[str, Any]:
    """What the answer repeats of the request."""
    tool = {
        "parameters": None,
        "strict": None,
        "allowed_callers": None,
        "async": None,
        "defer_loading": None,
        "description": None,
        "output_schema": None,
    }
    form = (request.text or {}).get("format")
    shown = {"format": {"description": None, "strict": None, **form}} if form else None
    return {
        "instructions": request.instructions,
        "metadata": request.metadata,
        "parallel_tool_calls": request.parallel_tool_calls,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "tool_choice": request.tool_choice if request.tools else "none",
        "tools": [{**tool, **each} for each in request.tools],
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "text": {**shown, "verbosity": None} if shown else None,
    }
