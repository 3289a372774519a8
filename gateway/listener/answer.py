"""Heads and chunks of answers, as bytes. Pure but for the date."""

import time
from http import HTTPStatus
from wsgiref.handlers import format_date_time

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # HTTP/1.0 has to be told

_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


class _Date:
    """The date header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: %b\r\n" % format_date_time(second).encode()
        return self._line


_DATE = _Date()


def head(status: int, headers: bytes) -> bytes:
    """*headers* are complete lines."""
    line = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return line + _DATE.line() + headers + b"\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
