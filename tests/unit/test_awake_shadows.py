"""A shadow's answers reach nobody: that it is up is no reason for its model to sleep on."""

import msgspec
from awake_world import NOW, waiting
from fleets import GIB, a_device, a_model, a_node, a_snapshot, workers_of

from pipelines.awake import arrange
from registry.spec import from_data
from registry.state import Claim, Phase

replace = msgspec.structs.replace


def two(*, serves, shadows, room_gib):
    """(the snapshot, who serves, its shadow): each on a device of its own, the first of 4 GiB and
    in use but for *room_gib*.
    """
    model = a_model("m", {"type": "aggregated", "memory": "4GiB"})
    spec = msgspec.to_builtins(model.spec)
    (variant,) = spec["variants"]
    shadow = {**variant, "name": "shadow", "weight": 0, "shadow_percent": 10}
    spec = from_data({**spec, "pool": "tail", "variants": [shadow, {**variant, "name": "main"}]})
    model = replace(model, spec=spec)
    by_name = {worker.plan.variant: worker for worker in workers_of(model)}
    main = replace(by_name["main"], id="main", phase=serves)
    other = replace(by_name["shadow"], id="shadow", phase=shadows, ready_at=1.0)
    sizes = {"main": 0, "shadow": 4 * GIB if shadows is Phase.READY else 0}
    claims = [
        Claim(worker_id="main", device_id="a/cpu0", memory_bytes=sizes["main"]),
        Claim(worker_id="shadow", device_id="a/cpu1", memory_bytes=sizes["shadow"]),
        Claim(worker_id="others", device_id="a/cpu0", memory_bytes=(4 - room_gib) * GIB),
    ]
    return a_snapshot(
        models=[model],
        nodes=[a_node("a")],
        devices=[a_device("a", n, memory_bytes=4 * GIB) for n in range(2)],
        workers=[main, other],
        claims=claims,
        demand=[waiting("m", NOW - 11)],
    )


def test_a_model_of_which_only_a_shadow_is_up_is_waited_for():
    snapshot = two(serves=Phase.ASLEEP, shadows=Phase.READY, room_gib=3)

    assert arrange(snapshot, NOW).leave.keys() == {"main"}, "it waits, and cannot wake there"


def test_a_shadow_does_not_wake_in_place_of_who_serves():
    snapshot = two(serves=Phase.ASLEEP, shadows=Phase.ASLEEP, room_gib=3)

    assert arrange(snapshot, NOW).leave.keys() == {"main"}
