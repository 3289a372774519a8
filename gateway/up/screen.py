"""What `up` shows: on a terminal with movement, elsewhere one line for each change."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from registry.settings import Settings
from registry.spec import Task

_STYLES = {"ready": "green", "degraded": "yellow", "rolling": "yellow", "asleep": "blue"}


class Screen:
    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def step(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextlib.contextmanager
    def work(self, title: str) -> Iterator[Callable[[str], None]]:
        """A long step: the yielded function tells its progress."""
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(title) as status:
                yield lambda text: status.update(f"{title}: {text}")
        else:
            self.step(f"{title} …")
            yield lambda text: self.step(f"  {text}")
        self.step(f"{title}: ready ({time.monotonic() - started:.0f} s)")

    @contextlib.contextmanager
    def models(self) -> "Iterator[ModelBoard]":
        board = ModelBoard(self._console)
        if not self._console.is_terminal:
            yield board
            return
        with Live(console=self._console, get_renderable=board.table, refresh_per_second=4):
            yield board

    def ready(self, settings: Settings, api_key: str, models: Mapping[str, Task]) -> None:
        """*models* by name, with what they are for."""
        address = f"http://{settings.host}:{settings.port}"
        path, body = _try_it(models)
        lines = [
            "",
            "Modelyard is ready.",
            f"  API      {address}/v1",
            f"  Key      {api_key}",
            f"  Console  {settings.admin}  (sign in with the key in {settings.admin_token_file})",
            f"  Admin    {settings.admin}  (the `modelyard` command uses it)",
            f"  Models   {', '.join(models) or 'none yet: modelyard apply -f FILE'}",
            "",
            "Try it:",
            f"  curl {address}{path} \\",
            f"    -H 'Authorization: Bearer {api_key}' \\",
            "    -H 'Content-Type: application/json' \\",
            f"    -d '{json.dumps(body)}'",
            "",
            "Ctrl-C stops everything."
            if settings.cluster == "local"
            else "Ctrl-C stops the gateway and the controller; workers go on.",
        ]
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)


def _try_it(models: Mapping[str, Task]) -> tuple[str, dict[str, Any]]:
    """A request that the first model answers: if one chats, of those that do."""
    chats = [name for name, task in models.items() if task is Task.GENERATE]
    name = (chats or list(models) or ["MODEL"])[0]
    question = "What is the capital of France?"
    match models.get(name):
        case Task.EMBED:
            return "/v1/embeddings", {"model": name, "input": question}
        case Task.RERANK:
            documents = ["Paris is the capital of France.", "The tax form is due in April."]
            return "/v1/rerank", {"model": name, "query": question, "documents": documents}
    messages = [{"role": "user", "content": question}]
    return "/v1/chat/completions", {"model": name, "messages": messages}


class ModelBoard:
    """Every model and its workers while they come up."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()

    def update(self, models: list[dict[str, Any]], workers: list[dict[str, Any]]) -> None:
        """Takes the admin API's lists."""
        rows = {}
        for model in models:
            rows[model["name"]] = (str(model["state"]), str(model["condition"]))
            for worker in workers:
                if worker["model"] == model["name"]:
                    rows["  " + worker["id"]] = (str(worker["phase"]), str(worker["reason"]))
        if not self._console.is_terminal:
            for name, row in rows.items():
                if self._rows.get(name) != row:
                    self.note(f"{name.strip()} {' '.join(row)}".rstrip())
        self._rows = rows

    def note(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"[{self._age()}] {text}", markup=False, soft_wrap=True)

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False, title=f"{self._age()}", title_justify="left")
        table.add_column("MODEL, WORKERS", no_wrap=True)
        table.add_column("STATE", no_wrap=True)
        table.add_column("WHY")
        for name, (state, why) in self._rows.items():
            table.add_row(name, f"[{_STYLES.get(state, 'dim')}]{state}[/]", why)
        return table

    def _age(self) -> str:
        return f"{time.monotonic() - self._started:.0f} s"
