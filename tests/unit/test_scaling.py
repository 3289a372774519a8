"""The autoscaler's shell: when it looks, and what it reads for that."""

from fleets import a_snapshot, unified, with_spec

from pipelines.scaling import LOOK_EVERY_S, Scaling


class Ground:
    """A store and what is measured, at *now*."""

    def __init__(self):
        self.now = 1000.0
        self.asked = 0

    async def traffic(self, since):
        self.asked += 1
        return ()

    def every(self):
        return {}


async def test_it_reads_what_gateways_tell_only_where_a_role_follows_its_load():
    ground = Ground()
    scaling = Scaling(ground, lambda: ground.now)
    fixed = unified("m")
    follows = with_spec(fixed, topology={"autoscale": {"workers_max": 3}})

    await scaling.look(a_snapshot(models=[fixed]), ground)
    assert ground.asked == 0
    ground.now += LOOK_EVERY_S
    for _ in range(2):
        await scaling.look(a_snapshot(models=[follows]), ground)
    assert ground.asked == 1


async def test_a_clock_that_is_set_back_does_not_stop_it():
    ground = Ground()
    scaling = Scaling(ground, lambda: ground.now)
    snapshot = a_snapshot(
        models=[with_spec(unified("m"), topology={"autoscale": {"workers_max": 3}})]
    )

    await scaling.look(snapshot, ground)
    ground.now -= 900
    await scaling.look(snapshot, ground)
    assert ground.asked == 2
