"""Recorded requests as arrivals: the two public forms that traces come in, packed or not.

CSV as in the Azure LLM inference dataset (``TIMESTAMP,ContextTokens,GeneratedTokens``), JSON lines
as in Mooncake's release (``timestamp`` in milliseconds, ``input_length``, ``output_length``).
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TextIO

from pipelines.planner.demand import Length
from pipelines.planner.engine import Arrival

REQUESTS_MAX = 1_000_000


class TraceError(ValueError):
    """The file is no trace: the message says where and what is allowed."""


def read(path: Path) -> list[Arrival]:
    """By their times, from 0. Raises TraceError."""
    opened = gzip.open if path.suffix == ".gz" else open
    name = path.name.removesuffix(".gz")
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            rows = list(_rows(file, name))
    except OSError as error:
        raise TraceError(f"cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise TraceError("is not text") from None
    if not rows:
        raise TraceError("has no requests")
    rows.sort(key=lambda row: (row.at_s, row.length.prompt, row.length.answer))
    begin = rows[0].at_s
    return [Arrival(row.at_s - begin, row.length) for row in rows]


def rate_of(arrivals: list[Arrival]) -> float:
    """Requests a second, on average."""
    return len(arrivals) / max(arrivals[-1].at_s, 1e-9)


def _rows(file: TextIO, name: str) -> Iterator[Arrival]:
    every: Iterable[Arrival]
    if name.endswith(".csv"):
        every = map(_of_azure, csv.DictReader(file))
    elif name.endswith(".jsonl"):
        every = (_of_mooncake(line) for line in file if line.strip())
    else:
        raise TraceError(f"is {name}, allowed are .csv and .jsonl, also with .gz")
    number = 0
    try:
        for number, arrival in enumerate(every, start=1):
            yield _checked(arrival, number)
    except (KeyError, TypeError, AttributeError) as error:
        raise TraceError(f"request {number + 1}: {type(error).__name__}: {error}"[:200]) from None
    except ValueError as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"request {number + 1}: {error}"[:200]) from None


def _checked(arrival: Arrival, number: int) -> Arrival:
    if number > REQUESTS_MAX:
        raise TraceError(f"has over {REQUESTS_MAX} requests")
    if arrival.length.prompt < 1 or arrival.length.answer < 0:
        raise TraceError(f"request {number}: has no prompt, or fewer than no tokens")
    return arrival


def _of_azure(row: dict[str, str]) -> Arrival:
    at = datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00").timestamp()
    return Arrival(at, Length(int(row["ContextTokens"]), int(row["GeneratedTokens"])))


def _of_mooncake(line: str) -> Arrival:
    row = json.loads(line)
    length = Length(int(row["input_length"]), int(row["output_length"]))
    return Arrival(float(row["timestamp"]) / 1e3, length)
