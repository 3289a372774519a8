"""Starts vLLM's server in its own environment, with two more routes: it sleeps, and it wakes.

vLLM has such routes for development only, together with others that run whatever they are sent, and
asks for its key under some prefixes only. These are two of our own, under one of the guarded ones:
``POST /v1/modelyard/sleep`` and ``/wake``, each with the *level* (1 keeps the weights in the host's
memory, 2 drops them and reads them again). Both may be asked twice. Written against vLLM 0.32.
"""

from typing import Any


def main() -> None:
    from vllm.entrypoints.launchers import app as launcher
    from vllm.entrypoints.launchers.api_server import entry

    register = launcher.register_api_routers

    def register_with_sleep(args: Any, app: Any, *rest: Any) -> None:
        register(args, app, *rest)
        add_routes(app)

    launcher.register_api_routers = register_with_sleep
    entry.main()


def add_routes(app: Any) -> None:
    """*app* is vLLM's FastAPI application."""

    async def sleep(level: int) -> dict[str, str]:
        # What came late is finished first.
        await app.state.engine_client.sleep(level, "wait")
        return {"status": "sleeping"}

    async def wake(level: int) -> dict[str, str]:
        engine = app.state.engine_client
        if level == _DROPPED and await engine.is_sleeping():
            await engine.wake_up(["weights"])
            await engine.collective_rpc("reload_weights")
        await engine.wake_up(None)
        return {"status": "awake"}

    app.add_api_route("/v1/modelyard/sleep", sleep, methods=["POST"])
    app.add_api_route("/v1/modelyard/wake", wake, methods=["POST"])


_DROPPED = 2


if __name__ == "__main__":
    main()
