"""One client, one variant: weighted rendezvous hashing over a model's rows. Pure.

A row's score is its weight over -ln(u), with u a hash of client and row. The row of the greatest
score has the client, and so each row has its weight's share of all clients. If weights change, they
go only to rows that have gained. The revision is chosen first: in a rollout whoever is at the new
one stays there while its percentage grows. Then comes the variant, hashed by its name alone: who
goes over to the other revision finds the same variant there.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from gateway.routing.session import digest
from gateway.routing.table import VariantRow

_MASK = (1 << 64) - 1
_TOP_BITS = 53  # a float's
_label_digest = lru_cache(maxsize=4096)(digest)


def stick(rows: Sequence[VariantRow], client: str) -> VariantRow:
    """The row of *client* among *rows* (not empty). One of weight 0 only if all are."""
    mine = digest(client)
    revisions: dict[int, int] = {}
    for row in rows:
        revisions[row.revision] = revisions.get(row.revision, 0) + row.weight
    if len(revisions) > 1:
        chosen = max(revisions, key=lambda number: _score(mine, f"{number}", revisions[number]))
        rows = [row for row in rows if row.revision == chosen]
    if len(rows) == 1:
        return rows[0]
    return max(rows, key=lambda row: _score(mine, row.name, row.weight))


def _score(client: int, label: str, weight: int) -> float:
    # The finalizer of MurmurHash3: each bit of both hangs on in the top ones.
    mixed = client ^ _label_digest(label)
    mixed = ((mixed ^ (mixed >> 33)) * 0xFF51AFD7ED558CCD) & _MASK
    mixed = ((mixed ^ (mixed >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK
    top = (mixed ^ (mixed >> 33)) >> (64 - _TOP_BITS)
    return weight / -math.log((top + 0.5) / (1 << _TOP_BITS))
