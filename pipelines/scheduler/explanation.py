"""Why not, in words: for a refused gang over the whole fleet, for one plan node by node."""

from collections import defaultdict

import msgspec

from pipelines.scheduler.builds import Level
from pipelines.scheduler.filters import Obstacle, Reason, RuntimeOf, first_obstacle
from pipelines.scheduler.fleet import Fleet, role_key
from pipelines.scheduler.gangs import Job, Member, seat
from pipelines.scheduler.hosts import FABRIC_LABEL, Host
from pipelines.scheduler.proposal import Refusal, Why, some_of
from pipelines.scheduler.scorers import USUAL, Company
from pipelines.scheduler.search import Scope
from pipelines.scheduler.shapes import NOT, Shape
from registry.spec import Locality
from registry.state import WorkerPlan


class Verdict(msgspec.Struct, frozen=True):
    """What one node is for a plan: the devices it would give and its score, or why it has none."""

    node: str
    devices: tuple[str, ...] = ()
    score: float = 0.0
    reason: Reason | None = None
    sentence: str = ""


def verdicts(fleet: Fleet, plan: WorkerPlan, runtime_of: RuntimeOf) -> tuple[Verdict, ...]:
    """What each node of the fleet is for the plan alone, by name."""
    job = Job(fleet, (plan,), runtime_of)
    shape = job.members[0].shape
    partner = job.partners.get(plan.role)
    company = Company(fleet, role_key(plan), partner, plan.source, USUAL)
    found = []
    for host in fleet.hosts:
        fit = shape.fit(host.level)
        name = host.node.name
        if fit == NOT:
            obstacle = _obstacle(shape, host)
            found.append(Verdict(name, reason=obstacle.reason, sentence=obstacle.sentence))
        else:
            positions = shape.choose(host.build, host.free) or ()
            devices = tuple(host.devices[i].id for i in positions)
            score = USUAL.pack * fit + company.on(host)
            found.append(Verdict(name, devices=devices, score=round(score, 3)))
    return tuple(found)


def refusal(fleet: Fleet, job: Job, waits_for: tuple[str, ...] = ()) -> Refusal:
    """Why the gang has no place in the fleet as it is. It tries once more, to see who fails."""
    over = fleet.quotas.refusal(job.owner, job.devices, job.memory_bytes)
    if over:
        why = (Why(Reason.QUOTA, over),)
        return Refusal(gang=job.gang, plan=job.members[0].plan, why=why, waits_for=waits_for)
    failed: list[tuple[Member, tuple[Why, ...]]] = []

    def witness(member: Member, scope: Scope) -> None:
        if not failed:
            failed.append((member, _why(fleet, job, member, scope)))

    mark = fleet.mark()
    seat(fleet, job, USUAL, witness=witness)
    fleet.undo(mark)
    if not failed:  # nowhere even worth a try
        member = job.members[0]
        failed.append((member, _why(fleet, job, member, None)))
    member, whys = failed[0]
    return Refusal(gang=job.gang, plan=member.plan, why=whys, waits_for=waits_for)


def _why(fleet: Fleet, job: Job, member: Member, scope: Scope | None) -> tuple[Why, ...]:
    """Nodes that lack the same thing together, those that come nearest speaking for all."""
    together: dict[tuple[Reason, str], list[Obstacle]] = defaultdict(list)
    names: dict[tuple[Reason, str], list[str]] = defaultdict(list)
    by_level: dict[Level, Obstacle | None] = {}
    plain = member.shape
    for host in fleet.hosts:
        if host.foreign or host.level not in by_level:
            obstacle = None if plain.fit(host.level) != NOT else _obstacle(plain, host)
            if not host.foreign:
                by_level[host.level] = obstacle
        else:
            obstacle = by_level[host.level]
        if obstacle is None:
            obstacle = _too_far(fleet, job, host, scope)
        key = (obstacle.reason, obstacle.wants or obstacle.has)
        together[key].append(obstacle)
        names[key].append(host.node.name)
    order = list(Reason)
    keys = sorted(together, key=lambda key: (-len(names[key]), order.index(key[0]), key[1]))
    return tuple(Why(key[0], _together(together[key]), tuple(names[key])) for key in keys)


def _together(obstacles: list[Obstacle]) -> str:
    nearest = max(obstacles, key=lambda one: one.rank)
    if all(one.has == nearest.has for one in obstacles):
        return nearest.sentence
    return f"{nearest.wants}, at best {nearest.has}"


def _obstacle(shape: Shape, host: Host) -> Obstacle:
    """Why the host, which has no room, has none."""
    if host.foreign and first_obstacle(shape.wish, host.build) is None:
        with_foreign = list(host.free)
        for position, size in host.foreign.items():
            with_foreign[position] += size
        if shape.choose(host.build, tuple(with_foreign)) is not None:
            gib = sum(host.foreign.values()) / 2**30
            return Obstacle(
                Reason.IN_FOREIGN_USE,
                "",
                f"would have room, but {gib:.1f} GiB of its devices are in use by what is not ours",
            )
    return shape.obstacle(host.level)


def _too_far(fleet: Fleet, job: Job, host: Host, scope: Scope | None) -> Obstacle:
    """Why a node that has room for the worker is none for its gang."""
    living = job.living(fleet)
    kinds = {one.build.kind for one in living}
    if kinds and host.build.kind not in kinds:
        has = f"is {host.build.kind}, its gang is on {living[0].build.kind}"
        return Obstacle(Reason.DEVICE_KIND_DIFFERS, "", has)
    if job.locality is Locality.FABRIC and not host.fabric:
        return Obstacle(Reason.TOO_FAR, "", f"has no label {FABRIC_LABEL}")
    where = _WHERE[job.locality]
    if living and where and scope is not None and not scope.holds(host):
        near = some_of(tuple(sorted({one.node.name for one in living})))
        return Obstacle(Reason.TOO_FAR, "", f"has room, but must be of {where} with {near}")
    if len(job.gang) == 1 or (scope is not None and scope.holds(host)):
        return Obstacle(Reason.QUOTA, "", "has room, but more bytes than its owner may hold")
    has = f"has room, but not for all {len(job.gang)} of its gang"
    return Obstacle(Reason.TOO_FAR, "", f"{has} on {where}" if where else has)


_WHERE = {Locality.PREFER: "", Locality.NODE: "one node", Locality.FABRIC: "one fabric"}
