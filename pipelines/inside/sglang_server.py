"""Starts SGLang's server in its own environment: `python -m sglang.launch_server`, and the key.

SGLang takes its API key from the command line, which every user of the machine can read. Here it
comes from the environment, and the server's log does not hold it.
"""

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
    key = os.environ[KEY_VARIABLE]
    _keep_out_of_logs(key)
    try:
        run_server(prepare_server_args([*sys.argv[1:], f"--api-key={key}"]))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


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
