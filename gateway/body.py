"""Reading a request's body: once, bounded, in time (the watch sees to the time)."""

from gateway.errors import BadRequestError, BodyTooLargeError
from gateway.proxy.deadline import Receive


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


async def read_body(receive: Receive, declared_bytes: bytes | None, limit_bytes: int) -> bytes:
    """*declared_bytes* is the Content-Length header, if any.

    Raises BodyTooLargeError as soon as the limit is passed, ClientGoneError, BadRequestError.
    """
    if declared_bytes is not None:
        if not declared_bytes.isdigit():
            raise BadRequestError("The Content-Length header is not a number.")
        if int(declared_bytes[:20]) > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        total += len(part)
        if total > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)
