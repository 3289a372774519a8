"""The KV index agrees with what engines say, whatever they say."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.ask import TOKEN_BLOCKS_MAX, Ask
from gateway.routing.blocks import token_blocks
from gateway.routing.kv_index import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KvEvent,
    KvIndexes,
)


def stored(tokens, *, hashes, parent=None, size=2, **more):
    return BlockStored(list(hashes), parent, list(tokens), size, **more)


def cached(index, tokens):
    return index.cached_tokens(lambda size: token_blocks(tokens, size))


def test_a_prompt_is_matched_as_far_as_its_blocks_are_stored():
    index = KvIndexes()
    index.apply("a", [stored([1, 2, 3, 4], hashes=[b"x", b"y"])])
    index.apply("a", [stored([5, 6], hashes=[b"z"], parent=b"y")])
    index.apply("b", [stored([1, 2], hashes=[77])])
    assert cached(index, [1, 2, 3, 4, 5, 6, 7]) == {"a": 6, "b": 2}
    assert cached(index, [1, 2, 9, 9]) == {"a": 2, "b": 2}
    assert cached(index, [3, 4]) == {}
    assert cached(index, []) == {}


def test_removed_blocks_end_the_match_and_cleared_ones_all():
    index = KvIndexes()
    index.apply("a", [stored([1, 2, 3, 4], hashes=[1, 2]), BlockRemoved([2, 99])])
    assert cached(index, [1, 2, 3, 4]) == {"a": 2}
    index.apply("a", [AllBlocksCleared()])
    assert cached(index, [1, 2, 3, 4]) == {}
    assert len(index) == 0


@pytest.mark.parametrize(
    "event",
    [
        stored([1, 2], hashes=[1], parent=b"unheard of"),
        stored([1, 2], hashes=[1], lora_id=3),
        stored([1, 2], hashes=[1], medium="CPU"),
        stored([1, 2], hashes=[1], size=0),
    ],
)
def test_what_cannot_serve_a_prompt_is_left_out(event):
    index = KvIndexes()
    index.apply("a", [event])
    assert cached(index, [1, 2]) == {}


def test_a_block_that_leaves_another_medium_stays_in_the_gpu():
    index = KvIndexes()
    index.apply("a", [stored([1, 2], hashes=[1], medium="GPU"), BlockRemoved([1], "CPU")])
    assert cached(index, [1, 2]) == {"a": 2}


def test_workers_of_different_block_sizes_are_matched_each_by_its_own():
    index = KvIndexes()
    index.apply("a", [stored([1, 2, 3], hashes=[1, 2, 3], size=1)])
    index.apply("b", [stored([1, 2, 3, 4], hashes=[1, 2], size=2)])
    assert cached(index, [1, 2, 3, 4]) == {"a": 3, "b": 4}
    # A worker's blocks are of one size: another one is of a part of a block.
    index.apply("a", [stored([1, 2, 3, 4], hashes=[9], size=4)])
    assert cached(index, [1, 2, 3, 4]) == {"a": 3, "b": 4}
    index.apply("a", [AllBlocksCleared(), stored([1, 2, 3, 4], hashes=[9], size=4)])
    assert cached(index, [1, 2, 3, 4]) == {"a": 4, "b": 4}


def test_the_index_of_an_engine_that_never_removes_is_bounded():
    index = KvIndexes(blocks_per_worker=3)
    index.apply("a", [stored(range(10), hashes=range(5))])
    assert len(index) == 3
    assert cached(index, list(range(10))) == {"a": 6}


def test_only_present_workers_are_remembered():
    index = KvIndexes()
    for worker in "ab":
        index.apply(worker, [stored([1, 2], hashes=[1])])
    index.keep(frozenset("b"))
    assert cached(index, [1, 2]) == {"b": 2}
    assert "a" not in index
    index.forget("b")
    index.forget("b")
    assert cached(index, [1, 2]) == {}
    assert len(index) == 0


ids = st.lists(st.integers(0, 1), max_size=4)
moves = st.lists(st.tuples(st.sampled_from(["store", "remove", "clear"]), ids), max_size=15)


@given(moves=moves, asked=ids)
@settings(deadline=None)
def test_the_index_is_the_engines_cache(moves, asked):
    """An engine whose block hash is the text of all tokens up to it."""
    index, cache = KvIndexes(), set()

    def name(tokens):
        return bytes(tokens)

    for move, tokens in moves:
        prefixes = [name(tokens[: n + 1]) for n in range(len(tokens))]
        if move == "store":
            known = next((n for n, p in enumerate(prefixes) if p not in cache), len(prefixes))
            new = prefixes[known:]
            parent = prefixes[known - 1] if known else None
            index.apply("a", [stored(tokens[known:], hashes=new, parent=parent, size=1)])
            cache.update(new)
        elif move == "remove":
            index.apply("a", [BlockRemoved(prefixes[-1:])])
            cache -= set(prefixes[-1:])
        else:
            index.apply("a", [AllBlocksCleared()])
            cache.clear()
        assert len(index) == len(cache)
    prefixes = [name(asked[: n + 1]) for n in range(len(asked))]
    depth = next((n for n, p in enumerate(prefixes) if p not in cache), len(prefixes))
    assert cached(index, asked).get("a", 0) == depth


def test_events_are_read_as_vllm_writes_them_with_fields_yet_unknown():
    wire = msgspec.msgpack.encode(
        [
            ["BlockStored", [b"h", 2], None, [1, 2, 3, 4], 2, None, "GPU", "lora", ["extra"]],
            ["BlockRemoved", [2], "GPU", "more"],
            ["AllBlocksCleared"],
            ["BlockStored", [7], None, [1, 2], 2, None],
        ]
    )
    events = msgspec.msgpack.decode(wire, type=list[KvEvent])
    assert events[0].block_hashes == [b"h", 2]
    assert events[1] == BlockRemoved([2], "GPU")
    assert events[2] == AllBlocksCleared()
    assert events[3].medium is None


def test_a_prompt_is_matched_by_a_bounded_number_of_blocks():
    ask = Ask(prompt=b"", prompt_tokens=1, fits_pair=lambda variant: False)
    ask.token_ids = tuple(range(TOKEN_BLOCKS_MAX + 5))
    assert len(ask.token_blocks(1)) == TOKEN_BLOCKS_MAX
    assert len(ask.token_blocks(2)) == (TOKEN_BLOCKS_MAX + 5) // 2
