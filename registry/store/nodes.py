"""Nodes and their devices, as they report themselves."""

from collections.abc import Iterable

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from registry import rows
from registry import tables as t
from registry.errors import ConflictError, NotFoundError, SpecError
from registry.state import Device, DeviceKind, EventKind, Node, NodeReport, NodeState
from registry.store.plain import columns, plain
from registry.store.scope import Write

# Where external workers are: on no node of ours. The workers' foreign key wants a row all the
# same, which is no node's and which nobody is shown.
NOWHERE = ""
_VERBS = {
    NodeState.READY: "uncordon",
    NodeState.CORDONED: "cordon",
    NodeState.DRAINING: "drain",
}


async def add_nowhere(write: Write) -> None:
    if await write.session.get(t.NodeRow, NOWHERE) is None:
        write.session.add(
            t.NodeRow(
                name=NOWHERE,
                address="",
                cordoned=True,
                silent=True,
                device_kind=DeviceKind.CPU,
                runtimes=rows.names_text(()),
                labels=rows.labels_text({}),
                last_seen_at=write.now,
                draining=False,
                sources=rows.names_text(()),
            )
        )
        await write.session.flush()


async def report(write: Write, reports: tuple[NodeReport, ...]) -> None:
    """Takes over what the nodes say. Only what really changed is news."""
    write.quiet("that a node is still there")
    for told in reports:
        changes = await _merge_node(write, told)
        changes += await _merge_devices(write, told)
        if changes:
            write.event(EventKind.NODE_CHANGED, ", ".join(changes), node=told.name)


async def _merge_node(write: Write, told: NodeReport) -> list[str]:
    """Returns what changed, in words."""
    facts = {
        "address": told.address,
        "device_kind": str(told.device_kind),
        "runtimes": rows.names_text(told.runtimes),
        "labels": rows.labels_text(told.labels),
        "sources": rows.names_text(told.sources),
    }
    row = await write.session.get(t.NodeRow, told.name)
    if row is None:
        write.session.add(
            t.NodeRow(
                name=told.name,
                cordoned=False,
                draining=False,
                silent=False,
                last_seen_at=write.now,
                **facts,
            )
        )
        await write.session.flush()  # its devices refer to it
        return ["joined"]
    changes = [f"{name} changed" for name, value in facts.items() if getattr(row, name) != value]
    if row.silent:
        changes.append("is back")
    row.silent = False
    row.last_seen_at = write.now
    for name, value in facts.items():
        setattr(row, name, value)
    return changes


async def _merge_devices(write: Write, told: NodeReport) -> list[str]:
    found = await write.session.scalars(select(t.DeviceRow).where(t.DeviceRow.node == told.name))
    known = {row.id: row for row in found}
    changes = []
    for device in told.devices:
        assert device.node == told.name, f"{told.name} reports {device.id} of {device.node}"
        row = known.pop(device.id, None)
        if row is None:
            write.session.add(_device_row(device))
            changes.append(f"{device.id} appeared")
        else:
            changes += _update_device(row, device)
    for row in known.values():
        changes += await _retire_device(write, row)
    return changes


def _device_row(device: Device) -> t.DeviceRow:
    return t.DeviceRow(
        id=device.id,
        node=device.node,
        index=device.index,
        kind=device.kind,
        model=device.model,
        memory_bytes=device.memory_bytes,
        claimed_bytes=0,
        uuid=device.uuid,
        island=device.island,
        used_bytes=device.used_bytes,
        quarantine=device.quarantine,
        overuse=device.overuse,
    )


