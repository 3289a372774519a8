"""What all values of the registry are."""

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True):
    pass
