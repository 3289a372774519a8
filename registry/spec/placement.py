"""Where a spec wishes its workers to be."""

import re
from enum import StrEnum

import msgspec

from registry.spec.checks import Strict, check_text, refuse

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")


class Locality(StrEnum):
    """How near each other the prefill and decode workers of a variant must be."""

    PREFER = "prefer"  # one node, else one fabric, else anywhere
    FABRIC = "fabric"  # nodes of one `fabric` label
    NODE = "node"


class Island(StrEnum):
    """Whether a worker's devices must be in one island, that is, joined by NVLink."""

    PREFER = "prefer"
    REQUIRE = "require"


class Placement(Strict, frozen=True, kw_only=True):
    """Wishes about where: node *labels* that must match, a *device_model* that must be part of
    the device's name (``H100``), one *island* for all devices of a worker.
    """

    labels: dict[str, str] = msgspec.field(default_factory=dict)
    device_model: str = ""
    island: Island = Island.PREFER

    def __post_init__(self) -> None:
        for key, value in self.labels.items():
            check_label(f"labels.{key[:80]}", key, value)
        check_text("device_model", self.device_model, 128)

    def with_role(self, role: "Placement") -> "Placement":
        """These wishes of a variant with those of one of its roles, which go first."""
        return Placement(
            labels={**self.labels, **role.labels},
            device_model=role.device_model or self.device_model,
            island=Island.REQUIRE if Island.REQUIRE in (self.island, role.island) else self.island,
        )


NO_WISHES = Placement()


def check_label(field: str, key: str, value: str) -> None:
    """Raises ValueError naming *field* for a label that no node can have."""
    if not _LABEL.fullmatch(key):
        refuse(field, "allowed are letters, digits, '.', '_', '/', '-'")
    check_text(field, value, 128)
