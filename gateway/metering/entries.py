"""What stands in a journal: a request was opened, a request was closed. Pure.

Each entry is a frame: the payload's length, its CRC-32, the payload in MessagePack. A process that
is killed in the middle of a write leaves a torn last frame, which is recognised and left out.
"""

import struct
import zlib

import msgspec

from registry.state import UsageRecord

ENTRY_BYTES_MAX = 16 * 1024
_HEAD = struct.Struct("<II")


class Opened(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="open", gc=False):
    """A request that was let in. *opened_at*, of the epoch, is its alone (see `lane.Moments`)."""

    request_id: str
    key_id: str
    model: str
    operation: str
    opened_at: float

    @property
    def identity(self) -> tuple[str, str, float]:
        """The registry's: a row with it is there at most once."""
        return (self.request_id, self.key_id, self.opened_at)


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="close", gc=False):
    """How it ended."""

    record: UsageRecord

    @property
    def identity(self) -> tuple[str, str, float]:
        return (self.record.request_id, self.record.key_id, self.record.opened_at)


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
        # A file that the machine lost its power on may end in zeros: no entry is empty.
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
    return Read(entries=entries, torn_bytes=len(data) - at, unknown=unknown)
