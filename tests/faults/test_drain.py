"""SIGTERM to a gateway under load: what runs is finished, what is new is refused, then it ends."""

import asyncio
import socket

from fault_client import chat
from fault_history import End
from fault_processes import GatewayProcess
from fault_world import until


async def test_running_streams_finish(world, ground):
    gateway = GatewayProcess(ground.home, ground.admin_secret)
    try:
        await until(lambda: gateway.ready, 20, "the gateway has read the registry")
        async with world(workers=2) as w:
            w.gateway = gateway
            await until(lambda: serves(gateway, w), 5, "the gateway knows the workers")
            calls = [w.call(chat(stream=True, max_tokens=150)) for _ in range(12)]
            calls += [w.call(chat(max_tokens=100)) for _ in range(4)]
            await asyncio.gather(*(call.got(3) for call in calls[:12]))
            gateway.terminate()
            await until(lambda: refuses(gateway), 1, "new connections are refused")
            assert await w.ends() == {End.OK: 16}
            assert await asyncio.to_thread(gateway.wait, 5) == 0
            w.gateway = ground.gateway
    finally:
        gateway.end()


def serves(gateway, w) -> bool:
    mine, others = (
        each.samples("modelyard_routing_table_version")[""] for each in (gateway, w.ground.gateway)
    )
    return mine >= others


def refuses(gateway) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), 1).close()
    except ConnectionError:
        return True
    return False
