"""KV events as engines write them: what is read, what is left out, what is distrusted."""

from pathlib import Path

import msgspec
import pytest

from gateway.kv_feed import BadMessageError, KvCounts, KvStream, decode
from gateway.routing.blocks import token_blocks
from gateway.routing.kv_index import AllBlocksCleared, BlockRemoved, BlockStored, KvIndexes

TRANSCRIPT = Path(__file__).parents[1] / "contract" / "transcripts" / "kv_events.json"
HASH = 2**64 - 5  # vLLM's are the last 64 bits of a digest


def message(*events, number=0):
    """As `ZmqEventPublisher` of both engines frames them; a batch ends with its DP rank."""
    payload = msgspec.msgpack.encode([1.5, list(events), 0])
    return [b"", number.to_bytes(8, "big"), payload]


def stored(hashes=(HASH,), tokens=(1, 2), parent=None, **more):
    """vLLM 0.32's, with every field that it has."""
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": list(tokens),
        "block_size": 2,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None] * len(hashes),
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
        "locality": None,
        "session_id": "s",
        **more,
    }


def removed(*hashes, **more):
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU", **more}


@pytest.mark.parametrize(
    "event",
    [
        stored(),
        ["BlockStored", [HASH], None, [1, 2], 2, None],  # SGLang, and vLLM 0.10
        ["BlockStored", [HASH], None, [1, 2], 2, None, "GPU"],
        ["BlockStored", [HASH], None, [1, 2], 2, None, "GPU", None, [None], 0, "later", {"a": 1}],
    ],
)
def test_both_engines_forms_of_a_stored_block_are_read(event):
    number, (read,) = decode(message(event, number=7))
    assert number == 7
    assert isinstance(read, BlockStored)
    assert (read.block_hashes, read.parent_block_hash) == ([HASH], None)
    assert (read.token_ids, read.block_size) == ([1, 2], 2)


@pytest.mark.parametrize("event", [removed(HASH), ["BlockRemoved", [HASH]]])
def test_both_forms_of_a_removed_block_are_read(event):
    _, (read,) = decode(message(event))
    assert isinstance(read, BlockRemoved)
    assert read.block_hashes == [HASH]


@pytest.mark.parametrize("event", [{"type": "AllBlocksCleared"}, ["AllBlocksCleared"]])
def test_both_forms_of_a_cleared_cache_are_read(event):
    _, (read,) = decode(message(event))
    assert isinstance(read, AllBlocksCleared)


def test_a_hash_may_be_of_bytes_and_a_batch_of_both_forms():
    _, events = decode(message(["BlockStored", [b"abc"], b"p", [1, 2], 2, None], removed(b"abc")))
    assert [event.block_hashes for event in events] == [[b"abc"], [b"abc"]]


@pytest.mark.parametrize(
    "event",
    [
        stored(lora_name="adapter"),
        stored(extra_keys=[["image-hash", 0]]),
        stored(hashes=(1, 2), tokens=(1, 2, 3, 4), extra_keys=[["salt"], None]),
        stored(group_idx=1),
        stored(cache_salt="of one tenant"),
        stored(hashes=(1,), tokens=(1, 2, 3, 4)),  # one of its two blocks was masked
        removed(HASH, group_idx=1),
        ["BlockStored", [HASH], None, [1, 2], 2, None, "GPU", "adapter"],
    ],
)
def test_blocks_that_a_plain_prompt_does_not_find_are_left_out(event):
    assert decode(message(event)) == (0, [])


def payload(data):
    return [b"", bytes(8), data]


DEEP = b"\x91" * 100_000 + b"\xc0"
BAD = {
    "no frame": [],
    "two frames": message()[:2],
    "a short number": [b"", b"\0", message()[2]],
    "empty": payload(b""),
    "not MessagePack": payload(b"\xc1\xff"),
    "no UTF-8": payload(b"\x92\x01\x91\x91\xa2\xff\xff"),
    "endless lists": payload(b"\x92\x01\x91" + DEEP),
    "endless extra keys": payload(
        b"\x92\x01\x91\x99\xabBlockStored\x90\xc0\x90\x02\xc0\xc0\xc0" + DEEP
    ),
    "an unknown event": message(["BlockMoved", [1]]),
    "an unknown named event": message({"type": "BlockMoved"}),
    "an event that is a number": message(5),
    "text for tokens": message(stored(tokens="ab")),
    "a field is missing": message({"type": "BlockStored", "block_hashes": [1]}),
    "cut off": payload(message(stored())[2][:-5]),
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_what_is_no_batch_is_refused_in_one_way(frames):
    with pytest.raises(BadMessageError):
        decode(frames)


def held(index, tokens):
    return index.cached_tokens(lambda size: token_blocks(tokens, size)).get("w", 0)


class Stream:
    """A stream into a real index, seen by what the index has of tokens 1 to 4."""

    def __init__(self):
        self.counts, self.index = KvCounts(), KvIndexes()
        self.stream = KvStream("w", self.index, self.counts)

    def take(self, *events, number):
        self.stream.take(message(*events, number=number))
        return held(self.index, (1, 2, 3, 4))


def test_blocks_come_and_go():
    stream = Stream()
    assert stream.take(stored(hashes=(10, 11), tokens=(1, 2, 3, 4)), number=0) == 4
    assert stream.take(removed(11), number=1) == 2
    assert stream.take(stored(hashes=(12,), tokens=(3, 4), parent=10), number=2) == 4
    assert stream.take({"type": "AllBlocksCleared"}, number=3) == 0
    assert stream.counts == KvCounts(events=4)


def test_a_late_listener_begins_anywhere():
    stream = Stream()
    assert stream.take(stored(), number=123) == 2
    assert stream.take(stored(hashes=(11,), tokens=(3, 4), parent=HASH), number=124) == 4
    assert stream.counts.gaps == 0


@pytest.mark.parametrize("number", [5, 3, 0], ids=["lost", "repeated", "restarted"])
def test_a_gap_forgets_what_was_known_and_goes_on_from_there(number):
    stream = Stream()
    stream.take(stored(), number=3)
    assert stream.take(removed(99), number=number) == 0
    assert stream.take(stored(), number=number + 1) == 2
    assert stream.counts == KvCounts(events=3, gaps=1)


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_a_bad_message_is_counted_and_forgets_what_was_known(frames):
    stream = Stream()
    stream.take(stored(), number=0)
    stream.stream.take(frames)
    assert "w" not in stream.index
    assert stream.take(stored(), number=9) == 2
    assert stream.counts == KvCounts(events=2, bad_messages=1)


def test_a_recorded_message_has_the_tokens_that_the_engine_makes_of_the_request():
    """What `kv_events` rests on: /tokenize and the KV cache see the same prompt."""
    recorded = msgspec.json.decode(TRANSCRIPT.read_bytes())
    tokens = recorded["exchanges"][0]["response"]["body"]["tokens"]
    number, (event,) = decode([bytes.fromhex(frame) for frame in recorded["frames_hex"]])
    assert number == 0
    assert event.block_size * len(event.block_hashes) == len(event.token_ids) == 640
    assert event.token_ids == tokens[:640]
    assert len(tokens) - 640 < event.block_size, "only a part of a block is left"
    index = KvIndexes()
    index.apply("w", [event])
    assert held(index, tokens) == 640
