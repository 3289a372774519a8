"""The only writer of what is true.

Each method is one transaction. A write leaves its event (and, asked for by a principal, its audit
row) in the same transaction; `scope.Write` does not commit a change without them.
"""

import time
from collections.abc import Callable
from typing import Self

from registry import db
from registry.state import Lease
from registry.store import leases
from registry.store.asked import Asked
from registry.store.observed import Observed
from registry.store.reads import Reads
from registry.store.scope import Scopes


class Store(Asked, Observed, Reads):
    """Safe to share between tasks of one event loop. Several may stand on one database, in one
    process or many. Every method can raise UnavailableError.
    """

    @classmethod
    async def open(cls, url: str, *, clock: Callable[[], float] = time.time) -> Self:
        """Raises SchemaError unless the database is at the schema version of this code."""
        return cls(Scopes(await db.open_checked(url), clock))

    async def aclose(self) -> None:
        await self._scopes.aclose()

    def fenced(self, lease: Lease) -> Self:
        """The same store for a leader: every write begins by checking that *lease* still holds, or
        raises LeadershipLostError and writes nothing. It closes with this one.
        """
        return type(self)(self._scopes.guarded(lambda write: leases.check(write, lease)))
