"""Makes models, nodes and snapshots for tests of the pure parts."""

import msgspec

from pipelines.topology import expand
from registry.spec import from_data
from registry.state import (
    Device,
    DeviceKind,
    Model,
    Node,
    NodeState,
    Phase,
    Rollout,
    RolloutState,
    Snapshot,
    Worker,
)

GIB = 2**30


def a_model(
    name, topology, *, generation=1, revision=1, deleted=False, placement=None, engine="emulator"
):
    spec = from_data(
        {
            "name": name,
            "source": "file:///nowhere",
            "variants": [
                {"engine": engine, "topology": topology, "placement": placement or {}},
            ],
        }
    )
    return Model(
        name=name,
        generation=generation,
        revision=revision,
        spec=spec,
        created_at=0.0,
        updated_at=0.0,
        deleted=deleted,
        condition="",
    )


def with_spec(model, *, topology=None, **fields):
    """The model with other *fields* of its spec; *topology* goes into that of its first variant."""
    spec = msgspec.to_builtins(model.spec)
    into = spec["variants"][0]["topology"]
    for key, value in (topology or {}).items():
        into[key] = {**into.get(key, {}), **value} if isinstance(value, dict) else value
    return msgspec.structs.replace(model, spec=from_data({**spec, **fields}))


def runtime_of(plan, kind):
    return plan.runtime or f"{plan.engine}-on-{kind}"


def unified(name, *, workers=1, memory="4GiB", devices=1, args=None, **more):
    role = {"workers": workers, "memory": memory, "devices": devices, "args": args or {}}
    return a_model(name, {"type": "aggregated", **role}, **more)


def disaggregated(name, *, prefill=1, decode=1, memory="4GiB", devices=1, **more):
    role = {"memory": memory, "devices": devices}
    topology = {
        "type": "disaggregated",
        "prefill": {"workers": prefill, **role},
        "decode": {"workers": decode, **role},
    }
    return a_model(name, topology, **more)


def external(name, *, urls=(), prefill=(), decode=(), engine="emulator", model=None, **topology):
    """*urls* do both phases; *prefill* and *decode* are urls, or whole workers."""

    def workers(given):
        return [{"url": one} if isinstance(one, str) else one for one in given]

    roles = {"workers": workers(urls), "prefill": workers(prefill), "decode": workers(decode)}
    given = {role: listed for role, listed in roles.items() if listed}
    return a_model(name, {"type": "external", **given, **topology}, engine=engine, **(model or {}))


def a_node(
    name, *, state=NodeState.READY, labels=None, runtimes=None, kind=DeviceKind.CPU, sources=()
):
    known = ("builtin", "emulator-on-cpu", "vllm-on-cpu", "emulator-on-cuda")
    return Node(
        name=name,
        address="127.0.0.1",
        state=state,
        device_kind=kind,
        sources=tuple(sources),
        runtimes=known if runtimes is None else runtimes,
        labels=labels or {},
        last_seen_at=0.0,
    )


def a_device(node, index, *, memory_bytes=4 * GIB, model="cpu", kind=DeviceKind.CPU, **more):
    return Device(
        **more,
        id=f"{node}/{kind}{index}",
        node=node,
        index=index,
        kind=kind,
        model=model,
        memory_bytes=memory_bytes,
    )


def a_snapshot(
    *,
    models=(),
    nodes=(),
    devices=(),
    workers=(),
    ended=(),
    claims=(),
    keys=(),
    quotas=(),
    version=1,
):
    return Snapshot(
        version=version,
        models=tuple(models),
        nodes=tuple(nodes),
        devices=tuple(devices),
        workers=tuple(workers),
        ended=tuple(ended),
        claims=tuple(claims),
        keys=tuple(keys),
        quotas=tuple(quotas),
    )


def workers_of(model, phase=Phase.READY, **change):
    """One worker for each slot the model asks for."""
    return [a_worker(plan, phase, **change) for gang in expand(model) for plan in gang]


def a_worker(plan, phase=Phase.READY, **change):
    worker = Worker(
        id=f"{plan.model}-{plan.variant}-{plan.role}-{plan.ordinal}-{phase}",
        plan=plan,
        node="a",
        runtime="builtin",
        phase=phase,
        reason="",
        url="http://127.0.0.1:1",
        token="t",
        created_at=0.0,
        ready_at=1.0 if phase is Phase.READY else None,
        ended_at=None,
    )
    return msgspec.structs.replace(worker, **change)


def rolling_out(base, newest, percent, **change):
    """*newest* (of the next revision) on its way from *base*, where it takes *percent*."""
    rollout = Rollout(
        model=base.name,
        from_revision=base.revision,
        to_revision=base.revision + 1,
        base=base.spec,
        policy=newest.spec.rollout,
        state=RolloutState.PROGRESSING,
        step=0,
        percent=percent,
        step_at=0.0,
        reason="",
        created_at=0.0,
        ended_at=None,
    )
    rollout = msgspec.structs.replace(rollout, **change)
    return msgspec.structs.replace(newest, revision=base.revision + 1, rollout=rollout)