def _update_device(row: t.DeviceRow, device: Device) -> list[str]:
    """Returns what changed, in words. A device that shrank keeps what is claimed of it until those
    claims end. What it has in use changes all the time and is no news.
    """
    row.used_bytes = device.used_bytes
    changes = []
    if bool(row.overuse) != bool(device.overuse):
        within = "its workers use no more than they claim"
        changes.append(f"{row.id}: {device.overuse or within}")
    row.overuse = device.overuse
    if row.quarantine != device.quarantine:
        row.quarantine = device.quarantine
        changes.append(
            f"{row.id} in quarantine: {row.quarantine}"
            if row.quarantine
            else f"{row.id} out of quarantine"
        )
    facts = {
        "index": device.index,
        "kind": str(device.kind),
        "model": device.model,
        "memory_bytes": max(device.memory_bytes, row.claimed_bytes),
        "uuid": device.uuid,
        "island": device.island,
    }
    if any(getattr(row, name) != value for name, value in facts.items()):
        changes.append(f"{row.id} changed")
    for name, value in facts.items():
        setattr(row, name, value)
    return changes


async def _retire_device(write: Write, row: t.DeviceRow) -> list[str]:
    """A vanished device with claims stays listed with exactly those: it offers nothing more. A
    sleeping worker may have claims of nothing on it.
    """
    claims = await write.session.scalar(
        select(func.count()).select_from(t.ClaimRow).where(t.ClaimRow.device_id == row.id)
    )
    if not claims:
        await write.session.delete(row)
        return [f"{row.id} vanished"]
    if row.memory_bytes == row.claimed_bytes:
        return []
    row.memory_bytes = row.claimed_bytes
    return [f"{row.id} vanished, still claimed"]


async def mark_unknown(write: Write, names: Iterable[str], why: str) -> None:
    silent = await write.session.scalars(
        select(t.NodeRow).where(t.NodeRow.name.in_(tuple(names)), ~t.NodeRow.silent)
    )
    for row in silent:
        row.silent = True
        write.event(EventKind.NODE_CHANGED, why, node=row.name)


async def forget(write: Write, name: str) -> None:
    """Its devices and the history of its workers go with it. Raises NotFoundError, and
    ConflictError for a node that answers or still has workers.
    """
    row = await _row(write.session, name)
    if not row.silent:
        raise ConflictError(
            f"node {name!r} is {rows.node_state(row)}, only a node that is unknown can be "
            "forgotten: take it out of the cluster first"
        )
    live = await write.session.scalar(
        select(func.count())
        .select_from(t.WorkerRow)
        .where(t.WorkerRow.node == name, t.WorkerRow.ended_at.is_(None))
    )
    if live:
        raise ConflictError(f"node {name!r} still has {live} workers: wait until they are lost")
    await write.session.execute(delete(t.WorkerRow).where(t.WorkerRow.node == name))
    await write.session.execute(delete(t.DeviceRow).where(t.DeviceRow.node == name))
    await write.session.delete(row)
    write.event(EventKind.NODE_CHANGED, "forgotten", node=name)
    write.audit("node.forget", name)


async def set_state(write: Write, name: str, state: NodeState) -> Node:
    """Cordons, drains, or lets take new workers again. Raises NotFoundError, SpecError."""
    if state is NodeState.UNKNOWN:
        raise SpecError("state", "is unknown, allowed are ready, cordoned, draining")
    row = await _row(write.session, name)
    wanted = (state is not NodeState.READY, state is NodeState.DRAINING)
    if (row.cordoned, row.draining) != wanted:
        row.cordoned, row.draining = wanted
        verb = _VERBS[state]
        write.event(EventKind.NODE_CHANGED, f"{verb}ed", node=name)
        write.audit(f"node.{verb}", name)
    return rows.node(row)


async def _row(session: AsyncSession, name: str) -> t.NodeRow:
    row = None if name == NOWHERE else await session.get(t.NodeRow, name)
    if row is None:
        raise NotFoundError("node", name)
    return row


async def every(session: AsyncSession) -> tuple[Node, ...]:
    query = columns(t.NodeRow).where(t.NodeRow.name != NOWHERE).order_by(t.NodeRow.name)
    return tuple(map(rows.node, await plain(session, t.NodeRow, query)))


async def devices(session: AsyncSession) -> tuple[Device, ...]:
    order = (t.DeviceRow.node, t.DeviceRow.kind, t.DeviceRow.index)
    query = columns(t.DeviceRow).order_by(*order)
    return tuple(map(rows.device, await plain(session, t.DeviceRow, query)))
