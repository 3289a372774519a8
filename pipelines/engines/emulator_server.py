"""The emulator as a process: ``python -m pipelines.engines.emulator_server --port 8100``.

Once it listens it writes one line, ``ready http://HOST:PORT kv PORT``, to its standard output.
SIGTERM and SIGINT end it with 0, bad flags with 2.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time

import uvloop

from pipelines.engines.emulator.adapter import API_KEY_VARIABLE
from pipelines.engines.emulator.options import Options, OptionsError, read
from pipelines.engines.emulator.server import serve

_HELPER_LIFE_S = 900  # so that a forgotten one ends


def main() -> None:
    try:
        options = read(sys.argv[1:])
    except OptionsError as error:
        sys.stderr.write(f"emulator: {error}\n")
        sys.exit(2)
    # Popped, so that no child inherits it.
    token = os.environ.pop(API_KEY_VARIABLE, "")
    _start_helpers(options)
    time.sleep(options.startup_s)
    try:
        uvloop.run(_run(options, token))
    except OSError as error:
        sys.stderr.write(f"emulator: cannot listen on {options.host}: {error}\n")
        sys.exit(1)


async def _run(options: Options, token: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, ended.set)
    on_term = (lambda: None) if options.ignore_sigterm else ended.set
    loop.add_signal_handler(signal.SIGTERM, on_term)
    async with serve(options, token=token) as running:
        sys.stdout.write(f"ready {running.url} kv {running.kv_port}\n")
        sys.stdout.flush()
        await ended.wait()


def _start_helpers(options: Options) -> None:
    """Processes that live on when this one is killed, as vLLM's EngineCore and workers do."""
    for _ in range(options.helper_processes):
        subprocess.Popen(  # noqa: S603 - our own interpreter and a constant
            [sys.executable, "-c", f"import time; time.sleep({_HELPER_LIFE_S})"],
            stdin=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
