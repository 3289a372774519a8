"""Blocks of prompts and who holds them: nothing found that is not there, and bounded memory."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.blocks import BLOCK_BYTES, BLOCKS_MAX, Holders, byte_blocks, token_blocks
from gateway.routing.prefix import PrefixMemory


def a_talk(*turns):
    messages = [{"role": "user", "content": turn} for turn in turns]
    return json.dumps(messages, separators=(",", ":")).encode()


def in_common(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)


@given(
    common=st.binary(max_size=3000), one=st.binary(max_size=2000), other=st.binary(max_size=2000)
)
@settings(deadline=None)
def test_two_prompts_share_the_blocks_that_lie_whole_in_what_they_share(common, one, other):
    first, second = b'"a' + common + one + b'"', b'"a' + common + other + b'"'
    shared = in_common(first[:-1], second[:-1])
    if shared is None:
        shared = min(len(first), len(second)) - 1
    blocks = byte_blocks(first), byte_blocks(second)
    agreed = in_common(*blocks)
    assert (min(map(len, blocks)) if agreed is None else agreed) == shared // BLOCK_BYTES


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=4), answer=st.text(max_size=2000)
)
@settings(deadline=None)
def test_the_next_turn_of_a_conversation_has_all_blocks_of_this_one(lengths, answer):
    turns = ["x" * length for length in lengths]
    now, later = byte_blocks(a_talk(*turns)), byte_blocks(a_talk(*turns, answer))
    assert later[: len(now)] == now


def test_what_ends_the_json_is_part_of_no_block():
    exact = b"[" + b"x" * (BLOCK_BYTES - 1)
    assert byte_blocks(exact + b"]") == byte_blocks(exact + b",{}]")[:1]
    assert len(byte_blocks(exact + b"]")) == 1
    assert byte_blocks(exact) == ()
    assert byte_blocks(b"") == ()


def test_the_same_block_after_another_beginning_is_another():
    one, other, same = (letter * BLOCK_BYTES for letter in (b"a", b"b", b"c"))
    assert not set(byte_blocks(one + same + b'"')) & set(byte_blocks(other + same + b'"'))


def test_an_endless_prompt_has_a_bounded_number_of_blocks():
    assert len(byte_blocks(b"x" * (BLOCKS_MAX + 10) * BLOCK_BYTES)) == BLOCKS_MAX


@given(
    tokens=st.lists(st.integers(0, 3), max_size=40), size=st.integers(1, 5), cut=st.integers(0, 8)
)
@settings(deadline=None)
def test_a_chain_of_token_blocks_can_be_continued(tokens, size, cut):
    whole = token_blocks(tokens, size)
    head = token_blocks(tokens[: cut * size], size)
    assert head + token_blocks(tokens[cut * size :], size, head[-1] if head else 0) == whole


sequences = st.lists(st.integers(0, 2), max_size=6).map(lambda ids: token_blocks(ids, 1))
learnt = st.lists(st.tuples(st.sampled_from("abc"), sequences), max_size=10)


@given(learnt=learnt, asked=sequences)
@settings(deadline=None)
def test_a_worker_is_matched_by_the_longest_prompt_it_shares(learnt, asked):
    memory = PrefixMemory()
    held = {worker: set() for worker in "abc"}
    for worker, blocks in learnt:
        assert memory.learn(worker, blocks) == sum(block in held[worker] for block in blocks)
        held[worker].update(blocks)
    expected = {w: sum(block in held[w] for block in asked) for w in "abc"}
    assert memory.depths(asked) == {w: depth for w, depth in expected.items() if depth}


@given(learnt=learnt, asked=sequences)
@settings(deadline=None)
def test_learning_more_never_shortens_a_match_while_there_is_room(learnt, asked):
    memory = PrefixMemory()
    depths = []
    for worker, blocks in learnt:
        memory.learn(worker, blocks)
        depths.append(memory.depths(asked).get("a", 0))
    assert depths == sorted(depths)


@given(learnt=learnt, bound=st.integers(1, 6))
@settings(deadline=None)
def test_memory_is_bounded_and_keeps_the_latest_prompt_from_its_beginning(learnt, bound):
    memory = PrefixMemory(blocks_per_worker=bound)
    for worker, blocks in learnt:
        memory.learn(worker, blocks)
        kept = min(len(blocks), bound)
        assert memory.depths(blocks).get(worker, 0) == kept
        assert len(memory) <= 3 * bound
        assert len(memory._holders) <= len(memory)


@given(learnt=learnt)
@settings(deadline=None)
def test_a_forgotten_worker_leaves_nothing_to_the_next_and_takes_nothing_from_others(learnt):
    memory = PrefixMemory(blocks_per_worker=5)
    for worker, blocks in learnt:
        memory.learn(worker, blocks)
    before = [memory.depths(blocks) for _, blocks in learnt]
    memory.keep(frozenset("bc"))
    memory.learn("new", ())
    for (_, blocks), found in zip(learnt, before, strict=True):
        found.pop("a", None)
        assert memory.depths(blocks) == found
    memory.keep(frozenset())
    assert (len(memory), len(memory._holders), len(memory._holders._bits)) == (0, 0, 0)


def test_a_prompt_is_forgotten_from_its_end():
    memory = PrefixMemory(blocks_per_worker=4)
    memory.learn("w", (1, 2, 3))
    memory.learn("w", (8, 9))
    assert memory.depths((1, 2, 3)) == {"w": 2}
    assert memory.depths((8, 9)) == {"w": 2}


def test_a_gap_ends_a_match_though_others_have_no_gap():
    holders = Holders()
    holders.add("whole", [1, 2, 3])
    holders.add("gap", [1, 3])
    assert holders.depths([1, 2, 3]) == {"whole": 3, "gap": 1}


def test_bits_are_used_again():
    holders = Holders()
    for number in range(1000):
        holders.add(f"w{number}", [1])
        holders.remove(f"w{number}", [1])
        holders.forget(f"w{number}")
    assert holders._bit("last") == 1
