"""The few Linux calls that keep a process tree in hand: subreaper, death signal, port choice."""

import ctypes
import os
import signal
import socket
import zlib

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes the port
# between our choice and the engine's bind.
_PORT_LOW, _PORT_HIGH = 21_000, 31_999


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become_subreaper() -> None:
    """Orphans among our descendants become our children, instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int) -> None:
    """SIGTERM for us when the parent dies, also when it is already dead."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGTERM)


def free_ports(host: str, seed: str, count: int) -> tuple[int, ...]:
    """*count* ports of *host* that nobody has bound. *seed* makes two workers that choose at the
    same moment begin at different places. Raises OSError when there are too few.
    """
    span = _PORT_HIGH - _PORT_LOW + 1
    start = zlib.crc32(seed.encode())
    found: list[int] = []
    for step in range(span):
        port = _PORT_LOW + (start + step) % span
        if _is_free(host, port):
            found.append(port)
            if len(found) == count:
                return tuple(found)
    raise OSError(f"fewer than {count} free ports on {host} in {_PORT_LOW} to {_PORT_HIGH}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
