"""Which prompts' KV an emulator still holds, and the events by which vLLM tells of it.

Blocks of 16 tokens, the least recently used go first, a prompt's tail before its head.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec

BLOCK_TOKENS = 16
_HASH_BYTES = 8


class BlockStored(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    block_hashes: list[bytes]
    parent_block_hash: bytes | None
    token_ids: list[int]
    block_size: int = BLOCK_TOKENS
    lora_id: int | None = None
    medium: str = "GPU"


class BlockRemoved(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    block_hashes: list[bytes]
    medium: str = "GPU"


Event = BlockStored | BlockRemoved


class PrefixCache:
    """*publish* gets the events of one change."""

    def __init__(self, blocks_max: int, publish: Callable[[list[Event]], None]) -> None:
        self._blocks_max = blocks_max
        self._publish = publish
        self._blocks: OrderedDict[bytes, None] = OrderedDict()  # the next to go first

    def take(self, ids: Sequence[int]) -> int:
        """Keeps the KV of a prompt's whole blocks; says how many of its tokens were here."""
        hashes = _chain(ids)[: self._blocks_max]
        hits = next((n for n, each in enumerate(hashes) if each not in self._blocks), len(hashes))
        for each in reversed(hashes):
            self._blocks[each] = None
            self._blocks.move_to_end(each)
        if new := hashes[hits:]:
            stored = BlockStored(
                block_hashes=new,
                parent_block_hash=hashes[hits - 1] if hits else None,
                token_ids=list(ids[hits * BLOCK_TOKENS : len(hashes) * BLOCK_TOKENS]),
            )
            self._publish([*self._evict(), stored])
        return hits * BLOCK_TOKENS

    def _evict(self) -> list[Event]:
        surplus = len(self._blocks) - self._blocks_max
        gone = [self._blocks.popitem(last=False)[0] for _ in range(surplus)]
        return [BlockRemoved(block_hashes=gone)] if gone else []


def _chain(ids: Sequence[int]) -> list[bytes]:
    """A hash for each whole block, of it and all before it."""
    hashes, parent = [], b""
    for end in range(BLOCK_TOKENS, len(ids) + 1, BLOCK_TOKENS):
        block = b"".join(token.to_bytes(8, "big") for token in ids[end - BLOCK_TOKENS : end])
        parent = blake2b(parent + block, digest_size=_HASH_BYTES).digest()
        hashes.append(parent)
    return hashes
