"""What stands in a journal: a request was opened, requests were closed. Pure.

Each entry is a frame: the payload's length, its CRC-32, the payload in MessagePack. A process that
is killed in the middle of one leaves a torn last frame, which is recognised and left out. After
the last frame come zeros, or nothing.
"""

import struct
import zlib

import msgspec

from registry.usage import UsageRecord

CLOSED_MAX = 500  # requests in one entry
ENTRY_BYTES_MAX = 2 * 1024 * 1024
_HEAD = struct.Struct("<II")

Identity = tuple[str, str, float]  # the registry's: a row with it is there at most once


def identity(record: UsageRecord) -> Identity:
    return (record.request_id, record.key_id, record.opened_at)


class Opened(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="open", gc=False):
    """A request that was let in. *opened_at*, of the epoch, is its alone (see `lane.Moments`)."""

    request_id: str
    key_id: str
    model: str
    operation: str
    opened_at: float

    @property
    def identity(self) -> Identity:
        return (self.request_id, self.key_id, self.opened_at)


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """How requests ended that did at about the same time."""

    records: list[UsageRecord]


Entry = Opened | Closed

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Opened | Closed).decode


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What was read back: the entries in order, how many bytes after them are torn, and how many
    entries are whole but of a version that this one does not know.
    """

    entries: list[Entry]
    torn_bytes: int
    unknown: int

    @property
    def closed(self) -> list[UsageRecord]:
        return [
            record
            for entry in self.entries
            if isinstance(entry, Closed)
            for record in entry.records
        ]


def framed(entry: Entry) -> bytes:
    payload = _encode(entry)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_entries(data: bytes) -> Read:
    """The entries at the beginning of *data*, up to the first frame that is not whole."""
    entries: list[Entry] = []
    at = unknown = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if not 0 < length <= ENTRY_BYTES_MAX or end > len(data):
            break
        payload = data[at + _HEAD.size : end]
        if zlib.crc32(payload) != checksum:
            break
        try:
            entries.append(_decode(payload))
        except msgspec.DecodeError:
            unknown += 1
        at = end
    torn_bytes = len(data[at:].rstrip(b"\0"))
    return Read(entries=entries, torn_bytes=torn_bytes, unknown=unknown)
