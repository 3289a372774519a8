"""Which blocks each worker's KV cache holds, by the engine's own word.

The events are those of vLLM (`vllm.distributed.kv_events`) and SGLang, which are the same on the
wire: arrays with the type's name first; fields that newer engines add at the end are ignored.
An engine's block hash is its own affair (and may be of bytes or an integer); blocks are found
here by their tokens instead, and the hash only tells which one goes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from gateway.routing.blocks import Holders, Key, token_blocks

BlockHash = bytes | int
# An engine removes what it has no room for, and says so: this is only for one that never does.
BLOCKS_PER_WORKER = 1 << 18


class BlockStored(
    msgspec.Struct, tag=True, array_like=True, omit_defaults=True, frozen=True, gc=False
):
    """Blocks of *block_size* tokens, one after the other, the first one after *parent*."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None


class BlockRemoved(
    msgspec.Struct, tag=True, array_like=True, omit_defaults=True, frozen=True, gc=False
):
    block_hashes: list[BlockHash]
    medium: str | None = None


class AllBlocksCleared(
    msgspec.Struct, tag=True, array_like=True, omit_defaults=True, frozen=True, gc=False
):
    pass


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared
_GPU = (None, "GPU")


class _Cache:
    """One worker's: its keys by the engine's hashes. All its blocks are of one size."""

    __slots__ = ("block_size", "keys")

    def __init__(self) -> None:
        self.block_size = 0
        self.keys: dict[BlockHash, Key] = {}


class KvIndexes:
    """The index of every worker that has sent an event."""

    def __init__(self, blocks_per_worker: int = BLOCKS_PER_WORKER) -> None:
        self._blocks_per_worker = blocks_per_worker
        self._caches: dict[str, _Cache] = {}
        self._by_size: dict[int, Holders] = {}
        self._whole: set[str] = set()

    def __len__(self) -> int:
        return sum(len(cache.keys) for cache in self._caches.values())

    def __contains__(self, worker_id: object) -> bool:
        """Whether all that the worker holds is known: a block from before its first event that we
        heard is not told again when it is used.
        """
        return worker_id in self._whole

    def begins(self, worker_id: str) -> None:
        """The worker holds nothing yet that it will not tell."""
        self._whole.add(worker_id)

    def apply(self, worker_id: str, events: Iterable[KvEvent]) -> None:
        """In the order the worker sent them."""
        cache = self._caches.get(worker_id)
        if cache is None:
            cache = self._caches[worker_id] = _Cache()
        for event in events:
            if isinstance(event, BlockStored):
                self._stored(worker_id, cache, event)
            elif isinstance(event, BlockRemoved):
                if event.medium in _GPU:
                    self._removed(worker_id, cache, event.block_hashes)
            else:
                self._removed(worker_id, cache, list(cache.keys))
                self._whole.add(worker_id)

    def forget(self, worker_id: str) -> None:
        """The worker is gone, or what it said can no longer be trusted (events were lost)."""
        self._whole.discard(worker_id)
        cache = self._caches.pop(worker_id, None)
        if cache is not None:
            self._removed(worker_id, cache, list(cache.keys))
            if cache.block_size:
                self._by_size[cache.block_size].forget(worker_id)

    def keep(self, worker_ids: frozenset[str]) -> None:
        """Forgets every worker but these."""
        for worker_id in self._caches.keys() - worker_ids:
            self.forget(worker_id)

    def cached_tokens(self, blocks_of: Callable[[int], Sequence[Key]]) -> Mapping[str, int]:
        """How much of a prompt's beginning each worker holds; one with nothing has no entry.
        *blocks_of* gives the prompt's keys for a block size.
        """
        found: dict[str, int] = {}
        for block_size, holders in self._by_size.items():
            if len(holders):
                depths = holders.depths(blocks_of(block_size))
                found.update((worker, depth * block_size) for worker, depth in depths.items())
        return found

    def _stored(self, worker_id: str, cache: _Cache, event: BlockStored) -> None:
        if event.lora_id is not None or event.medium not in _GPU or event.block_size < 1:
            return
        parent = 0
        if event.parent_block_hash is not None:
            known = cache.keys.get(event.parent_block_hash)
            if known is None:
                return  # its beginning was never heard of, so no prompt can be matched to it
            parent = known
        if cache.block_size != event.block_size:
            if cache.keys:
                return  # a part of a block, which some engines tell too
            if cache.block_size:
                self._by_size[cache.block_size].forget(worker_id)
            cache.block_size = event.block_size
        holders = self._by_size.setdefault(event.block_size, Holders())
        keys = token_blocks(event.token_ids, event.block_size, parent)
        room = self._blocks_per_worker - len(cache.keys)
        cache.keys.update(zip(event.block_hashes[:room], keys, strict=False))
        holders.add(worker_id, keys[:room])

    def _removed(self, worker_id: str, cache: _Cache, block_hashes: Iterable[BlockHash]) -> None:
        keys = [cache.keys.pop(gone) for gone in block_hashes if gone in cache.keys]
        holders = self._by_size.get(cache.block_size)
        if holders is not None:
            holders.remove(worker_id, keys)
