"""Clients that ask without a pause while something changes, and what each of them got."""

import json
import threading
import time
from collections import Counter
from itertools import count
from typing import NamedTuple, Self

import httpx
from yard import Yard

PROMPT = (
    "The capital of Germany is Berlin. The capital of Italy is Rome. The capital of Spain is "
    "Madrid. The capital of Portugal is Lisbon. The capital of France is"
)


class Got(NamedTuple):
    """*wrong* says what is missing from the answer; "" where it is whole."""

    at: float
    streamed: bool
    wrong: str
    revision: str = ""
    mode: str = ""
    workers: str = ""


class SteadyLoad:
    """Every second one of the *clients* streams, or all of them. Each asks for exactly *tokens*,
    again *pause_s* after an answer. Used as a context; then *got* has every answer.
    """

    def __init__(
        self,
        yard: Yard,
        model: str,
        *,
        clients: int = 4,
        tokens: int = 16,
        pause_s: float = 0.02,
        timeout_s: float = 60.0,
        all_stream: bool = False,
    ) -> None:
        self.got: list[Got] = []
        self._yard = yard
        self._model = model
        self._tokens = tokens
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._ask_on, args=(all_stream or number % 2 == 0,), daemon=True
            )
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(self._timeout_s)
        assert not any(thread.is_alive() for thread in self._threads), "an answer never ends"

    @property
    def failed(self) -> list[Got]:
        return [got for got in self.got if got.wrong]

    def seen(self) -> Counter:
        """How many whole answers came from which revision in which mode."""
        return Counter((got.revision, got.mode) for got in self.got if not got.wrong)

    def _ask_on(self, streamed: bool) -> None:
        with self._yard.client(self._timeout_s) as client:
            while not self._over.is_set():
                at = time.monotonic()
                try:
                    got = self._ask(client, at, streamed)
                except httpx.HTTPError as error:
                    got = Got(at, streamed, f"{type(error).__name__}: {error}")
                self.got.append(got)
                self._over.wait(self._pause_s)

    def _ask(self, client: httpx.Client, at: float, streamed: bool) -> Got:
        body = {
            "model": self._model,
            "prompt": f"{next(self._numbers)}. {PROMPT}",
            "max_tokens": self._tokens,
            "ignore_eos": True,
            "stream": streamed,
            **({"stream_options": {"include_usage": True}} if streamed else {}),
        }
        with client.stream("POST", "/v1/completions", json=body) as answer:
            content = answer.read().decode()
        wrong = f"{answer.status_code}: {content[:300]}"
        if answer.status_code == 200:
            wrong = self._missing(_chunks(content) if streamed else [json.loads(content)])
            if streamed and not content.endswith("data: [DONE]\n\n"):
                wrong = wrong or f"no end: {content[-200:]}"
        said = answer.headers
        return Got(
            at,
            streamed,
            wrong,
            said.get("x-modelyard-revision", ""),
            said.get("x-modelyard-mode", ""),
            said.get("x-modelyard-workers", ""),
        )

    def _missing(self, parts: list[dict]) -> str:
        errors = [part["error"] for part in parts if "error" in part]
        if errors:
            return f"error: {errors[0]}"
        choices = [choice for part in parts for choice in part["choices"]]
        if not "".join(choice["text"] for choice in choices):
            return "no text"
        if [c["finish_reason"] for c in choices if c["finish_reason"]] != ["length"]:
            return f"no finish: {choices[-1]}"
        used = [part["usage"]["completion_tokens"] for part in parts if part.get("usage")]
        return "" if used[-1:] == [self._tokens] else f"counted {used}, not {self._tokens}"


def _chunks(content: str) -> list[dict]:
    return [
        json.loads(line.removeprefix("data: "))
        for line in content.splitlines()
        if line.startswith("data: ") and line != "data: [DONE]"
    ]
