"""What is measured: nothing between client and engine, Modelyard, and the routers in Rust.

Each proxy runs as its users run it, with its defaults, on a port of its own, before the same
engines, writing its log to a file.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
from load.processes import free_port, module, running

DIRECT = "direct"
MODELYARD = "modelyard"
ROUTERS = {"vllm-router": "0.1.17", "sglang-router": "0.3.2"}
TARGETS = (DIRECT, MODELYARD, *ROUTERS)
_LAUNCH = {"vllm-router": ("vllm-router",), "sglang-router": ("sglang-router", "launch")}
_READY_S = 60.0
_LOG_CHARS = 2000
# A gateway's own, not inherited from whoever runs the benchmark.
_OWN = "MODELYARD_"


class TargetError(Exception):
    """A target that could not be installed or does not answer."""


class Target(msgspec.Struct, kw_only=True):
    """*pid* is the root of the process tree that is measured; 0: there is none."""

    name: str
    url: str
    pid: int = 0
    key: str = "none"
    admin_url: str = ""
    admin_key: str = ""


@contextlib.contextmanager
def mock_engines(count: int, folder: Path) -> Iterator[tuple[str, ...]]:
    """The URLs of *count* mock engines, each a process."""
    with contextlib.ExitStack() as stack:
        urls, started = [], []
        for number in range(count):
            port, log = free_port(), folder / f"mock-{number}.log"
            command = module("mock_engine", "--port", port)
            started.append((stack.enter_context(running(command, log=log)), log))
            urls.append(f"http://127.0.0.1:{port}")
        for url, (process, log) in zip(urls, started, strict=True):
            _await_ready(Target(name="mock engine", url=url), process, log)
        yield tuple(urls)


def set_pace(urls: Sequence[str], tokens_per_s: float) -> None:
    for url in urls:
        httpx.post(f"{url}/pace/{tokens_per_s}", trust_env=False).raise_for_status()


@contextlib.contextmanager
def target(
    name: str, engine_urls: Sequence[str], folder: Path, *, home: Path, workers: int = 1
) -> Iterator[Target]:
    """The running target *name*. *home* is where routers are installed."""
    if name == DIRECT:
        yield Target(name=name, url=engine_urls[0])
    elif name == MODELYARD:
        with modelyard(engine_urls, folder, workers=workers) as found:
            yield found
    else:
        with _router(name, engine_urls, folder, home) as found:
            yield found


# Routers.


def install_routers(home: Path) -> Path:
    """The folder of their commands, from the package index into an environment of their own."""
    venv = home / "routers"
    wanted = [f"{name}=={version}" for name, version in ROUTERS.items()]
    mark = venv / "installed"
    if mark.exists() and mark.read_text().split() == wanted:
        return venv / "bin"
    try:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run(
            [venv / "bin/python", "-m", "pip", "install", "-qq", *wanted],
            check=True,
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except subprocess.CalledProcessError as error:
        raise TargetError(f"{', '.join(wanted)} could not be installed: {error}") from None
    mark.write_text("\n".join(wanted))
    return venv / "bin"


@contextlib.contextmanager
def _router(name: str, urls: Sequence[str], folder: Path, home: Path) -> Iterator[Target]:
    program, *more = _LAUNCH[name]
    port = free_port()
    command = [str(install_routers(home) / program), *more, "--worker-urls", *urls]
    command += ["--policy", "round_robin", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    log = folder / f"{name}.log"
    with running(command, log=log) as process:
        found = Target(name=name, url=f"http://127.0.0.1:{port}", pid=process.pid)
        _await_ready(found, process, log)
        yield found


# Modelyard.


@contextlib.contextmanager
def modelyard(urls: Sequence[str], folder: Path, *, workers: int = 1) -> Iterator[Target]:
    """The product's own process on a registry of its own, everything on: keys, limits, metering,
    metrics, log. *workers* are its processes.
    """
    from load.fleet import make_fleet

    port, admin_port = free_port(), free_port()
    state = folder / f"modelyard-{port}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    env |= {
        "MODELYARD_HOME": str(state),
        "MODELYARD_PORT": str(port),
        "MODELYARD_ADMIN_PORT": str(admin_port),
    }
    key, admin_key = asyncio.run(make_fleet(state, urls))
    command = [sys.executable, "-m", "gateway", "serve"]
    command += ["--workers", str(workers)] if workers > 1 else []
    log = folder / "modelyard.log"
    with running(command, log=log, env=env) as process:
        found = Target(
            name=MODELYARD,
            url=f"http://127.0.0.1:{port}",
            pid=process.pid,
            key=key,
            admin_url=f"http://127.0.0.1:{admin_port}",
            admin_key=admin_key,
        )
        _await_ready(found, process, log)
        yield found


def _await_ready(found: Target, process: subprocess.Popen, log: Path) -> None:
    """Until it answers a request, as every request of the benchmark will be."""
    until = time.monotonic() + _READY_S
    body = {"model": "bench", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    seen = "no answer"
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(
                f"{found.url}/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {found.key}"},
                trust_env=False,
            )
            if answer.status_code == httpx.codes.OK:
                return
            seen = f"{answer.status_code} {answer.text[:200]}"
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-_LOG_CHARS:]
    raise TargetError(f"{found.name} did not become ready: {seen}. Its log ends:\n{tail}")
