"""Reading a request's body: once, bounded, in time (the watch sees to the time)."""

from gateway.errors import BadRequestError, BodyTooLargeError
from gateway.listener import ClientRequest


async def read_body(client: ClientRequest, limit_bytes: int) -> bytes:
    """Raises BodyTooLargeError as soon as the limit is passed, ClientGoneError, BadRequestError."""
    declared = client.content_length
    if declared is not None:
        if not declared.isdigit():
            raise BadRequestError("The Content-Length header is not a number.")
        if int(declared[:20]) > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
    data = await client.read()
    if client.body_complete and len(data) <= limit_bytes and not client.unread:
        return data
    parts: list[bytes] = []
    total = 0
    while data:
        total += len(data)
        if total > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        parts.append(data)
        data = await client.read()
    return b"".join(parts)
