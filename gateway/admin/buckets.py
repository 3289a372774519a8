"""Token buckets that bound how often something may be tried, in bounded memory. Pure."""

from collections import OrderedDict
from collections.abc import Hashable


class Buckets:
    """For each key *burst* tries at once, and one more every *every_s*; those of the *keys_max*
    keys that were tried last are remembered.
    """

    def __init__(self, *, burst: int, every_s: float, keys_max: int = 10_000) -> None:
        self._burst = burst
        self._every_s = every_s
        self._keys_max = keys_max
        # When the bucket is full again: a key that is not here has a full one.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, now: float) -> float:
        """0, or the seconds until there is one to take."""
        full_at = max(now, self._full_at.get(key, now))
        wait_s = full_at + self._every_s - (now + self._burst * self._every_s)
        if wait_s > 0:
            return wait_s
        self._full_at[key] = full_at + self._every_s
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """What was taken did not count."""
        if key in self._full_at:
            self._full_at[key] -= self._every_s

    def __len__(self) -> int:
        return len(self._full_at)
