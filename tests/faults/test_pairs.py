"""Prefill and decode apart: every step can fail, and the client has its answer all the same."""

import asyncio

import pytest
from fault_client import chat
from fault_world import PATIENT, mixed, until

PAIRS = (2, 2)


@pytest.mark.parametrize("who", ["prefills", "decodes"])
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_under_load_nothing_is_lost(world, who, how):
    async with world(pair=PAIRS, limits=PATIENT) as w:
        async with w.load(clients=12):
            await asyncio.sleep(0.5)
            getattr(getattr(w, who)[0], how)()
            await asyncio.sleep(1)
        await w.all_ok()
        assert len(w.calls) > 20, "there was load"
        assert w.counted("nixl_xfer_time_seconds_count", w.decodes) > 5


@pytest.mark.parametrize(
    "fault",
    [{"kind": "status"}, {"kind": "hang"}, {"kind": "die"}, {"kind": "truncate"}],
    ids=lambda fault: fault["kind"],
)
@pytest.mark.parametrize("sick", [1, 2])
async def test_prefill_fails(world, fault, sick):
    """One of them: another takes over. Both: decode serves alone."""
    async with world(pair=PAIRS) as w:
        for prefill in w.prefills[:sick]:
            prefill.fault(**fault)
        calls = [w.call(mixed(turn)) for turn in range(6)]
        await w.all_ok()
        if sick == 2:
            modes = {(await call).headers["x-modelyard-mode"] for call in calls}
            assert modes == {"degraded"}
        assert w.counted("nixl_num_failed_transfers_total") == 0


@pytest.mark.parametrize("after_tokens", [0, 1, 6])
@pytest.mark.parametrize("kind", ["die", "error", "hang"])
async def test_decode_fails(world, kind, after_tokens):
    async with world(pair=PAIRS) as w:
        w.decodes[0].fault(kind, after_tokens=after_tokens, count=2)
        for turn in range(6):
            w.call(mixed(turn, stream=True) if kind == "hang" else mixed(turn))
        await w.all_ok()
        # Had any KV been asked for twice, the prefill worker would have refused it.
        assert w.counted("nixl_num_failed_transfers_total") == 0


async def test_a_decode_that_waits_for_kv_for_ever_is_cut(world):
    async with world(pair=PAIRS) as w:
        w.decodes[0].fault("kv_never", count=2)
        for turn in range(6):
            w.call(mixed(turn, stream=True))
        await w.all_ok()
        assert w.counted("ended_abort", w.decodes) >= 1
        assert w.counted("nixl_num_failed_transfers_total") == 0


async def test_so_it_is_without_a_stream(world):
    """Nothing is heard before the whole answer: half of its time is for another pair."""
    async with world(pair=PAIRS, limits={"total_s": 4}) as w:
        w.decodes[0].fault("kv_never", count=1)
        for _ in range(2):
            w.call(chat(max_tokens=8))
        await w.all_ok()
        assert w.counted("ended_abort", w.decodes) == 1


async def test_where_no_decode_gets_its_kv_decode_serves_alone(world):
    async with world(pair=PAIRS, limits={"first_token_s": 8}) as w:
        for decode in w.decodes:
            decode.fault("kv_never")
        for turn in range(2, 4):
            w.call(mixed(turn, stream=True))
        await w.all_ok()


async def test_prefill_dies_between_the_legs(world):
    async with world(pair=PAIRS, limits={"transfer_s": 4}) as w:
        for decode in w.decodes:
            decode.stop()
        for turn in range(6):
            w.call(mixed(turn))
        answered = "ended_length"
        await until(lambda: w.counted(answered, w.prefills) == 6, 3, "prefill has answered all")
        w.prefills[0].kill()
        for decode in w.decodes:
            decode.cont()
        await w.all_ok()
        assert w.counted("nixl_num_failed_transfers_total") >= 1


async def test_no_prefill_at_all(world):
    async with world(pair=PAIRS) as w:
        for prefill in w.prefills:
            prefill.kill()
        calls = [w.call(mixed(turn)) for turn in range(6)]
        await w.all_ok()
        assert {(await call).headers["x-modelyard-mode"] for call in calls} == {"degraded"}


async def test_transfer_parameters_are_used_once(world):
    async with world(pair=PAIRS) as w:
        w.decodes[0].fault("die", after_tokens=1, count=3)
        calls = [w.call(chat(stream=True, max_tokens=20)) for _ in range(8)]
        await w.all_ok(calls)
        granted = w.counted("ended_length", w.prefills)
        read = w.counted("nixl_xfer_time_seconds_count", w.decodes)
        assert 8 <= read <= granted
        assert w.counted("nixl_num_failed_transfers_total") == 0
