"""The models: their sizes, how fast an engine serves them, how long they sleep and wake.

Nothing of it is measured: it follows from the data sheet of one H100 (SXM, 80 GB) by usual shares
of it that README.md names.
"""

from random import Random
from typing import NamedTuple

GIB = 2**30

# The data sheet's: bf16 without sparsity, HBM3, and one direction of PCIe 5.0 x16.
FLOPS = 989e12
HBM_BYTES_S = 3.35e12
PCIE_BYTES_S = 64e9
# What engines usually get of these.
FLOPS_SHARE = 0.4
HBM_SHARE = 0.7
PCIE_SHARE = 0.4
# From stopped: processes, libraries, graphs; then weights from a local disk.
START_S = 40.0
DISK_BYTES_S = 3e9
# From asleep: what is not the copy of the weights.
WAKE_S = 0.5
# What a sleeping engine keeps of its device: contexts, graphs.
KEPT_BYTES = 1 * GIB
BATCH_MAX = 32


class Size(NamedTuple):
    """*claim_gib*: weights and the KV cache of a full batch; *kv_bytes* of one token."""

    parameters: float
    claim_gib: int
    kv_bytes: int

    @property
    def weights_bytes(self) -> float:
        return 2 * self.parameters

    @property
    def prefill_tokens_s(self) -> float:
        """Bound by arithmetic: two operations for each parameter and token."""
        return FLOPS_SHARE * FLOPS / (2 * self.parameters)

    def step_s(self, running: int, context_tokens: float) -> float:
        """Of one token for each of *running* answers: bound by what is read, weights and caches."""
        read = self.weights_bytes + running * context_tokens * self.kv_bytes
        return read / (HBM_SHARE * HBM_BYTES_S)

    @property
    def copy_s(self) -> float:
        """Of the weights, from the host's memory or to it."""
        return self.weights_bytes / (PCIE_SHARE * PCIE_BYTES_S)

    @property
    def wake_s(self) -> float:
        return WAKE_S + self.copy_s

    @property
    def start_s(self) -> float:
        return START_S + self.weights_bytes / DISK_BYTES_S


SIZES = (Size(8e9, 22, 131_072), Size(14e9, 36, 196_608), Size(32e9, 70, 262_144))
_OF_SIZE = (20, 14, 6)  # of forty


class Served(NamedTuple):
    """*share* is its part of all requests."""

    name: str
    size: Size
    share: float


def catalog(count: int, *, exponent: float, seed: int) -> tuple[Served, ...]:
    """*count* models whose popularity is Zipf's, with sizes drawn by *seed*."""
    chance = Random(seed)
    weights = [1 / (rank + 1) ** exponent for rank in range(count)]
    total = sum(weights)
    return tuple(
        Served(f"m{n:02}", chance.choices(SIZES, weights=_OF_SIZE)[0], weight / total)
        for n, weight in enumerate(weights)
    )
