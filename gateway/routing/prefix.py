"""Which prompts each worker has seen lately: a guess at what its KV cache holds.

Engines drop the least recently used blocks, so this does too, of a bounded number for each worker.
"""

from collections import OrderedDict
from collections.abc import Sequence

from gateway.routing.blocks import Holders, Key

# Half a million tokens, about what an engine holds: of an 8B model 400,000 on one H100, of a 70B
# model 480,000 on four. A longer memory believes in blocks that are gone, which costs more than a
# shorter one misses.
BLOCKS_PER_WORKER = 2048


class PrefixMemory:
    def __init__(self, blocks_per_worker: int = BLOCKS_PER_WORKER) -> None:
        self._blocks_per_worker = blocks_per_worker
        self._holders = Holders()
        self._recent: dict[str, OrderedDict[Key, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._recent.values()))

    def depths(self, blocks: Sequence[Key]) -> dict[str, int]:
        """How many blocks of the prompt each worker has seen; one with none has no entry."""
        return self._holders.depths(blocks)

    def learn(self, worker_id: str, blocks: Sequence[Key]) -> int:
        """The worker computes this prompt now. How many of its blocks it had seen before."""
        recent = self._recent.get(worker_id)
        if recent is None:
            recent = self._recent[worker_id] = OrderedDict()
        blocks = blocks[: self._blocks_per_worker]
        depth = 0
        for key in blocks:
            if key not in recent:
                break
            depth += 1
        # From its end, so that a chain is forgotten from its end: a block is of no use without
        # those before it.
        for key in reversed(blocks):
            recent[key] = None
            recent.move_to_end(key)
        self._holders.add(worker_id, blocks[depth:])
        over = len(recent) - self._blocks_per_worker
        self._holders.remove(worker_id, [recent.popitem(last=False)[0] for _ in range(over)])
        return depth

    def forget(self, worker_id: str) -> None:
        self._holders.remove(worker_id, self._recent.pop(worker_id, ()))
        self._holders.forget(worker_id)

    def keep(self, worker_ids: frozenset[str]) -> None:
        """Forgets every worker but these."""
        for worker_id in self._recent.keys() - worker_ids:
            self.forget(worker_id)
