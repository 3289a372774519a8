"""What can be placed where, under the rules of `rules.py`, as a model for OR-tools' CP-SAT.

Equal workers are counted, not named: how many of a shape are on a node. Whole devices of a node
(of an island, where one is required) are counted too; only what shares devices is put on one by
one. A worker of k devices in shares needs k different ones: counts y of its shape on each device
are k to each worker and at most one for each, which suffices (deal them out in turn).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ortools.sat.python import cp_model
from simulation.scheduling.rules import (
    held,
    may_hold,
    suits,
    wants_island,
    worth,
)
from simulation.scheduling.worlds import GIB, World

from pipelines.topology import Gang
from registry.spec import Locality
from registry.state import (
    Device,
    Node,
    PlannedGang,
    WorkerPlan,
)

Shape = tuple[object, ...]
Linear = cp_model.LinearExprT


def shape_of(plan: WorkerPlan) -> Shape:
    """What decides where a worker fits. Equal ones are interchangeable."""
    wish = plan.placement
    labels = tuple(sorted(wish.labels.items()))
    runtime = (plan.engine, plan.runtime)
    return plan.devices, plan.memory_bytes, wants_island(plan), wish.device_model, labels, runtime


class _Unit:
    """Gangs that are alike: *most* of them can be placed. *parts* are its shapes and how many
    workers of each one gang has.
    """

    def __init__(self, gangs: list[Gang]) -> None:
        self.gangs = gangs
        self.plans = gangs[0]
        self.parts = Counter(shape_of(plan) for plan in gangs[0])
        self.locality = gangs[0][0].locality if len(gangs[0]) > 1 else Locality.PREFER
        self.owner = gangs[0][0].owner
        self.devices = sum(plan.devices for plan in gangs[0])
        self.worth = worth(gangs[0])


def _units(gangs: Iterable[Gang]) -> list[_Unit]:
    alike: dict[object, list[Gang]] = defaultdict(list)
    for gang in gangs:
        first = gang[0]
        parts = tuple(sorted(map(repr, map(shape_of, gang))))
        alike[parts, first.locality, first.owner, worth(gang)].append(gang)
    units: list[_Unit] = []
    for some in alike.values():
        together = len(some[0]) > 1 and some[0][0].locality is not Locality.PREFER
        units += [_Unit([gang]) for gang in some] if together else [_Unit(some)]
    return units


class Place:
    """A node with what of it can be given out: whole devices by island, and what is left of each
    device that may be shared.
    """

    def __init__(self, node: Node, devices: Sequence[Device], taken: Counter[str]) -> None:
        self.node = node
        self.devices = [device for device in devices if not device.quarantine]
        self.free_gib = {
            device.id: (device.memory_bytes - taken[device.id]) // GIB for device in self.devices
        }
        self.whole = [device for device in self.devices if not taken[device.id]]
        self.islands = sorted({device.island for device in self.devices} - {""})

    def rooms(self, plan: WorkerPlan, island: str = "") -> list[Device]:
        """The devices that could take the plan, were it alone."""
        return [
            device
            for device in self.devices
            if suits(plan, device)
            and (not island or device.island == island)
            and (
                self.free_gib[device.id] >= plan.memory_bytes // GIB
                if plan.memory_bytes
                else device in self.whole
            )
        ]

    def at_most(self, plan: WorkerPlan) -> int:
        """An upper bound of how many workers like this it can take."""
        if not may_hold(plan, self.node):
            return 0
        parts = (
            [self.rooms(plan, island) for island in self.islands]
            if wants_island(plan)
            else [self.rooms(plan)]
        )
        return sum(self.at_most_on(plan, rooms) for rooms in parts)

    def at_most_on(self, plan: WorkerPlan, rooms: list[Device]) -> int:
        if len(rooms) < plan.devices:
            return 0
        if not plan.memory_bytes:
            return len(rooms) // plan.devices
        each = [self.free_gib[device.id] * GIB // plan.memory_bytes for device in rooms]
        return sum(each) // plan.devices


class Problem:
    """The model: variables by shape and node, and the constraints between them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = cp_model.CpModel()
        self.units = _units(world.gangs)
        self.plans = {shape_of(plan): plan for unit in self.units for plan in unit.plans}
        self.places = _places(world)
        self.placed: list[Linear] = []  # of each unit
        self.of_unit: dict[tuple[int, Shape, str], cp_model.IntVar] = {}
        self.on_node: dict[tuple[Shape, str], Linear] = {}
        self.in_island: dict[tuple[Shape, str, str], cp_model.IntVar] = {}
        self.on_device: dict[tuple[Shape, str], cp_model.IntVar] = {}
        self.shared: dict[str, cp_model.IntVar] = {}
        for number, unit in enumerate(self.units):
            self._add_unit(number, unit)
        for place in self.places:
            self._add_place(place)
        self._add_quotas()
        self.model.maximize(
            sum(unit.worth * placed for unit, placed in zip(self.units, self.placed, strict=True))
        )

    def _add_unit(self, number: int, unit: _Unit) -> None:
        placed = self.model.new_int_var(0, len(unit.gangs), f"u{number}")
        self.placed.append(placed)
        for shape, count in unit.parts.items():
            plan = self.plans[shape]
            own = []
            for place in self.places:
                most = min(place.at_most(plan), count * len(unit.gangs))
                if most:
                    name = place.node.name
                    own.append(self.model.new_int_var(0, most, f"x{number}"))
                    self.of_unit[number, shape, name] = own[-1]
            self.model.add(sum(own) == count * placed)
        if unit.locality is not Locality.PREFER:
            self._keep_together(number, unit, placed)

    def _keep_together(self, number: int, unit: _Unit, placed: cp_model.IntVar) -> None:
        """One node or fabric has all of the gang."""
        groups: dict[str, list[str]] = defaultdict(list)
        for place in self.places:
            label = place.node.labels.get("fabric", "") or place.node.name
            name = place.node.name
            groups[name if unit.locality is Locality.NODE else label].append(name)
        chosen = []
        for names in groups.values():
            sums = {
                shape: [v for n in names if (v := self.of_unit.get((number, shape, n))) is not None]
                for shape in unit.parts
            }
            here = self.model.new_bool_var("")
            chosen.append(here)
            for shape, count in unit.parts.items():
                self.model.add(sum(sums[shape]) == count * here)
        self.model.add(sum(chosen) == placed)

    def _add_place(self, place: Place) -> None:
        name = place.node.name
        totals: dict[Shape, list[cp_model.IntVar]] = defaultdict(list)
        for (_, shape, node), var in self.of_unit.items():
            if node == name:
                totals[shape].append(var)
        for shape, some in totals.items():
            self.on_node[shape, name] = sum(some)
        shares = [shape for shape in totals if self.plans[shape].memory_bytes]
        wholes = [shape for shape in totals if not self.plans[shape].memory_bytes]
        for shape in totals:
            if wants_island(self.plans[shape]):
                self._split_by_island(shape, place)
        if shares:
            self._add_shares(place, shares)
        self._add_wholes(place, wholes)
        self._bound_large(place, list(totals))

    def _split_by_island(self, shape: Shape, place: Place) -> None:
        name, plan = place.node.name, self.plans[shape]
        some = []
        for island in place.islands:
            most = place.at_most_on(plan, place.rooms(plan, island))
            self.in_island[shape, name, island] = self.model.new_int_var(0, most, "i")
            some.append(self.in_island[shape, name, island])
        self.model.add(sum(some) == self.on_node[shape, name])

    def _add_shares(self, place: Place, shapes: list[Shape]) -> None:
        name = place.node.name
        load: dict[str, list[Linear]] = defaultdict(list)
        sizes: dict[str, list[tuple[int, cp_model.IntVar]]] = defaultdict(list)
        for shape in shapes:
            plan = self.plans[shape]
            gib, total = plan.memory_bytes // GIB, self.on_node[shape, name]
            count: dict[str, list[cp_model.IntVar]] = defaultdict(list)
            for device in place.rooms(plan):
                most = place.free_gib[device.id] // gib
                var = self.model.new_int_var(0, most, "y")
                self.on_device[shape, device.id] = var
                load[device.id].append(gib * var)
                sizes[device.id].append((gib, var))
                island = device.island if wants_island(plan) else ""
                workers = self.in_island.get((shape, name, island), total)
                if plan.devices > 1:
                    self.model.add(var <= workers)
                count[island].append(var)
            for island, some in count.items():
                workers = self.in_island.get((shape, name, island), total)
                self.model.add(sum(some) == plan.devices * workers)
        for device in place.devices:
            if load[device.id]:
                self._add_load(place, device, load[device.id], sizes[device.id])
        self._order_shared(place)

    def _add_load(
        self,
        place: Place,
        device: Device,
        load: list[Linear],
        sizes: list[tuple[int, cp_model.IntVar]],
    ) -> None:
        free = place.free_gib[device.id]
        open_: Linear = 1
        if device in place.whole:
            open_ = self.shared[device.id] = self.model.new_bool_var("s")
        self.model.add(sum(load) <= free * open_)
        for parts in (1, 2, 3):  # at most so many that are larger than a (parts + 1)th of it
            units = [(-(-size * (parts + 1) // free) - 1, var) for size, var in sizes]
            large = [(count, var) for count, var in units if count]
            if large:
                self.model.add(sum(count * var for count, var in large) <= parts * open_)

    def _order_shared(self, place: Place) -> None:
        """Alike devices are opened for shares in their order."""
        for one, other in zip(place.whole, place.whole[1:], strict=False):
            if one.island == other.island and {one.id, other.id} <= self.shared.keys():
                self.model.add(self.shared[one.id] >= self.shared[other.id])

    def _add_wholes(self, place: Place, shapes: list[Shape]) -> None:
        if not shapes:
            return
        name = place.node.name
        opened = [self.shared[device.id] for device in place.whole if device.id in self.shared]
        wanted = [self.plans[shape].devices * self.on_node[shape, name] for shape in shapes]
        self.model.add(sum(wanted) + sum(opened) <= len(place.whole))
        for island in place.islands:
            own = [device for device in place.whole if device.island == island]
            opened = [self.shared[device.id] for device in own if device.id in self.shared]
            wanted = [
                self.plans[shape].devices * self.in_island[shape, name, island]
                for shape in shapes
                if wants_island(self.plans[shape])
            ]
            if wanted:
                self.model.add(sum(wanted) + sum(opened) <= len(own))

    def _bound_large(self, place: Place, shapes: list[Shape]) -> None:
        """No two that need more than half of a device share one, so of those that need *wide* of
        them a node has room for so many at most. It follows, but not from the linear relaxation.
        """
        half = max((device.memory_bytes for device in place.devices), default=0) / 2
        large = [
            shape
            for shape in shapes
            if not self.plans[shape].memory_bytes or self.plans[shape].memory_bytes > half
        ]
        usable = {device.id for shape in large for device in place.rooms(self.plans[shape])}
        name = place.node.name
        for wide in sorted({self.plans[shape].devices for shape in large}):
            counted = [
                (self.plans[shape].devices // wide) * self.on_node[shape, name]
                for shape in large
                if self.plans[shape].devices >= wide
            ]
            self.model.add(sum(counted) <= len(usable) // wide)

    def _add_quotas(self) -> None:
        devices, _ = held(self.world.snapshot)
        for quota in self.world.snapshot.quotas:
            assert quota.devices is not None, "quotas of these worlds are of devices"
            assert quota.memory_bytes is None, "quotas of these worlds are of devices"
            own = [
                unit.devices * placed
                for unit, placed in zip(self.units, self.placed, strict=True)
                if unit.owner == quota.owner
            ]
            self.model.add(sum(own) <= quota.devices - devices[quota.owner])

    def hint(self, placed: Sequence[PlannedGang]) -> None:
        """Begins the search at a placement that is known."""
        here = {frozenset(w.plan.slot for w in gang.workers): gang for gang in placed}
        nodes: Counter[tuple[int, Shape, str]] = Counter()
        for number, unit in enumerate(self.units):
            found = [
                gang
                for plans in unit.gangs
                if (gang := here.get(frozenset(plan.slot for plan in plans))) is not None
            ]
            self.model.add_hint(self.placed[number], len(found))
            for gang in found:
                for worker in gang.workers:
                    nodes[number, shape_of(worker.plan), worker.node] += 1
        for key, var in self.of_unit.items():
            self.model.add_hint(var, nodes[key])


def _places(world: World) -> list[Place]:
    taken: Counter[str] = Counter()
    for claim in world.snapshot.claims:
        taken[claim.device_id] += claim.memory_bytes
    devices: dict[str, list[Device]] = defaultdict(list)
    for device in world.snapshot.devices:
        devices[device.node].append(device)
    return [Place(node, devices[node.name], taken) for node in world.snapshot.nodes]
