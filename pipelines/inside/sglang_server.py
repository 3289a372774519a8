"""Starts SGLang's server in its own environment: `python -m sglang.launch_server`, and the key.

SGLang takes its API key from the command line, which every user of the machine can read. Here it
comes from the environment, and the server's log does not hold it. And it sleeps only once.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

KEY_VARIABLE = "MODELYARD_ENGINE_KEY"
_HIDDEN = "(the worker's key)"


def main() -> None:
    _keep_metrics_here()
    from sglang.launch_server import run_server
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    load_plugins()
    if "--enable-memory-saver" in sys.argv:
        from sglang.srt.managers.tokenizer_manager import TokenizerManager

        sleep_once(TokenizerManager)
    key = os.environ[KEY_VARIABLE]
    _keep_out_of_logs(key)
    try:
        run_server(prepare_server_args([*sys.argv[1:], f"--api-key={key}"]))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def sleep_once(manager: Any) -> None:
    """SGLang ends when it is told to wake up and does not sleep. Who tells it may not know, after a
    restart say, and tells it again.
    """
    release, resume = manager.release_memory_occupation, manager.resume_memory_occupation
    turns = asyncio.Lock()
    asleep = False

    async def release_once(self: Any, *told: Any) -> None:
        nonlocal asleep
        async with turns:
            if not asleep:
                await release(self, *told)
                asleep = True

    async def resume_once(self: Any, *told: Any) -> None:
        nonlocal asleep
        async with turns:
            if asleep:
                await resume(self, *told)
                asleep = False

    manager.release_memory_occupation = release_once
    manager.resume_memory_occupation = resume_once


def _keep_metrics_here() -> None:
    """Its processes share their counts by files. It chooses where by itself, but some of it may be
    imported by then and count for its own process only; and a killed one leaves them behind.
    """
    folder = Path.cwd() / "metrics"
    folder.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _keep_out_of_logs(key: str) -> None:
    """SGLang logs all of its settings when it starts."""
    make = logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        text = record.getMessage()
        if key in text:
            record.msg, record.args = text.replace(key, _HIDDEN), ()
        return record

    logging.setLogRecordFactory(made)


if __name__ == "__main__":
    main()
