"""What holds of every rollout, whatever the shapes, the limits and the room."""

import msgspec
from courses import Course, capacity
from fleets import a_model
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.plan import with_specs
from pipelines.rollouts import Step
from registry.spec import from_data
from registry.state import LEAVING_PHASES, Phase

ROLES = ("unified", "prefill", "decode")

limits = st.sampled_from(
    [
        {"max_surge": surge, "max_unavailable": unavailable}
        for surge in (None, 0, 1, 2)
        for unavailable in (0, 1, 2)
        if (surge, unavailable) != (0, 0)
    ]
)
counts = st.integers(1, 4)
canaries = st.lists(st.integers(1, 99), unique=True, max_size=3).map(
    lambda steps: [*sorted(steps), 100]
)


@st.composite
def roles(draw, *names):
    return {name: {"workers": draw(counts), **draw(limits)} for name in names}


shapes = st.one_of(roles("unified"), roles("prefill", "decode"))


def topology(shape, **more):
    made = {name: {"memory": "4GiB", **role, **more} for name, role in shape.items()}
    if "unified" in made:
        return {"type": "aggregated", **made["unified"]}
    return {"type": "disaggregated", **made}


def size(shape):
    return sum(role["workers"] for role in shape.values())


def surge(shape):
    each = [role["max_surge"] for role in shape.values()]
    return None if None in each else sum(each)


def unavailable(shape, role):
    return shape[role]["max_unavailable"]


class Watch:
    """Looks after each turn whether the limits were kept."""

    def __init__(self, old, new):
        self.old, self.new = old, new

    def __call__(self, course):
        same = self.old.keys() == self.new.keys()
        if same:
            for role in self.new:
                self._role(course, role)
        else:
            self._crossing(course)
        if course.rollout is not None:
            self._share(course, same)

    def _role(self, course, role):
        before, after = self.old[role]["workers"], self.new[role]["workers"]
        least = min(before, after) - unavailable(self.new, role)
        assert course.ready(role) >= least, (role, course.moves)
        if self.new[role]["max_surge"] is not None:
            live = sum(worker.plan.role == role for worker in course.snapshot.workers)
            assert live <= max(before, after) + self.new[role]["max_surge"]

    def _crossing(self, course):
        if surge(self.new) is not None:
            most = max(size(self.old), size(self.new)) + surge(self.new)
            assert len(course.snapshot.workers) <= most

    def _share(self, course, same):
        """Each revision has the workers for its part of the traffic, of which one is rounded up."""
        percent = course.rollout.percent
        for role in self.old if percent < 100 else ():
            spare = (
                unavailable(self.new, role)
                if same
                else max(
                    unavailable(self.old, role),
                    sum(unavailable(self.new, each) for each in self.new),
                )
            )
            share = (100 - percent) * self.old[role]["workers"] / 100
            assert len(course.of(1, Phase.READY, role=role)) > share - 1 - spare
        for role in self.new:
            workers = self.new[role]["workers"]
            assert len(course.of(2, Phase.READY, role=role)) > percent * workers / 100 - 1


def a_course(old, new, slots, canary, ready_after):
    model = a_model("m", topology(old))
    spec = from_data(
        {
            **msgspec.to_builtins(a_model("m", topology(new, args={"seed": 1})).spec),
            "rollout": {"canary": canary},
        }
    )
    return Course(
        capacity(model, slots=slots), spec, ready_after=ready_after, gone_after=3 - ready_after % 3
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(old=shapes, new=shapes, canary=canaries, ready_after=st.integers(1, 3))
def test_with_room_it_gets_there_within_its_limits(old, new, canary, ready_after):
    # Half of a pair is none: it stays whole where nobody may lack and not all may come beside it.
    limited = surge(new) is not None and surge(new) < size(new)
    lacks = any(unavailable(shape, role) for shape in (old, new) for role in shape)
    assume(old.keys() == new.keys() or not limited or lacks)
    course = a_course(old, new, size(old) + size(new) + 1, canary, ready_after)
    course.run(look=Watch(old, new))

    assert course.moves[-1] == (Step.FINISH, 100)
    entered = [percent for step, percent in course.moves if step is Step.ENTER]
    assert entered == canary
    assert [w for w in course.of(1) if w.phase not in LEAVING_PHASES] == []
    assert len(course.of(2, Phase.READY)) == size(new)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    old=roles("unified"),
    new=roles("unified"),
    canary=canaries,
    spare=st.integers(0, 3),
    ready_after=counts,
)
def test_without_room_it_gets_there_if_one_may_lack(old, new, canary, spare, ready_after):
    slots = max(size(old), size(new)) + spare
    course = a_course(old, new, slots, canary, ready_after)
    if new["unified"]["max_unavailable"] or spare:
        course.run(look=Watch(old, new))
        assert course.ready() == size(new)
    else:
        watch = Watch(old, new)
        for _ in range(20):
            course.turn()
            watch(course)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(old=shapes, new=shapes, canary=canaries, spare=st.integers(0, 3), ready_after=counts)
def test_whatever_the_room_its_limits_are_kept(old, new, canary, spare, ready_after):
    course = a_course(old, new, max(size(old), size(new)) + spare, canary, ready_after)
    watch = Watch(old, new)
    for _ in range(40):
        course.turn()
        watch(course)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(old=shapes, new=shapes, canary=canaries, spare=st.integers(0, 6), turns=st.integers(1, 15))
def test_rolled_back_at_any_time_the_old_workers_are_back(old, new, canary, spare, turns):
    course = a_course(old, new, max(size(old), size(new)) + spare, canary, 2)
    before = {(w.plan.slot, w.plan.fingerprint) for w in course.snapshot.workers}
    for _ in range(turns):
        if course.rollout is not None:
            course.turn()
    if course.rollout is None:
        return
    course.change(spec=course.rollout.base, revision=3, rollout=None)
    for _ in range(30):
        course.turn()
    assert {(w.plan.slot, w.plan.fingerprint) for w in course.snapshot.workers} == before
    assert all(worker.phase is Phase.READY for worker in course.snapshot.workers)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    shape=roles("unified"),
    canary=canaries,
    spare=st.integers(0, 3),
    turns=st.integers(1, 15),
    ready_after=counts,
)
def test_superseded_at_any_time_nobody_goes_before_others_can_do_their_work(
    shape, canary, spare, turns, ready_after
):
    course = a_course(shape, shape, size(shape) + spare, canary, ready_after)
    for _ in range(turns):
        if course.rollout is not None:
            course.turn()
    third = a_model("m", topology(shape, args={"seed": 3})).spec
    least = min(course.ready(), size(shape) - unavailable(shape, "unified"))
    course.snapshot, _ = with_specs(course.snapshot, [third], course.now)
    for _ in range(40):
        course.turn()
        assert course.ready() >= least, course.moves
    if unavailable(shape, "unified") or spare:
        assert course.rollout is None
        assert course.ready() == len(course.snapshot.workers) == size(shape)
