"""Media in chat messages: only what the message itself carries.

An engine fetches a media URL from where it stands: inside the fleet. A client must not choose it.
"""

from typing import Any

import msgspec

from gateway.errors import BadRequestError


def check_media(messages: bytes) -> None:
    """Raises BadRequestError for a media URL that is not ``data:``."""
    # An escaped letter could hide the key, and is otherwise rare enough to look closely.
    if b'_url"' not in messages and b"\\u" not in messages:
        return
    pending: list[Any] = [msgspec.json.decode(messages)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
            for name, target in value.items():
                if name.endswith("_url"):
                    _check_target(name, target)


def _check_target(name: str, target: Any) -> None:
    url = target.get("url") if isinstance(target, dict) else target
    if isinstance(url, str) and not url.lower().startswith("data:"):
        raise BadRequestError(
            f"The {name} in 'messages' must be a data: URL; the gateway fetches nothing.",
            param="messages",
        )
