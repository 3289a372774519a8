"""What of a request's head is refused, though the parser takes it (RFC 9112)."""


class RefusedError(Exception):
    """What is being parsed is no request that we take; *status* says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def is_http_1_1(version: str, *, hosts: int, coding: bytes) -> bool:
    """Whether it is HTTP/1.1; if not, it is 1.0. *hosts* counts Host headers, *coding* is the
    transfer coding. Raises RefusedError.
    """
    if version == "1.1":
        if hosts != 1:
            raise RefusedError(400)
        if coding and coding != b"chunked":
            raise RefusedError(501)
        return True
    if version != "1.0":
        raise RefusedError(505)
    if hosts > 1 or coding:
        raise RefusedError(400)
    return False
