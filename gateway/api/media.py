"""Media in a prompt: only what it carries itself.

An engine fetches a media URL from where it stands: inside the fleet. A client must not choose it.
And it keeps media by the name that a client gave them (vLLM's ``uuid``), for whoever says that name
next.
"""

from typing import Any

import msgspec

from gateway.errors import BadRequestError

# Where parts have no type (SGLang's embeddings), these hold a URL, a file's name or the data. No
# engine looks for them in what somebody says.
_UNTYPED = frozenset({"audio", "image", "video"})
_UNTYPED_MARKS = (b'"audio"', b'"image"', b'"video"')
_SAID = frozenset({"messages", "system"})


def check_media(field: str, raw: bytes) -> None:
    """Raises BadRequestError for a media URL in the JSON of *field* that is not ``data:``."""
    # "url" itself or a name that ends so; an escaped letter could hide it, and is rare enough.
    marked = b'url"' in raw or b'"uuid"' in raw or b"\\u" in raw
    if not marked and not _may_be_untyped(field, raw):
        return
    pending: list[Any] = [msgspec.json.decode(raw)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            _check(field, value)
            # What a model has called a tool with is text to an engine, whatever it looks like.
            called = value.get("type") == "tool_use"
            pending.extend(v for k, v in value.items() if not (called and k == "input"))


def _may_be_untyped(field: str, raw: bytes) -> bool:
    return field not in _SAID and any(mark in raw for mark in _UNTYPED_MARKS)


def _check(field: str, part: dict[str, Any]) -> None:
    """OpenAI's parts name it ``image_url`` and the like, Anthropic's have a source of type url."""
    names = (*part, str(part.get("type")))
    if part.get("uuid") is not None and any(name.endswith("_url") for name in names):
        raise BadRequestError(
            f"Media in '{field}' cannot have a uuid: workers would share them by it. Leave it out.",
            param=field,
        )
    for name, target in part.items():
        if name.endswith("_url"):
            url = target.get("url") if isinstance(target, dict) else target
        elif name in _UNTYPED:
            url = target
        elif name == "source" and isinstance(target, dict) and target.get("type") == "url":
            url = target.get("url")
        else:
            continue
        if isinstance(url, str) and not url.lower().startswith("data:"):
            raise BadRequestError(
                f"The {name} in '{field}' must be data itself (a data: URL, or base64); the "
                "gateway fetches nothing.",
                param=field,
            )
