"""Which pairs are said to move no KV: from what gateways tell and workers count."""

import msgspec
import pytest
from fleets import a_snapshot, disaggregated, external, unified, workers_of

from pipelines.engines.base import EngineMetrics, Sample
from pipelines.silent import WINDOW_S, Accusation, accused, sentences
from pipelines.silent_watch import LOOK_EVERY_S, SEEN_ANEW_S, SilentWatch
from registry.spec import Role
from registry.state import Phase
from registry.traffic import SLOT_S, Traffic

NOW = 1000.0
KEY = ("m", "default")
PROMPT_TOKENS = 100  # of each request


def told(paired, *, requests=None, at=NOW - SLOT_S, model="m", revision=1):
    requests = paired if requests is None else requests
    return Traffic(
        at=at,
        gateway="g",
        model=model,
        variant="default",
        revision=revision,
        requests=requests,
        paired=paired,
        prompt_tokens=requests * PROMPT_TOKENS,
    )


def counted(*, taken_up=0, moved=0, failed=0, until=NOW, span_s=WINDOW_S + 10, before=7):
    """A worker's samples, five seconds apart, that grow by so many requests in the window's end."""
    steps = [until - span_s + 5 * step for step in range(int(span_s // 5) + 1)]

    def at(share):
        return EngineMetrics(
            prompt_tokens=before * PROMPT_TOKENS + round(taken_up * share) * PROMPT_TOKENS,
            kv_transfers=before + round(moved * share),
            kv_transfer_failures=round(failed * share),
        )

    begin = steps[-1] - WINDOW_S
    return tuple(Sample(at=step, metrics=at(max(0.0, (step - begin) / WINDOW_S))) for step in steps)


class Pair:
    """One model with a pair; *decode* and *prefill* are what its workers counted."""

    def __init__(self, model=None):
        self.model = model or disaggregated("m")
        self.workers = workers_of(self.model)

    def look(self, traffic, *, standing=None, now=NOW, workers=None, **samples):
        live = self.workers if workers is None else workers
        of = {worker.id: samples.get(worker.plan.role.value, ()) for worker in live}
        snapshot = a_snapshot(models=[self.model], workers=live)
        return accused(snapshot, traffic, of, standing or {}, now)


def test_a_pair_that_moves_kv_is_well():
    assert Pair().look([told(40)], decode=counted(taken_up=40, moved=40)) == {}


def test_a_pair_that_recomputes_is_accused_in_words():
    found = Pair().look([told(40)], decode=counted(taken_up=40, moved=3))

    assert sentences(found) == {
        "m": "variant default: 40 requests went to prefill and decode in the last 45 s, "
        "3 KV transfers were counted: decode recomputes prompts"
    }


@pytest.mark.parametrize(
    ("taken_up", "moved", "paired", "accusable"),
    [
        (40, 19, 40, True),
        (40, 20, 40, False),  # half of them is enough
        (7, 0, 7, False),  # too few to say anything
        (8, 0, 8, True),
        (0, 0, 100, False),  # long answers that end now moved their KV long ago
        (100, 0, 0, False),  # nothing went through a pair
    ],
)
def test_what_is_expected_is_what_was_taken_up_of_what_is_paired(
    taken_up, moved, paired, accusable
):
    found = Pair().look(
        [told(paired, requests=max(paired, taken_up))],
        decode=counted(taken_up=taken_up, moved=moved),
    )
    assert bool(found) is accusable


def test_prompts_that_bypass_prefill_need_no_transfer():
    """Sixty of a hundred bypass: forty transfers are all that is to be expected."""
    traffic = [told(40, requests=100)]

    assert Pair().look(traffic, decode=counted(taken_up=100, moved=40)) == {}
    assert Pair().look(traffic, decode=counted(taken_up=100, moved=10))


def test_traffic_of_several_slots_gateways_and_revisions_adds_up_and_old_one_is_left_out():
    parts = [told(4, at=NOW - 40), told(4, at=NOW - 20, revision=2)]

    assert Pair().look(parts, decode=counted(taken_up=8, moved=0))
    assert not Pair().look(
        [told(100, at=NOW - WINDOW_S - SLOT_S)], decode=counted(taken_up=40, moved=0)
    )
    assert not Pair().look([told(100, model="other")], decode=counted(taken_up=40, moved=0))


def test_transfers_that_fail_are_accused_without_any_traffic():
    found = Pair().look([], decode=counted(moved=12, failed=8))

    assert "8 of 20 KV transfers failed" in sentences(found)["m"]
    assert not Pair().look([], decode=counted(moved=18, failed=2))
    assert not Pair().look([], decode=counted(moved=0, failed=5))


def test_only_the_half_that_counts_is_listened_to():
    """vLLM's prefill workers count no transfers."""
    pair = Pair()
    samples = {"prefill": counted(taken_up=40, moved=0), "decode": counted(taken_up=40, moved=40)}
    assert pair.look([told(40)], **samples) == {}


def test_who_is_not_heard_is_not_accused():
    traffic = [told(40)]
    assert not Pair().look(traffic)
    young = counted(taken_up=40, moved=0, span_s=20)
    assert not Pair().look(traffic, decode=young)
    silent_since = counted(taken_up=40, moved=0, until=NOW - 20)
    assert not Pair().look(traffic, decode=silent_since)
    shows_nothing = tuple(Sample(at=NOW - 60 + 5 * n, metrics=EngineMetrics()) for n in range(13))
    without_metrics = external("m", prefill=["http://p:1"], decode=["http://d:1"])
    assert not Pair(without_metrics).look(traffic, decode=shows_nothing)


def test_a_restart_that_begins_the_counts_anew_is_no_silence():
    """An external engine that was started again behind its address."""
    steps = [NOW - 50 + 5 * step for step in range(11)]
    counts = [900 + step if step < 5 else (step - 5) * 8 for step in range(11)]
    samples = tuple(
        Sample(at=at, metrics=EngineMetrics(kv_transfers=n, prompt_tokens=n * PROMPT_TOKENS))
        for at, n in zip(steps, counts, strict=True)
    )
    assert Pair().look([told(44)], decode=samples) == {}


def test_an_accusation_stays_until_kv_surely_moves_again():
    pair = Pair()
    standing = pair.look([told(40)], decode=counted(taken_up=40, moved=0))

    def then(moved, requests=40):
        samples = counted(taken_up=requests, moved=moved)
        return pair.look([told(requests)], standing=standing, decode=samples)

    assert then(1) == standing  # the sentence too: each other one would be an event
    assert then(24) == standing  # more than accuses, less than acquits
    assert then(30) == {}
    assert then(0, requests=0) == standing  # nobody asks: nothing is proved
    assert pair.look([], standing=standing) == standing


def test_other_workers_are_not_accused_of_what_those_before_did():
    pair = Pair()
    standing = {KEY: Accusation(sentence="so it was", workers=frozenset({"gone"}))}

    assert pair.look([], standing=standing, decode=counted()) == {}
    not_ready = workers_of(pair.model, Phase.STARTING)
    standing = {KEY: Accusation(sentence="so", workers=frozenset(w.id for w in pair.workers))}
    assert pair.look([], standing=standing, workers=not_ready) == {}


def test_an_engine_whose_halves_meet_at_once_is_accused_of_failures_only():
    """SGLang's decode workers cannot compute a prompt; its prefill workers count."""
    pair = Pair(disaggregated("m", engine="sglang"))

    assert not pair.look([told(40)], prefill=counted(taken_up=40, moved=0))
    assert pair.look([told(40)], prefill=counted(taken_up=40, moved=4, failed=30))


def test_aggregated_models_have_nothing_to_move():
    model = unified("m")
    (worker,) = workers_of(model)
    assert worker.plan.role is Role.UNIFIED
    snapshot = a_snapshot(models=[model], workers=[worker])
    samples = {worker.id: counted(taken_up=40, moved=0)}

    assert accused(snapshot, [told(40)], samples, {}, NOW) == {}


class Ground:
    """A store and what is measured, at *now*."""

    def __init__(self, pair, traffic, **samples):
        self.now = NOW
        self._traffic = traffic
        self._samples = {w.id: samples.get(w.plan.role.value, ()) for w in pair.workers}
        self.asked = 0

    async def traffic(self, since):
        self.asked += 1
        return [row for row in self._traffic if row.at >= since]

    def every(self):
        return self._samples


async def test_the_watch_looks_now_and_then_and_remembers():
    pair = Pair()
    ground = Ground(pair, [told(40)], decode=counted(taken_up=40, moved=0))
    watch = SilentWatch(ground, lambda: ground.now)
    snapshot = a_snapshot(models=[pair.model], workers=pair.workers)

    first = await watch.look(snapshot, ground)
    ground.now += LOOK_EVERY_S / 2
    again = await watch.look(snapshot, ground)

    assert "decode recomputes prompts" in first["m"]
    assert (again, ground.asked) == (first, 1)
    ground.now += LOOK_EVERY_S
    assert await watch.look(snapshot, ground) == first
    assert ground.asked == 2
    assert ground.now - NOW < WINDOW_S


async def test_after_a_restart_a_model_stays_degraded_until_it_was_seen_anew():
    pair = Pair()
    ground = Ground(pair, [])
    watch = SilentWatch(ground, lambda: ground.now)
    sentence = "variant default: 9 KV transfers were counted: decode recomputes prompts"
    degraded = msgspec.structs.replace(
        pair.model, degraded=True, condition=f"default: 1 of 2 decode ready; no room; {sentence}"
    )
    snapshot = a_snapshot(models=[degraded], workers=pair.workers)

    assert await watch.look(snapshot, ground) == {"m": sentence}, "what else was, is told anew"
    ground.now += SEEN_ANEW_S
    assert await watch.look(snapshot, ground) == {}
