"""`gateway --workers N`: one port, one set of metrics, and processes that are brought back."""

import asyncio
import socket

from fault_client import chat
from fault_history import End
from fault_processes import GatewayProcess
from fault_world import until


async def test_several_processes_are_one_gateway(world, ground):
    gateway = GatewayProcess(ground.home, ground.admin_secret, workers=3)
    try:
        await until(lambda: gateway.ready, 30, "the gateway has read the registry")
        async with world(workers=2) as w:
            w.gateway = gateway
            await until(lambda: _serve(gateway, w, 3), 10, "all processes know the workers")
            assert await w.ends([w.call(chat(stream=True)) for _ in range(30)]) == {End.OK: 30}
            assert sum(gateway.samples("modelyard_requests_total").values()) == 30

            gateway.children[0].kill()
            await until(lambda: _serve(gateway, w, 3), 20, "a new process in its place")
            assert await w.ends([w.call(chat()) for _ in range(10)]) == {End.OK: 10}

            running = [w.call(chat(stream=True, max_tokens=150)) for _ in range(6)]
            await asyncio.gather(*(call.got(3) for call in running))
            gateway.terminate()
            assert await w.ends(running) == {End.OK: 6}
            assert await asyncio.to_thread(gateway.wait, 10) == 0
            w.gateway = ground.gateway
    finally:
        gateway.end()


async def test_a_port_that_is_taken_is_told_at_once(ground):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        gateway = GatewayProcess(
            ground.home, ground.admin_secret, workers=2, port=other.getsockname()[1]
        )
        try:
            assert await asyncio.to_thread(gateway.wait, 20) == 1
            assert "Address already in use" in gateway.log.read_text()
        finally:
            gateway.end()


def _serve(gateway, w, processes: int) -> bool:
    """Whether so many processes are there, and none has an older table than the other gateway."""
    if len(gateway.children) != processes or not gateway.ready:
        return False
    mine, others = (
        each.samples("modelyard_routing_table_version")[""] for each in (gateway, w.ground.gateway)
    )
    return mine >= others
