"""The simulation of routing: an engine that adds up, replays that repeat, and what they show."""

import pytest
from simulation.routing import engine as engines
from simulation.routing.engine import Engine, Job, KvCache
from simulation.routing.fleet import CONTENDERS, TraceAsk, replay
from simulation.routing.report import RIVALS, Figures, Row, figures_of, verdicts_of
from simulation.routing.trace import BLOCK_TOKENS, Request, read_trace, replayed, token_ids

from gateway.routing.ask import Ask
from gateway.routing.kv_index import BlockRemoved, KvIndexes
from gateway.routing.prefix import PrefixMemory

TRACE = read_trace()


def a_request(blocks=(), *, prompt=None, output=10, at=0.0):
    return Request(
        at, len(blocks) * BLOCK_TOKENS + 100 if prompt is None else prompt, output, blocks
    )


class World:
    """One engine, and what it says."""

    def __init__(self):
        self.first_at, self.done_at, self.events = {}, {}, []
        self.engine = Engine(answered=self.answered, done=self.done, tell=self.events.extend)

    def answered(self, job):
        self.first_at[job.number] = self.engine.ends_at

    def done(self, job):
        self.done_at[job.number] = self.engine.ends_at

    def run(self, *requests):
        for number, request in enumerate(requests):
            self.work(request.at_s)
            self.engine.submit(Job(number, request), request.at_s)
        self.work(float("inf"))
        return self

    def work(self, until):
        while self.engine.ends_at < min(until, 1e9):
            self.engine.end_run()


def test_the_trace_is_the_one_of_the_release():
    assert len(TRACE) == 12_031
    assert TRACE[0] == Request(0.0, 6758, 500, tuple(range(13)))
    assert sum(request.prompt_tokens for request in TRACE) == 144_793_823
    assert max(len(request.blocks) for request in TRACE) == 126_195 // BLOCK_TOKENS


def test_a_replay_keeps_every_request_and_runs_as_fast_as_told():
    requests = replayed(TRACE, speed=4.0, seed=1)
    assert requests == sorted(requests)
    assert {request[1:] for request in requests} == {request[1:] for request in TRACE}
    assert requests[-1].at_s == pytest.approx(TRACE[-1].at_s / 4, abs=1)


def test_a_request_alone_takes_its_prefill_and_a_step_for_each_further_token():
    world = World().run(a_request(prompt=4000, output=11))
    prefill_s = 4000 * (engines.PREFILL_TOKEN_S + engines.ATTENTION_S * 2000)
    assert world.first_at[0] == pytest.approx(engines.STEP_S + prefill_s)
    contexts = sum(4001 + n for n in range(10))
    decode_s = 10 * engines.STEP_S + contexts * engines.CONTEXT_TOKEN_S
    assert world.done_at[0] - world.first_at[0] == pytest.approx(decode_s)


def test_a_cached_prefix_is_not_computed_again():
    cold, warm = a_request((1, 2, 3, 4)), a_request((1, 2, 3, 5), at=50.0)
    world = World().run(cold, warm)
    took = [world.first_at[0], world.first_at[1] - 50.0]
    assert took[1] < 0.5 * took[0]


def test_prompts_are_computed_in_the_order_they_came():
    world = World().run(*(a_request(prompt=20_000, at=n / 100) for n in range(4)))
    assert sorted(world.first_at.values()) == [world.first_at[n] for n in range(4)]


def test_decode_is_interrupted_by_a_prompt_at_the_next_step():
    alone = World().run(a_request(output=2000))
    world = World().run(a_request(output=2000), a_request(prompt=1000, at=1.0))
    assert world.first_at[1] - 1.0 < 2 * engines.STEP_S + 0.06
    assert world.done_at[0] > alone.done_at[0]


