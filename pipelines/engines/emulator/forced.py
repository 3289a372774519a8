"""What an answer is forced to say: a tool's call, or JSON that fits a schema.

The emulator has no grammar to hold a model to; it says the simplest value that fits.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

_DEPTH_MAX = 16
_PLAIN: dict[str, Any] = {
    "string": "text",
    "number": 1.5,
    "boolean": True,
    "null": None,
}


class Forced(msgspec.Struct, frozen=True):
    """*text* is the whole answer; with a *tool* it is the arguments of its call. *by_name*: the
    client named that very tool.
    """

    text: str
    tool: str = ""
    by_name: bool = False


class Tool(msgspec.Struct, frozen=True):
    name: str
    schema: dict[str, Any]


def call_of(tools: Iterable[Tool], name: str) -> Forced | None:
    """The call of the tool of that *name*, of any if it is "". None: there is no such tool."""
    for tool in tools:
        if name in ("", tool.name):
            return Forced(_text(tool.schema), tool.name, bool(name))
    return None


def json_of(schema: dict[str, Any]) -> Forced:
    return Forced(_text(schema))


def _text(schema: dict[str, Any]) -> str:
    return msgspec.json.encode(_example(schema, schema, 0)).decode()


def _example(schema: Any, root: dict[str, Any], depth: int) -> Any:
    """A value that fits, of the parts of JSON Schema that clients use for arguments."""
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    other = _other(schema, root)
    if other is not None:
        return _example(other, root, depth + 1)
    kind = schema.get("type", "object")
    return _of_kind(kind[0] if isinstance(kind, list) and kind else kind, schema, root, depth)


def _other(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """The schema that *schema* only leads to, if it does."""
    if "$ref" in schema:
        return root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
    choices = schema.get("anyOf") or schema.get("oneOf")
    return choices[0] if choices else None


def _of_kind(kind: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    if kind == "array":
        return [_example(schema.get("items"), root, depth + 1)] * schema.get("minItems", 1)
    if kind == "object":
        fields: dict[str, Any] = schema.get("properties", {})
        wanted: Iterable[str] = schema.get("required", fields)
        return {name: _example(fields.get(name), root, depth + 1) for name in wanted}
    return max(1, schema.get("minimum", 1)) if kind == "integer" else _PLAIN.get(kind)
