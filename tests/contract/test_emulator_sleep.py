"""The emulator's sleep, by the calls that its adapter names."""

import asyncio

import httpx
from emulator_process import TOKEN

from pipelines.engines import ENGINES
from pipelines.engines.emulator.options import Options
from pipelines.engines.emulator.server import serve
from registry.spec import EngineName
from registry.state import DeviceKind

(WAY,) = ENGINES[EngineName.EMULATOR].sleeping(DeviceKind.CPU)
BODY = {"model": "emulated", "prompt": "Hello.", "max_tokens": 2}


async def test_asleep_it_refuses_and_awake_it_answers_however_often_it_is_told():
    options = Options(enable_sleep_mode=True, wake_s=0.2)
    async with (
        serve(options, token=TOKEN) as emulator,
        httpx.AsyncClient(trust_env=False, base_url=emulator.url, timeout=5) as http,
    ):

        async def status(method: str, path: str, **more) -> int:
            return (await http.request(method, path, **more)).status_code

        for path in (WAY.sleep_path, WAY.wake_path):
            assert await status("POST", path) == 401, "it wants its key"
        http.headers["authorization"] = f"Bearer {TOKEN}"
        assert await status("POST", WAY.wake_path, content=WAY.body) == 200
        for _ in range(2):
            assert await status("POST", WAY.sleep_path, content=WAY.body) == 200
        assert await status("POST", "/v1/completions", json=BODY) == 503
        assert await status("GET", "/health") == 200
        began = asyncio.get_running_loop().time()
        wakes = [status("POST", WAY.wake_path, content=WAY.body) for _ in range(3)]
        assert await asyncio.gather(*wakes) == [200, 200, 200]
        assert 0.2 <= asyncio.get_running_loop().time() - began < 2.0
        assert await status("POST", "/v1/completions", json=BODY) == 200


async def test_it_has_no_such_routes_unless_it_is_started_for_it():
    async with (
        serve(Options()) as emulator,
        httpx.AsyncClient(trust_env=False, base_url=emulator.url) as http,
    ):
        assert (await http.post(WAY.sleep_path)).status_code == 404
