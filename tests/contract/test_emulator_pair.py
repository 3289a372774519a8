"""Prefill and decode apart, on two emulators, by the adapter's own bodies."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from pipelines.engines.emulator import EmulatorEngine
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import Running, serve
from registry.spec import Role

ENGINE = EmulatorEngine()
BODY = {"prompt": "Tell me a story of two workers.", "max_tokens": 8}
Body = dict[str, msgspec.Raw]


@contextlib.asynccontextmanager
async def pair(**options) -> AsyncIterator[tuple[Running, Running, httpx.AsyncClient]]:
    async with (
        serve(Options(role=Role.PREFILL, **options)) as prefill,
        serve(Options(role=Role.DECODE, **options)) as decode,
        httpx.AsyncClient(trust_env=False, timeout=5) as http,
    ):
        yield prefill, decode, http


def raw(body: dict) -> Body:
    return msgspec.json.decode(json.dumps(body), type=Body)


async def post(http: httpx.AsyncClient, to: Running, body: Body) -> httpx.Response:
    return await http.post(f"{to.url}/v1/completions", content=msgspec.json.encode(body))


async def prefilled(http: httpx.AsyncClient, prefill: Running, body: dict) -> Body:
    """The body of the decode leg, after a prefill."""
    answer = await post(http, prefill, ENGINE.prefill_body(raw(body), "completions"))
    assert answer.status_code == 200, answer.text
    return ENGINE.decode_body(raw(body), answer.content)


async def metrics(http: httpx.AsyncClient, of: Running):
    return ENGINE.metrics((await http.get(f"{of.url}/metrics")).text)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


async def test_a_pair_answers_as_one_worker_does_and_counts_the_transfer():
    async with pair() as (prefill, decode, http):
        alone = text(await post(http, decode, raw(BODY)))
        leg = await prefilled(http, prefill, BODY)
        assert text(await post(http, decode, leg)) == alone
        assert (await metrics(http, decode)).kv_transfers == 1
        assert (await metrics(http, prefill)).kv_transfers == 0


async def test_kv_of_another_prompt_gives_fluent_nonsense_as_it_would_for_real():
    async with pair() as (prefill, decode, http):
        leg = await prefilled(http, prefill, {**BODY, "prompt": "Another prompt."})
        leg["prompt"] = raw(BODY)["prompt"]
        assert text(await post(http, decode, leg)) != text(await post(http, decode, raw(BODY)))


@pytest.mark.parametrize("stream", [False, True])
async def test_kv_can_be_read_once(stream):
    async with pair() as (prefill, decode, http):
        leg = await prefilled(http, prefill, BODY)
        assert (await post(http, decode, leg)).status_code == 200
        leg["stream"] = msgspec.Raw(msgspec.json.encode(stream))
        again = await post(http, decode, leg)
        # vLLM has sent its 200 before it knows: the error is the stream's first event.
        assert again.status_code == (200 if stream else 500)
        assert '"type":"InternalServerError"' in again.text
        assert (await metrics(http, decode)).kv_transfer_failures == 1


async def test_kv_that_nobody_reads_is_given_up_after_its_lease():
    async with pair(kv_lease_s=0.05) as (prefill, decode, http):
        leg = await prefilled(http, prefill, BODY)
        assert (await metrics(http, prefill)).kv_cache_usage > 0
        await asyncio.sleep(0.08)
        assert (await metrics(http, prefill)).kv_cache_usage == 0
        assert (await post(http, decode, leg)).status_code == 500
        assert prefill.engine.leases.expired == 1


async def test_a_dead_prefill_fails_the_decode_quickly_and_decode_serves_on():
    async with pair() as (_, decode, http):
        async with serve(Options(role=Role.PREFILL)) as dying:
            leg = await prefilled(http, dying, BODY)
        async with asyncio.timeout(1):
            assert (await post(http, decode, leg)).status_code == 500
        assert (await post(http, decode, raw(BODY))).status_code == 200


async def test_a_prefill_started_anew_does_not_answer_for_the_old_one():
    async with pair() as (_, decode, http):
        async with serve(Options(role=Role.PREFILL)) as old:
            leg = await prefilled(http, old, BODY)
            port = old.kv_port
        async with serve(Options(role=Role.PREFILL, kv_port=port)):
            assert (await post(http, decode, leg)).status_code == 500


@pytest.mark.parametrize(
    "transfer",
    [
        {"do_remote_prefill": True},
        {"do_remote_prefill": True, "remote_host": "127.0.0.1", "remote_port": 1},
        {
            "do_remote_prefill": True,
            "remote_host": "127.0.0.1",
            "remote_port": 1,
            "remote_engine_id": "x",
            "remote_request_id": "y",
            "remote_block_ids": [[1]],
        },
    ],
)
async def test_made_up_parameters_fail(transfer):
    async with pair() as (_, decode, http):
        leg = raw({**BODY, "kv_transfer_params": transfer})
        assert (await post(http, decode, leg)).status_code == 500


async def test_a_prefill_that_accepts_and_stays_silent_is_given_up():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, pair(kv_timeout_s=0.1) as (prefill, decode, http):
        leg = await prefilled(http, prefill, BODY)
        transfer = msgspec.json.decode(leg["kv_transfer_params"])
        transfer["remote_port"] = server.sockets[0].getsockname()[1]
        leg["kv_transfer_params"] = msgspec.Raw(msgspec.json.encode(transfer))
        assert (await post(http, decode, leg)).status_code == 500


async def test_a_client_that_leaves_during_the_read_aborts_it():
    async with pair(kv_transfer_ms=10_000) as (prefill, decode, http):
        leg = await prefilled(http, prefill, BODY)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(http, decode, leg)
        await asyncio.sleep(0.05)
        assert decode.engine.counters.finished["abort"] == 1
        assert decode.engine.batch.running == 0


async def test_decode_does_not_wait_for_the_prompt_again():
    async with pair(prefill_tokens_per_s=100) as (prefill, decode, http):
        body = {**BODY, "prompt": "word " * 24}  # 25 tokens: 0.25 s of prefill
        leg = await prefilled(http, prefill, body)
        async with asyncio.timeout(0.2):
            assert (await post(http, decode, leg)).status_code == 200


async def test_a_decode_may_compute_the_prompt_again_and_say_nothing():
    async with pair() as (prefill, decode, http):
        expected = (await post(http, decode, await prefilled(http, prefill, BODY))).json()
        await http.post(f"{decode.url}/fault", json={"kind": "kv_recompute"})
        assert (await http.post(f"{decode.url}/v1/completions", json=BODY)).status_code == 200
        before = await metrics(http, decode)

        answer = await post(http, decode, await prefilled(http, prefill, BODY))

        after = await metrics(http, decode)
        assert answer.json()["choices"] == expected["choices"]
        assert (before.kv_transfers, after.kv_transfers, after.kv_transfer_failures) == (1, 1, 0)
        assert after.prompt_tokens > before.prompt_tokens
        await post(http, decode, await prefilled(http, prefill, BODY))
        assert (await metrics(http, decode)).kv_transfers == 2


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"\xff" * 100_000, b'{"engine_id":"x"}\n'])
async def test_the_kv_port_survives_what_it_does_not_understand(data):
    async with pair() as (prefill, decode, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", prefill.kv_port)
        writer.write(data)
        with contextlib.suppress(OSError):
            writer.write_eof()
            await reader.read()
        writer.close()
        leg = await prefilled(http, prefill, BODY)
        assert (await post(http, decode, leg)).status_code == 200


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
async def test_a_decode_may_take_the_kv_and_never_have_a_token(path):
    messages = {"messages": [{"role": "user", "content": "Hello."}]}
    body = {**(messages if path.startswith("chat") else BODY), "stream": True}
    async with pair() as (prefill, decode, http):
        await http.post(f"{decode.url}/fault", json={"kind": "kv_never"})
        assert (await http.post(f"{decode.url}/v1/{path}", json=body)).text.endswith("[DONE]\n\n")
        granted = await http.post(
            f"{prefill.url}/v1/{path}",
            content=msgspec.json.encode(ENGINE.prefill_body(raw(body), "completions")),
        )
        leg = msgspec.json.encode(ENGINE.decode_body(raw(body), granted.content))
        got = bytearray()

        async def read() -> None:
            async with http.stream("POST", f"{decode.url}/v1/{path}", content=leg) as response:
                assert response.status_code == 200
                async for chunk in response.aiter_raw():
                    got.extend(chunk)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 0.2)
        assert got.count(b"data: ") == path.startswith("chat")  # the chunk that names the role
        again = await http.post(f"{decode.url}/v1/{path}", content=leg)
        assert again.text.count("InternalServerError") == 1
        assert (await metrics(http, decode)).requests_running == 0