def test_the_cache_never_holds_more_than_it_can_and_says_what_it_drops():
    said = []
    cache = KvCache(6, said.extend)
    jobs = [Job(n, a_request((10 * n, 10 * n + 1, 10 * n + 2), output=1)) for n in range(3)]
    assert cache.admit(jobs[0])
    assert not cache.admit(jobs[1])  # three blocks and a private one are in use
    cache.release(jobs[0])
    assert cache.admit(jobs[1])
    assert [e for e in said if isinstance(e, BlockRemoved)] == [BlockRemoved([2])]  # a chain's end
    cache.release(jobs[1])


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_same_seed_gives_the_same_result(name):
    requests = replayed(TRACE[:150], speed=4.0, seed=3)
    one, two = (replay(requests, CONTENDERS[name], workers=4, seed=3) for _ in range(2))
    assert one == two
    assert len(one.ttft_s) == len(one.e2e_s) == 150


def test_the_bytes_of_a_prompt_give_the_overlaps_that_the_simulation_works_with():
    """Four bytes a token, so that a block of the trace is two of the router's."""
    by_bytes, by_blocks = PrefixMemory(1 << 20), PrefixMemory(1 << 20)
    for number, request in enumerate(TRACE[:200]):
        text = b"".join(b"%08x" % block * (BLOCK_TOKENS * 4 // 8) for block in request.blocks)
        rest = b"%08x" % (1 << 31 | number) * (BLOCK_TOKENS * 4 // 8)
        raw = b'"' + text[1:] + rest[: request.prompt_tokens % BLOCK_TOKENS * 4] + b'"'
        real = Ask(prompt=raw, prompt_tokens=request.prompt_tokens, fits_pair=lambda variant: False)
        simulated = TraceAsk(request, with_tokens=False)
        found, expected = (
            {w: int(depth * ask.tokens_per_block) for w, depth in memory.depths(ask.blocks).items()}
            for memory, ask in ((by_bytes, real), (by_blocks, simulated))
        )
        assert found.keys() == expected.keys()
        for worker, tokens in found.items():
            assert tokens == pytest.approx(expected[worker], rel=0.01, abs=BLOCK_TOKENS / 2)
        by_bytes.learn(f"w{number % 5}", real.blocks)
        by_blocks.learn(f"w{number % 5}", simulated.blocks)


def test_the_index_fed_by_an_engine_knows_what_the_engine_will_find():
    index, world = KvIndexes(), World()
    for number, request in enumerate(TRACE[:60]):
        index.apply("w", world.events)
        world.events.clear()
        ask = TraceAsk(request, with_tokens=True)
        found = index.cached_tokens(ask.token_blocks).get("w", 0)
        job = Job(number, request)
        world.engine.submit(job, 1000.0 * number)
        world.work(float("inf"))
        assert found * 32 == pytest.approx(job.cached_tokens, abs=1)
        assert len(ask.token_ids) == pytest.approx(request.prompt_tokens / 32, abs=1)
        assert ask.token_ids[: 16 * len(request.blocks)] == tuple(token_ids(request.blocks))


def test_ours_are_ahead_of_the_others_on_a_loaded_fleet():
    requests = replayed(TRACE[:500], speed=2.2, seed=1)
    rows = [
        Row(
            workers=8,
            speed=2.2,
            contender=name,
            figures=figures_of(replay(requests, CONTENDERS[name], workers=8, seed=1)),
        )
        for name in (*RIVALS, "prefix", "kv_events")
    ]
    assert all(verdict.ahead for verdict in verdicts_of(rows))


def test_to_be_ahead_is_to_be_better_than_the_best_of_the_others():
    def row(contender, value):
        figures = Figures(**dict.fromkeys(Figures.__struct_fields__, value))
        return Row(workers=8, speed=1.0, contender=contender, figures=figures)

    others = [row(name, 100 + 10 * n) for n, name in enumerate(RIVALS)]
    behind, ahead = verdicts_of([*others, row("prefix", 101), row("kv_events", 99)])
    assert (behind.ahead, ahead.ahead) == (False, True)
