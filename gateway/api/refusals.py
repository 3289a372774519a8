"""What is refused of a request's body, whatever engine it is for.

Fields that tell an engine whom to contact or where to run are the gateway's to set. Workers keep
nothing between two requests, and run nothing but the model: what would need either is refused with
what to do instead, since an engine would ignore it or answer something else.
"""

import msgspec

from gateway.api.operations import Dialect, Operation
from gateway.errors import BadRequestError
from pipelines.engines.base import Body

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
        "custom_logit_processor",  # code, which SGLang would unpickle
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
_KEPT_ELSEWHERE = "no worker keeps what was said before. Send the whole conversation in 'input'."
_STATEFUL = {
    "background": "A response cannot be made in the background: no worker keeps it. Stream it.",
    "conversation": f"There are no conversations: {_KEPT_ELSEWHERE}",
    "previous_response_id": f"There are no previous responses: {_KEPT_ELSEWHERE}",
    "prompt": "There are no prompt templates. Send the text itself, in 'input' and 'instructions'.",
}
_OFF = frozenset({b"null", b"false", b"[]", b"{}", b'""'})
# The client runs them; any other kind somebody behind this API would have to run. A namespace is
# a bundle of tools.
_CLIENT_TOOLS = frozenset({"function", "custom"})
_NAMESPACE = "namespace"


class _Tool(msgspec.Struct):
    type: str | None = "custom"  # where Anthropic's say none, it is the client's own
    tools: list["_Tool"] | None = None


_OBJECT: msgspec.json.Decoder[Body] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TOOLS = msgspec.json.Decoder(list[_Tool])
_ENCODING = msgspec.json.Decoder(str | None)
_ENCODINGS = (None, "float", "base64")


def check_body(body: Body, operation: Operation) -> None:
    """Raises BadRequestError, with the field's name as its param."""
    _refuse_control_fields(body)
    if operation.dialect is Dialect.RESPONSES:
        _refuse_state(body)
    if operation.dialect is not Dialect.OPENAI:
        _check_tools(body)
        if bytes(body.get("mcp_servers", b"null")) not in _OFF:
            raise BadRequestError(
                "The gateway contacts no MCP servers. Give their tools in 'tools' and call them.",
                param="mcp_servers",
            )
    elif "encoding_format" in body:
        _check_encoding(body["encoding_format"])


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


def _refuse_state(body: Body) -> None:
    for name, message in _STATEFUL.items():
        if name in body and bytes(body[name]) not in _OFF:
            raise BadRequestError(message, param=name)


def _check_tools(body: Body) -> None:
    if "tools" not in body or bytes(body["tools"]) in _OFF:
        return
    try:
        pending = _TOOLS.decode(body["tools"])
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The field 'tools': {error}", param="tools") from None
    while pending:
        tool = pending.pop()
        if tool.type == _NAMESPACE:
            pending.extend(tool.tools or ())
        elif tool.type is not None and tool.type not in _CLIENT_TOOLS:
            raise BadRequestError(
                f"Tools of type {tool.type[:40]!r} are built into somebody else's service, and "
                "nothing here runs them. Declare a function or a custom tool that you run.",
                param="tools",
            )


def _check_encoding(raw: msgspec.Raw) -> None:
    try:
        encoding: str | None = _ENCODING.decode(raw)
    except msgspec.DecodeError:
        encoding = ""
    if encoding not in _ENCODINGS:
        raise BadRequestError(
            "The field 'encoding_format' must be float or base64.", param="encoding_format"
        )
