"""Models that sleep and wake on one device, for tests of who is awake."""

from fleets import GIB, a_device, a_node, a_snapshot, unified, with_spec, workers_of

from pipelines.topology import expand
from registry.state import Claim, Phase, Pool
from registry.traffic import Demand

NOW = 1_000.0


def asked(model, asked_at, *, in_flight=0, gateway="g", at=NOW):
    return Demand(at=at, gateway=gateway, model=model, in_flight=in_flight, asked_at=asked_at)


def waiting(model, since, *, queued=1, gateway="g", at=NOW):
    return Demand(
        at=at, gateway=gateway, model=model, queued=queued, oldest_at=since, asked_at=since
    )


def sleeping(model, *, memory_gib=64, demand=()):
    """(the snapshot, its workers): all of the model's sleep on one device and hold nothing."""
    workers = workers_of(model, Phase.ASLEEP, ready_at=1.0)
    claims = [Claim(worker_id=w.id, device_id="a/cpu0", memory_bytes=0) for w in workers]
    snapshot = a_snapshot(
        models=[model],
        nodes=[a_node("a")],
        devices=[a_device("a", 0, memory_bytes=memory_gib * GIB)],
        workers=workers,
        claims=claims,
        demand=demand,
    )
    return snapshot, workers


class Pooled:
    """One worker a model, named as it, of 4 GiB and the pool ``tail`` unless said otherwise."""

    def __init__(self, *, memory_gib, awake_min_s=10.0):
        self._memory_gib = memory_gib
        self._awake_min_s = awake_min_s
        self._models = {}
        self._workers = {}
        self._claims = {}
        self._demand = {}

    def awake(self, *names, since=1.0, **more):
        return self._add(names, Phase.READY, since, **more)

    def asleep(self, *names, **more):
        return self._add(names, Phase.ASLEEP, 1.0, **more)

    def falling(self, *names, **more):
        return self._add(names, Phase.FALLING_ASLEEP, 1.0, **more)

    def _add(self, names, phase, since, *, gib=4, held_gib=0, pool="tail", min_available=0):
        for name in names:
            model = with_spec(unified(name, memory=f"{gib}GiB"), pool=pool)
            if min_available:
                model = with_spec(model, topology={"min_available": min_available})
            ((plan,),) = expand(model)
            (worker,) = workers_of(model, phase, id=name, ready_at=since)
            assert worker.plan == plan
            held = held_gib if phase is Phase.ASLEEP else gib
            self._models[name] = model
            self._workers[name] = worker
            self._claims[name] = Claim(worker_id=name, device_id="a/cpu0", memory_bytes=held * GIB)
        return self

    def asks(self, name, since, *, ttft_s=0.0, queued=1):
        """Somebody waits for it."""
        self._demand[name] = waiting(name, since, queued=queued)
        self._models[name] = with_spec(self._models[name], slo={"ttft_s": ttft_s})
        return self

    def asked(self, name, at):
        self._demand[name] = asked(name, at)
        return self

    def busy(self, name, in_flight=1):
        self._demand[name] = asked(name, NOW, in_flight=in_flight)
        return self

    def owned(self, owner, *names):
        for name in names:
            self._models[name] = with_spec(self._models[name], owner=owner)
        return self

    def snapshot(self, *, quotas=()):
        return a_snapshot(
            models=self._models.values(),
            nodes=[a_node("a")],
            devices=[a_device("a", 0, memory_bytes=self._memory_gib * GIB)],
            workers=self._workers.values(),
            claims=self._claims.values(),
            demand=self._demand.values(),
            pools=[Pool(name="tail", awake_min_s=self._awake_min_s)],
            quotas=quotas,
        )
