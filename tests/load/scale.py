"""The scenario `scale`: requests a second of 1, 2, 4 and 8 gateway processes, saturated."""

import os
from pathlib import Path

import click
import msgspec
from load.arithmetic import median
from load.scenarios import Scenario, measure
from load.targets import mock_engines, modelyard

SCALE = Scenario(name="scale", title="requests without streaming, saturating", at_once=64)
_WORKERS = (1, 2, 4, 8)
_AT_ONCE_PER_WORKER = 32


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What *workers* gateway processes did; *speedup* is against one."""

    workers: int
    per_s: float
    cpu_us: float
    speedup: float
    errors: int


def measure_scale(folder: Path, *, rounds: int, seconds: float, processes: int) -> list[Step]:
    """Steps as far as the machine has cores; *processes* clients and as many mock engines."""
    cores = os.cpu_count() or 1
    processes = processes or max(1, cores // 4)
    steps: list[Step] = []
    with mock_engines(processes, folder) as urls:
        for workers in _WORKERS:
            if workers > 1 and workers + 2 > cores:
                break
            with modelyard(urls, folder, workers=workers) as gateway:
                at_once = _AT_ONCE_PER_WORKER * max(workers, processes)
                scenario = msgspec.structs.replace(SCALE, at_once=at_once)
                samples = [
                    measure(gateway, scenario, number=n, seconds=seconds, processes=processes)
                    for n in range(rounds)
                ]
            click.echo(
                f"scale {workers}: {[round(sample.per_s) for sample in samples]}/s", err=True
            )
            per_s = median(sample.per_s for sample in samples)
            steps.append(
                Step(
                    workers=workers,
                    per_s=per_s,
                    cpu_us=median(sample.cpu_us for sample in samples),
                    speedup=per_s / steps[0].per_s if steps else 1.0,
                    errors=sum(sum(sample.errors.values()) for sample in samples),
                )
            )
    return steps
