"""Prompts as chains of blocks, and who holds which: what prefix memory and KV index stand on.

A block's key is the hash of its content and of the key before it, so two prompts share a key
exactly where they share everything up to there. Keys are Python's hashes: fast, salted for each
process (nobody outside can make two prompts collide), of no meaning anywhere else.
"""

from collections.abc import Iterable, Sequence

Key = int
# About 256 tokens. Smaller blocks find little more in common (a conversation shares thousands of
# tokens with its last turn) and cost in proportion.
BLOCK_BYTES = 1024
# What a prompt has in common with others beyond this many blocks decides nothing any more.
BLOCKS_MAX = 1024


def byte_blocks(prompt: bytes) -> tuple[Key, ...]:
    """The keys of the whole blocks of a raw JSON prompt.

    Its last byte closes the list of messages, or the string: the next turn of the conversation
    has something else there, so it belongs to no block. Neither does what fills no block.
    """
    end = min(len(prompt) - 1, BLOCKS_MAX * BLOCK_BYTES)
    keys = []
    key = 0
    for start in range(0, end - BLOCK_BYTES + 1, BLOCK_BYTES):
        key = hash((key, prompt[start : start + BLOCK_BYTES]))
        keys.append(key)
    return tuple(keys)


def token_blocks(token_ids: Sequence[int], block_size: int, parent: Key = 0) -> tuple[Key, ...]:
    """The keys of the whole blocks of *block_size* tokens, a chain going on from *parent*."""
    keys = []
    key = parent
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        key = hash((key, tuple(token_ids[start : start + block_size])))
        keys.append(key)
    return tuple(keys)


class Holders:
    """Which workers hold which blocks. Workers are bits of one integer for each key, so a prompt
    is matched against all of them in one walk along its chain.
    """

    __slots__ = ("_bits", "_masks", "_workers")

    def __init__(self) -> None:
        self._masks: dict[Key, int] = {}
        self._bits: dict[str, int] = {}
        self._workers: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, worker_id: str, keys: Iterable[Key]) -> None:
        masks, bit = self._masks, self._bit(worker_id)
        for key in keys:
            masks[key] = masks.get(key, 0) | bit

    def remove(self, worker_id: str, keys: Iterable[Key]) -> None:
        masks, others = self._masks, ~self._bits.get(worker_id, 0)
        for key in keys:
            left = masks.get(key, 0) & others
            if left:
                masks[key] = left
            else:
                masks.pop(key, None)

    def _bit(self, worker_id: str) -> int:
        bit = self._bits.get(worker_id)
        if bit is None:
            bit = 1
            while bit in self._workers:
                bit <<= 1
            self._bits[worker_id] = bit
            self._workers[bit] = worker_id
        return bit

    def forget(self, worker_id: str) -> None:
        """The caller has removed its keys: its bit may be another's now."""
        bit = self._bits.pop(worker_id, None)
        if bit is not None:
            del self._workers[bit]

    def depths(self, keys: Sequence[Key]) -> dict[str, int]:
        """How many of the first *keys* each worker holds; one with none has no entry."""
        found: dict[str, int] = {}
        masks = self._masks
        alive = masks.get(keys[0], 0) if keys else 0
        depth = 0
        for depth, key in enumerate(keys):
            mask = masks.get(key, 0) & alive
            if mask != alive:
                self._note(found, alive ^ mask, depth)
                alive = mask
            if not alive:
                return found
        self._note(found, alive, depth + 1)
        return found

    def _note(self, found: dict[str, int], mask: int, depth: int) -> None:
        while mask:
            bit = mask & -mask
            found[self._workers[bit]] = depth
            mask ^= bit
