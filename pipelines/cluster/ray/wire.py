"""What crosses between us, the bridge and the actors: JSON, never pickled objects of ours."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from registry.state import Device, Worker

LINE_BYTES_MAX = 16 * 1024 * 1024  # a piece of a log is the longest
_PACKAGES = ("registry", "pipelines")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the bridge, a line. Which fields matter is *what*'s."""

    id: int
    what: Literal["inventory", "observe", "start", "stop", "forget", "log"]
    node: str = ""
    worker_id: str = ""
    worker: Worker | None = None
    devices: tuple[Device, ...] = ()
    position: int = 0
    tail_lines: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The bridge's line. *error* is a sentence for people, else *value* is the answer's JSON."""

    id: int
    error: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What an actor answers, as bytes. *error* is a sentence for people."""

    error: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    worker: Worker
    devices: tuple[Device, ...]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself: its node's name for Modelyard, and the code that it runs."""

    name: str
    code: str


def code_digest() -> str:
    """Of the code that both sides must have alike, so that an upgrade replaces the agents."""
    root = Path(__file__).parents[3]
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
