"""CPU slots: room for at least one small worker each, and never more memory than there is."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.cluster.inventory import (
    CPU_RESERVED_BYTES,
    CPU_SLOT_BYTES_MIN,
    cpu_slots,
)
from pipelines.cluster.nvml import DriverNvml

GIB = 2**30


def test_the_machine_of_the_starter_has_room_for_its_three_workers():
    slots = cpu_slots("n", memory_bytes=24 * GIB, cores=2)

    assert len(slots) >= 3
    assert all(slot.memory_bytes >= 4 * GIB for slot in slots)


@given(st.integers(GIB, 2048 * GIB), st.integers(1, 256))
def test_slots_share_the_memory_and_leave_the_system_its_own(memory_bytes, cores):
    slots = cpu_slots("n", memory_bytes=memory_bytes, cores=cores)
    total = sum(slot.memory_bytes for slot in slots)

    assert 1 <= len(slots) <= 4 * cores
    assert total <= max(memory_bytes - CPU_RESERVED_BYTES, memory_bytes // 2)
    assert len(slots) == 1 or slots[0].memory_bytes >= CPU_SLOT_BYTES_MIN
    assert len({slot.id for slot in slots}) == len(slots)


def test_the_operators_own_number_of_slots_is_taken():
    assert len(cpu_slots("n", memory_bytes=8 * GIB, cores=1, wanted=12)) == 12


def test_a_machine_without_a_driver_offers_no_gpu():
    assert DriverNvml().look() == ()
