"""What the admin API answers about nodes, keys, audit and usage; models are in `views`."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.admin.views import View, iso, iso_or_none
from registry.state import (
    NANO,
    AccessRole,
    AuditEntry,
    BudgetPeriod,
    Claim,
    Device,
    DeviceKind,
    Key,
    KeyKind,
    KeyLimits,
    Lease,
    Node,
    NodeState,
    Priority,
)
from registry.usage import UsageTotal


class DeviceView(View, frozen=True, kw_only=True):
    """*used_bytes* is what was last seen in use, by whomever. With a *quarantine*, the sentence
    that says why, it takes nothing new; *overuse* says that its workers use more than they claim.
    """

    id: str
    index: int
    kind: DeviceKind
    model: str
    memory_bytes: int
    claimed_bytes: int
    free_bytes: int
    used_bytes: int
    uuid: str
    island: str
    quarantine: str
    overuse: str
    workers: tuple[str, ...]


class NodeView(View, frozen=True, kw_only=True):
    name: str
    address: str
    state: NodeState
    device_kind: DeviceKind
    runtimes: tuple[str, ...]
    labels: Mapping[str, str]
    sources: tuple[str, ...]  # whose weights lie there, ready to load
    last_seen_at: str
    devices: tuple[DeviceView, ...]


class NodeList(View, frozen=True, kw_only=True):
    items: tuple[NodeView, ...]


def node_views(
    nodes: Iterable[Node], devices: Iterable[Device], claims: Iterable[Claim]
) -> tuple[NodeView, ...]:
    """*devices* and *claims* may be others' too; they are gone through once for all nodes."""
    there, held = by_node(devices), by_device(claims)
    return tuple(
        NodeView(
            name=node.name,
            address=node.address,
            state=node.state,
            device_kind=node.device_kind,
            runtimes=node.runtimes,
            labels=node.labels,
            sources=node.sources,
            last_seen_at=iso(node.last_seen_at),
            devices=tuple(
                _device_view(device, held.get(device.id, ())) for device in there.get(node.name, ())
            ),
        )
        for node in nodes
    )


def by_node(devices: Iterable[Device]) -> dict[str, list[Device]]:
    """In the order of their indexes."""
    found: dict[str, list[Device]] = {}
    for device in sorted(devices, key=lambda item: item.index):
        found.setdefault(device.node, []).append(device)
    return found


def by_device(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.device_id, []).append(claim)
    return found


def _device_view(device: Device, held: Sequence[Claim]) -> DeviceView:
    claimed_bytes = sum(claim.memory_bytes for claim in held)
    return DeviceView(
        id=device.id,
        index=device.index,
        kind=device.kind,
        model=device.model,
        memory_bytes=device.memory_bytes,
        claimed_bytes=claimed_bytes,
        free_bytes=max(0, device.memory_bytes - claimed_bytes),
        used_bytes=device.used_bytes,
        uuid=device.uuid,
        island=device.island,
        quarantine=device.quarantine,
        overuse=device.overuse,
        workers=tuple(claim.worker_id for claim in held),
    )


class ControllerView(View, frozen=True, kw_only=True):
    """That *holder* leads, for *expires_in_s* if it does not renew. *epoch* counts the terms."""

    holder: str
    epoch: int
    expires_in_s: float


class ControllerList(View, frozen=True, kw_only=True):
    items: tuple[ControllerView, ...]


def controller_list(lease: Lease | None) -> ControllerList:
    """Empty where nobody leads: there was no lease yet, or it is over."""
    if lease is None or lease.expires_in_s <= 0:
        return ControllerList(items=())
    view = ControllerView(
        holder=lease.holder, epoch=lease.epoch, expires_in_s=round(lease.expires_in_s, 3)
    )
    return ControllerList(items=(view,))


class MoneyView(View, frozen=True, kw_only=True):
    """An *amount* in your currency, for a *period*."""

    amount: float
    period: BudgetPeriod


class KeyLimitsView(View, frozen=True, kw_only=True):
    """Over all gateway processes; 0, or no budget, is no limit."""

    requests_per_minute: int
    tokens_per_minute: int
    in_flight: int
    budget: MoneyView | None


class KeyView(View, frozen=True, kw_only=True):
    """*role* is what an admin key may do, null of others. *spent* is what its requests have cost in
    the present period of its budget, or in this month where it has none. *old_secret_until* is null
    unless the secret of before still opens it.
    """

    id: str
    name: str
    kind: KeyKind
    role: AccessRole | None
    models: tuple[str, ...]
    priority: Priority
    limits: KeyLimitsView
    spent: MoneyView
    state: str  # active, expired or revoked
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    old_secret_until: str | None


class KeyList(View, frozen=True, kw_only=True):
    items: tuple[KeyView, ...]


class NewKeyView(View, frozen=True, kw_only=True):
    """*secret* is shown this once; the registry keeps only its digest."""

    key: KeyView
    secret: str


def key_view(key: Key, *, now: float) -> KeyView:
    expired = key.expires_at is not None and key.expires_at <= now
    overlaps = key.old_expires_at is not None and key.old_expires_at > now
    return KeyView(
        id=key.id,
        name=key.name,
        kind=key.kind,
        role=key.role if key.kind is KeyKind.ADMIN else None,
        models=key.models,
        priority=key.priority,
        limits=_limits_view(key.limits),
        spent=_money(key.spent_nano, key.limits.budget_period),
        state="revoked" if key.revoked_at is not None else "expired" if expired else "active",
        created_at=iso(key.created_at),
        expires_at=iso_or_none(key.expires_at),
        revoked_at=iso_or_none(key.revoked_at),
        old_secret_until=iso_or_none(key.old_expires_at) if overlaps else None,
    )


def _limits_view(limits: KeyLimits) -> KeyLimitsView:
    budget = _money(limits.budget_nano, limits.budget_period) if limits.budget_nano else None
    return KeyLimitsView(
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        in_flight=limits.in_flight,
        budget=budget,
    )


def _money(nano: int, period: BudgetPeriod) -> MoneyView:
    return MoneyView(amount=nano / NANO, period=period)


class AuditView(View, frozen=True, kw_only=True):
    id: int
    at: str
    actor: str
    action: str
    object: str
    before_revision: int | None
    after_revision: int | None
    request_id: str
    client_ip: str


class AuditList(View, frozen=True, kw_only=True):
    items: tuple[AuditView, ...]
    last_id: int


def audit_view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.id,
        at=iso(entry.at),
        actor=entry.actor,
        action=entry.action,
        object=entry.object,
        before_revision=entry.before_revision,
        after_revision=entry.after_revision,
        request_id=entry.request_id,
        client_ip=entry.client_ip,
    )


class UsageView(View, frozen=True, kw_only=True):
    """A sum; what it was not asked to be told apart by is empty. *cost* is in your currency."""

    key_id: str
    key_name: str
    model: str
    day: str
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class UsageList(View, frozen=True, kw_only=True):
    items: tuple[UsageView, ...]


def usage_view(total: UsageTotal, key_names: Mapping[str, str]) -> UsageView:
    return UsageView(
        key_id=total.key_id,
        key_name=key_names.get(total.key_id, ""),
        model=total.model,
        day=total.day,
        requests=total.requests,
        errors=total.errors,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        cost=total.cost_nano / NANO,
    )
