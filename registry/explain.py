"""Says in words why data does not fit a msgspec type: which field, and what is allowed there.

msgspec tells what it expected; people ask what they may write. So this follows the error's path
through the type and the data. Pure.
"""

import re
from decimal import Decimal
from typing import Any

from msgspec import inspect as ins

# Between the field and the message of a ValueError that a `__post_init__` raises: msgspec turns it
# into its own error and appends the path of the object around the field.
SEPARATOR = "\x1f"

_PATH = re.compile(r"(?:`(?P<key>key)` in )?`\$(?P<path>.*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_VALUE_CHARS_MAX = 80
_SHOWN_BITS_MAX = 64
_ABSENT = object()
_PLAIN: dict[type[ins.Type], str] = {
    ins.StrType: "text",
    ins.IntType: "a whole number",
    ins.FloatType: "a number",
    ins.DecimalType: "a number",
    ins.BoolType: "true or false",
    ins.NoneType: "nothing",
    ins.DictType: "a mapping",
    ins.VarTupleType: "a list",
    ins.ListType: "a list",
    ins.CustomType: "a path",
}


def explain(error: Exception, root: type, data: Any) -> tuple[str, str]:
    """(field, message) of msgspec's *error* about *data* as *root*."""
    text, _, where = str(error).partition(" - at ")
    found = _PATH.fullmatch(where)
    path = found["path"] if found else ""
    field, separator, message = text.rpartition(SEPARATOR)
    if separator and not _UNKNOWN.fullmatch(text):
        return _join(path, field), message
    if found and found["key"]:
        return _join(path), "has a key that is not text, allowed are texts"
    steps = [name or index for name, index in _STEP.findall(path)]
    return _explain_at(path, text, *_follow(ins.type_info(root), data, steps))


def _explain_at(path: str, text: str, kind: ins.Type | None, value: Any) -> tuple[str, str]:
    if unknown := _UNKNOWN.fullmatch(text):
        return _join(path, unknown[1][:_VALUE_CHARS_MAX]), f"is not known here, {_names(kind)}"
    if missing := _MISSING.fullmatch(text):
        member, _ = _follow(kind, _ABSENT, [missing[1]])
        return _join(path, missing[1]), f"is missing, {_allowed(member)}"
    if kind is None:
        return _join(path), text
    if value is _ABSENT:  # somewhere in a mapping: msgspec does not say at which key
        return _join(path), f"has a value that does not fit, {_allowed(kind)}"
    return _join(path), f"is {_shown(value)}, {_allowed(kind)}"


def _join(path: str, name: str = "") -> str:
    """``.variants[0]`` and ``engine`` → ``variants[0].engine``."""
    field = f"{path}.{name}".replace("[...]", "").strip(".")
    return field if field.isprintable() else ascii(field)[1:-1]


def _follow(kind: ins.Type | None, value: Any, steps: list[str]) -> tuple[ins.Type | None, Any]:
    """The type and the value at the end of *steps*; None and `_ABSENT` where they lead nowhere."""
    for step in steps:
        chosen = _choose(kind, value)
        kind = _member(chosen, step)
        try:
            value = value[int(step) if step.isdigit() else step]
        except (TypeError, LookupError):
            value = _ABSENT
    return _choose(kind, value), value


def _choose(kind: ins.Type | None, value: Any) -> ins.Type | None:
    """Without what it says for documents alone; of a union of tagged structs the one that *value*
    says it is.
    """
    if isinstance(kind, ins.Metadata):
        return _choose(kind.type, value)
    if not isinstance(kind, ins.UnionType) or not isinstance(value, dict):
        return kind
    for member in kind.types:
        if isinstance(member, ins.StructType) and value.get(member.tag_field) == member.tag:
            return member
    return kind


def _member(kind: ins.Type | None, step: str) -> ins.Type | None:
    if isinstance(kind, ins.VarTupleType | ins.ListType):
        return kind.item_type
    if isinstance(kind, ins.DictType):
        return kind.value_type
    if isinstance(kind, ins.StructType):
        if step == kind.tag_field:
            return ins.LiteralType((str(kind.tag),))
        return next((f.type for f in kind.fields if f.encode_name == step), None)
    if isinstance(kind, ins.UnionType):
        tags = [m.tag for m in kind.types if isinstance(m, ins.StructType) and m.tag_field == step]
        return ins.LiteralType(tuple(map(str, tags))) if tags else None
    return None


def _names(kind: ins.Type | None) -> str:
    if not isinstance(kind, ins.StructType):
        return "nothing is"
    names = [field.encode_name for field in kind.fields]
    if kind.tag_field is not None:
        names.insert(0, kind.tag_field)
    return f"allowed are {', '.join(names)}"


def _allowed(kind: ins.Type | None) -> str:
    if isinstance(kind, ins.EnumType):
        return _one_of([str(member.value) for member in kind.cls])
    if isinstance(kind, ins.LiteralType):
        return _one_of([str(value) for value in kind.values])
    return f"allowed is {_described(kind)}"


def _one_of(values: list[str]) -> str:
    return f"allowed {'is' if len(values) == 1 else 'are'} {', '.join(values)}"


def _described(kind: ins.Type | None) -> str:
    if isinstance(kind, ins.StructType):
        return f"a mapping of {', '.join(field.encode_name for field in kind.fields)}"
    if isinstance(kind, ins.Metadata):
        return _described(kind.type)
    if isinstance(kind, ins.UnionType):
        structs = [m for m in kind.types if isinstance(m, ins.StructType) and m.tag_field]
        if structs:
            tags = ", ".join(str(struct.tag) for struct in structs)
            return f"a mapping with {structs[0].tag_field}: {tags}"
        return " or ".join(_described(member) for member in kind.types)
    return _PLAIN.get(type(kind), "another value") if kind is not None else "another value"


def _shown(value: Any) -> str:
    """Scalars as they are; of the rest only the kind, for they may be huge or nest endlessly."""
    if isinstance(value, str):
        return ascii(value[:_VALUE_CHARS_MAX])
    small = isinstance(value, int) and value.bit_length() <= _SHOWN_BITS_MAX
    if small or isinstance(value, float | Decimal):
        return str(value).lower()
    names = {type(None): "empty", dict: "a mapping", list: "a list", int: "a huge number"}
    return names.get(type(value), f"a {type(value).__name__}")
