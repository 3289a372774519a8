"""What runs inside the vLLM runtimes, as far as it runs without vLLM."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

SERVER = Path(__file__).parents[2] / "pipelines" / "inside" / "vllm_server.py"


class App:
    """FastAPI, as far as it is used."""

    def __init__(self, engine):
        self.state = SimpleNamespace(engine_client=engine)
        self.routes = {}

    def add_api_route(self, path, endpoint, methods):
        assert methods == ["POST"]
        self.routes[path] = endpoint


class Engine:
    def __init__(self):
        self.asleep = False
        self.told = []

    async def is_sleeping(self):
        return self.asleep

    async def sleep(self, level, mode):
        self.told.append(("sleep", level, mode))
        self.asleep = True

    async def wake_up(self, tags):
        self.told.append(("wake", tags))
        self.asleep = tags is not None

    async def collective_rpc(self, method):
        self.told.append((method,))


def served():
    spec = importlib.util.spec_from_file_location("vllm_server", SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = App(Engine())
    module.add_routes(app)
    return app.state.engine_client, app.routes


def test_its_routes_are_under_a_prefix_for_which_vllm_wants_the_key():
    _, routes = served()
    assert set(routes) == {"/v1/modelyard/sleep", "/v1/modelyard/wake"}


async def test_what_came_late_is_finished_and_the_weights_come_back_from_the_host():
    engine, routes = served()
    await routes["/v1/modelyard/sleep"](level=1)
    await routes["/v1/modelyard/wake"](level=1)
    assert engine.told == [("sleep", 1, "wait"), ("wake", None)]


async def test_weights_that_were_dropped_are_read_again_but_not_of_one_that_is_awake():
    engine, routes = served()
    await routes["/v1/modelyard/sleep"](level=2)
    for _ in range(2):
        await routes["/v1/modelyard/wake"](level=2)
    assert engine.told == [
        ("sleep", 2, "wait"),
        ("wake", ["weights"]),
        ("reload_weights",),
        ("wake", None),
        ("wake", None),
    ]
