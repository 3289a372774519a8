"""A gang takes its seats, all of them or none."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pipelines.scheduler.builds import Level
from pipelines.scheduler.devices import after, suits
from pipelines.scheduler.filters import RuntimeOf
from pipelines.scheduler.fleet import Fleet, RoleKey, planned, role_key
from pipelines.scheduler.hosts import Host
from pipelines.scheduler.scorers import Company, Weights
from pipelines.scheduler.search import EVERYWHERE, Scope, find
from pipelines.scheduler.shapes import Shape
from pipelines.topology import Gang, expand
from registry.spec import Locality, Role
from registry.state import DeviceKind, PlannedGang, WorkerPlan

ORDERS_MAX = 6  # in which a gang's workers are tried, the one that found no place first
FABRICS_MAX = 64  # that are tried for one gang

_PARTNER = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}
KINDS = (DeviceKind.CUDA, DeviceKind.CPU)


class Member(NamedTuple):
    plan: WorkerPlan
    shape: Shape


class Seat(NamedTuple):
    plan: WorkerPlan
    shape: Shape
    host: Host
    positions: tuple[int, ...]


# Told which member found no place in which scope, while the others still have theirs.
Witness = Callable[[Member, Scope], None]


class Job:
    """A gang to place, with what is known of it before: its shapes, hardest member first, and the
    living workers of its variant.
    """

    def __init__(self, fleet: Fleet, gang: Gang, runtime_of: RuntimeOf) -> None:
        self.gang = gang
        members = [Member(plan, fleet.shapes.of(plan, runtime_of)) for plan in gang]
        members.sort(key=lambda m: (-m.shape.demand, -m.plan.memory_bytes, m.plan.slot))
        self.members = tuple(members)
        first = gang[0]
        self.owner, self.priority, self.locality = first.owner, first.priority, first.locality
        self.devices = sum(plan.devices for plan in gang)
        self.takes_wholes = not all(plan.memory_bytes for plan in gang)
        self.memory_bytes = sum(plan.devices * plan.memory_bytes for plan in gang)
        self.demand = sum(shape.demand for _, shape in members)
        hardest = self.demand if self.locality is Locality.NODE else members[0].shape.demand
        self.rank = (-self.priority, -hardest, -self.demand)
        self.partners = self._partners(fleet)
        self.is_pair = bool(self.partners)
        self.shape_of = {member.plan.role: member.shape for member in members}

    def _partners(self, fleet: Fleet) -> dict[Role, RoleKey]:
        """For each role of a pair the key of the other one, as its spec now wants it."""
        keys = {plan.role: role_key(plan) for plan in self.gang if plan.role in _PARTNER}
        if not keys:
            return {}
        first = self.gang[0]
        if len(keys) < len(_PARTNER) and (model := fleet.standings.model(first.model)):
            for gang in expand(model):
                for plan in gang:
                    if plan.variant == first.variant and plan.role in _PARTNER:
                        keys.setdefault(plan.role, role_key(plan))
        return {role: keys[other] for role, other in _PARTNER.items() if other in keys}

    def living(self, fleet: Fleet) -> list[Host]:
        """Where prefill and decode workers of the variant are already."""
        numbers = {
            number
            for key in {*self.partners.values(), *(role_key(p) for p in self.gang)}
            for number in fleet.roles.get(key, {})
        }
        return [fleet.hosts[number] for number in sorted(numbers)]


def seat(
    fleet: Fleet,
    job: Job,
    weights: Weights,
    *,
    within: Scope | None = None,
    witness: Witness | None = None,
) -> list[Seat] | None:
    """Takes a place for every member and says which; or takes nothing."""
    if fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes):
        return None
    for scope in [within] if within is not None else scopes(fleet, job):
        seats = _seat_within(fleet, job, weights, scope, witness)
        if seats is not None:
            return seats
    return None


def as_planned(seats: Sequence[Seat]) -> PlannedGang:
    return PlannedGang(workers=tuple(planned(*one) for one in seats))


def _seat_within(
    fleet: Fleet, job: Job, weights: Weights, scope: Scope, witness: Witness | None
) -> list[Seat] | None:
    """Tries the members in turn; one that finds no place goes first in the next try, since those
    before it may have taken what only it needs.
    """
    order = list(job.members)
    mark = fleet.mark()
    tried: set[Shape] = set()
    for _ in range(ORDERS_MAX):
        seats: list[Seat] = []
        for member in order:
            taken = seat_one(fleet, job, member, weights, scope)
            if taken is None:
                break
            seats.append(taken)
        else:
            return seats
        failed = order[len(seats)]
        if witness is not None:
            witness(failed, scope)
        fleet.undo(mark)
        if not seats or failed.shape in tried:
            return None
        tried.add(failed.shape)
        order.remove(failed)
        order.insert(0, failed)
    return None


def seat_one(fleet: Fleet, job: Job, member: Member, weights: Weights, scope: Scope) -> Seat | None:
    """Takes the best place there is for one member, if there is one."""
    plan, shape = member
    partner = job.partners.get(plan.role)
    company = Company(fleet, role_key(plan), partner, plan.source, weights)
    beside = None
    if partner is not None and not company.near_hosts:
        beside = job.shape_of.get(_PARTNER[plan.role])
    # What whole devices have is not known before they are chosen: shares have to fit beside them.
    bytes_left = fleet.quotas.bytes_left(job.owner) if job.takes_wholes else None
    host = find(fleet, shape, company, scope, beside=beside, bytes_left=bytes_left)
    if host is None:
        return None
    positions = shape.choose(host.build, host.free)
    assert positions is not None, "it was found to have room"
    fleet.take(plan, shape, host, positions)
    return Seat(plan, shape, host, positions)


def scopes(fleet: Fleet, job: Job) -> Iterator[Scope]:
    """Where the gang may be as a whole, the best first: pairs are on one kind of device, and as
    near as they must be.
    """
    if not job.is_pair:
        yield EVERYWHERE
        return
    living = job.living(fleet)
    kinds = {host.build.kind for host in living}
    for kind in [kind for kind in KINDS if kind in (kinds or fleet.shapes.kinds())]:
        if job.locality is Locality.PREFER:
            yield Scope(kind=kind)
        elif job.locality is Locality.FABRIC:
            yield from _fabrics(job, living, kind)
        elif living:
            yield from (Scope(kind=kind, host=host.number) for host in living)
        else:
            yield from _single_nodes(job, kind)


def _fabrics(job: Job, living: list[Host], kind: DeviceKind) -> Iterator[Scope]:
    """The tightest first: those where the fewest hosts have room for the hardest member."""
    if living:
        for fabric in sorted({host.fabric for host in living} - {""}):
            yield Scope(kind=kind, fabric=fabric)
        return
    counts: list[dict[str, int]] = []
    for shape in job.shape_of.values():
        fitting: dict[str, int] = {}
        for offer in shape.offers:
            for level in offer.build.levels:
                if offer.build.kind is kind and shape.fit(level) >= 0:
                    for (_, fabric), group in level.groups.items():
                        fitting[fabric] = fitting.get(fabric, 0) + len(group.members)
        counts.append(fitting)
    able = set.intersection(*(set(fitting) for fitting in counts)) - {""}
    hardest = counts[0]
    for fabric in sorted(able, key=lambda fabric: (hardest[fabric], fabric))[:FABRICS_MAX]:
        yield Scope(kind=kind, fabric=fabric)


def _single_nodes(job: Job, kind: DeviceKind) -> Iterator[Scope]:
    """The host that holds the whole gang and suits it best."""
    best: tuple[float, int] | None = None
    for offer in job.members[0].shape.offers:
        if offer.build.kind is not kind:
            continue
        for level in offer.build.levels:
            suited = suits_all(job, level)
            if suited is not None:
                candidate = (-suited, level.first())
                best = candidate if best is None else min(best, candidate)
    if best is not None:
        yield Scope(kind=kind, host=best[1])


def suits_all(job: Job, level: Level) -> float | None:
    """How well a host of the level suits the whole gang, None if it cannot hold it."""
    build, free, suited = level.build, level.free, 0.0
    for _, shape in job.members:
        positions = shape.choose(build, free)
        if positions is None:
            return None
        suited += suits(build, build.worth(free), free, positions, shape.memory_bytes)
        free = after(build, free, positions, shape.memory_bytes)
    return suited / len(job.members)
