"""What owners hold, and may hold."""

from collections.abc import Iterable

from registry.state import Quota


class Quotas:
    """The count goes along with every taking and giving back of a `Fleet`. A device that two
    workers share counts for each, as in the registry.
    """

    def __init__(self, quotas: Iterable[Quota]) -> None:
        self._quotas = {quota.owner: quota for quota in quotas}
        self._devices: dict[str, int] = {}
        self._bytes: dict[str, int] = {}

    def count(self, owner: str, devices: int, memory_bytes: int) -> None:
        self._devices[owner] = self._devices.get(owner, 0) + devices
        self._bytes[owner] = self._bytes.get(owner, 0) + memory_bytes

    def refusal(self, owner: str, devices: int, memory_bytes: int = 0) -> str:
        """Why the owner may not have that much more, as a sentence, or ""."""
        quota = self._quotas.get(owner)
        if quota is None:
            return ""
        held, held_bytes = self._devices.get(owner, 0), self._bytes.get(owner, 0)
        if quota.devices is not None and held + devices > quota.devices:
            return (
                f"owner {owner} may hold {quota.devices} devices and holds {held}: "
                f"{devices} more are too many"
            )
        if quota.memory_bytes is not None and held_bytes + memory_bytes > quota.memory_bytes:
            return (
                f"owner {owner} may hold {quota.memory_bytes / 2**30:.1f} GiB and holds "
                f"{held_bytes / 2**30:.1f} GiB: {memory_bytes / 2**30:.1f} GiB more are too many"
            )
        return ""

    def bytes_left(self, owner: str) -> int | None:
        """None is no limit."""
        quota = self._quotas.get(owner)
        if quota is None or quota.memory_bytes is None:
            return None
        return quota.memory_bytes - self._bytes.get(owner, 0)
