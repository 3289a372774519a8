"""`make bench-gateway`: what Modelyard's gateway costs beside the routers in Rust.

The same mock engine behind each, one load after the other in interleaved rounds, CPU time of each
proxy's process tree from the kernel. Prints ratios against the targets, and writes all samples.
"""

import contextlib
import os
import platform
import tempfile
from pathlib import Path

import click
import msgspec
from load.arithmetic import Verdict
from load.processes import raise_file_limit
from load.report import a_console, print_scale, print_scenario, print_verdicts
from load.scale import SCALE, Step, measure_scale
from load.scenarios import SCENARIOS, Sample, Samples, Scenario, measure, verdicts
from load.targets import TARGETS, Target, TargetError, mock_engines, set_pace, target

_NAMES = [scenario.name for scenario in SCENARIOS]
_QUICK = {"rounds": 2, "seconds": 2.0}


def _progress(line: str) -> None:
    click.echo(line, err=True)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    cpus: int = os.cpu_count() or 1
    kernel: str = platform.release()
    python: str = platform.python_version()
    load_before: float = os.getloadavg()[0]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside the tables."""

    machine: Machine
    rounds: int
    seconds: float
    samples: list[Sample]
    verdicts: list[Verdict]
    scale: list[Step]


class Run:
    """One run of the benchmark: its options and its progress on stderr."""

    def __init__(self, *, rounds: int, seconds: float, home: Path) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.home = home

    def side_by_side(
        self, targets: list[str], scenarios: list[Scenario], folder: Path, *, workers: int
    ) -> list[Sample]:
        with contextlib.ExitStack() as stack:
            urls = stack.enter_context(mock_engines(1, folder))
            running = []
            for name in targets:
                _progress(f"starting {name}")
                found = target(name, urls, folder, home=self.home, workers=workers)
                running.append(stack.enter_context(found))
            samples = []
            for scenario in scenarios:
                if scenario.tokens:
                    set_pace(urls, scenario.tokens_per_s)
                samples += self._rounds(running, scenario)
            return samples

    def _rounds(self, running: list[Target], scenario: Scenario) -> list[Sample]:
        for found in running:  # connections and code get warm
            measure(found, scenario, number=0, seconds=1)
        samples = []
        for number in range(self.rounds):
            # Each target comes first as often as the others: what drifts hits all alike.
            first = number % len(running)
            for found in running[first:] + running[:first]:
                sample = measure(found, scenario, number=number, seconds=self.seconds)
                samples.append(sample)
                _progress(
                    f"{scenario.name} {number + 1}/{self.rounds} {found.name}: "
                    f"{sample.cpu_us:.1f} µs/{scenario.unit}, {sample.per_s:,.0f} {scenario.unit}s"
                    f"/s, p50 {sample.p50_s * 1e3:.2f} ms, p99 {sample.p99_s * 1e3:.2f} ms, "
                    f"machine {sample.machine_busy:.0%} busy, errors {sample.errors or 'none'}"
                )
        return samples


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=5, help="Interleaved rounds; medians over them count.")
@click.option("--seconds", default=5.0, help="Duration of one measurement.")
@click.option("--quick", is_flag=True, help="2 rounds of 2 s: does it run, roughly where are we.")
@click.option("--targets", default=",".join(TARGETS), help="Which of them, by commas.")
@click.option("--scenarios", default=",".join(_NAMES), help="Which of them, or scale.")
@click.option("--gateway-workers", default=1, help="Processes of the gateway (serve --workers).")
@click.option("--processes", default=0, help="Clients, and mock engines, of scale; 0: by cores.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="MODELYARD_BENCH_HOME",
    default=Path(".bench"),
    help="Where the routers are installed.  [MODELYARD_BENCH_HOME]",
)
@click.option("--out", type=click.Path(path_type=Path), help="[default: HOME/gateway.json]")
def main(
    *,
    rounds: int,
    seconds: float,
    quick: bool,
    targets: str,
    scenarios: str,
    gateway_workers: int,
    processes: int,
    home: Path,
    out: Path | None,
) -> None:
    """Modelyard's gateway against vllm-router, sglang-router and no proxy at all.

    The scenario `scale` is not in the default: it compares 1, 2, 4 and 8 processes of the gateway
    and wants a machine with cores for them, the clients and the mock engines.
    """
    if quick:
        rounds, seconds = _QUICK["rounds"], _QUICK["seconds"]
    names = _chosen(scenarios, [*_NAMES, SCALE.name], "--scenarios")
    chosen = [scenario for scenario in SCENARIOS if scenario.name in names]
    wanted = _chosen(targets, list(TARGETS), "--targets")
    home.mkdir(parents=True, exist_ok=True)
    raise_file_limit()
    run = Run(rounds=rounds, seconds=seconds, home=home.absolute())
    machine = Machine()
    samples: list[Sample] = []
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        try:
            if chosen:
                samples = run.side_by_side(wanted, chosen, Path(folder), workers=gateway_workers)
            if SCALE.name in names:
                steps = measure_scale(
                    Path(folder), rounds=rounds, seconds=seconds, processes=processes
                )
        except TargetError as error:
            raise click.ClickException(str(error)) from None
    found = verdicts(Samples(samples), chosen)
    _show(chosen, wanted, samples, found, steps)
    out = out or home / "gateway.json"
    document = Document(
        machine=machine,
        rounds=rounds,
        seconds=seconds,
        samples=samples,
        verdicts=found,
        scale=steps,
    )
    out.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    _progress(f"all samples are in {out}")


def _show(
    chosen: list[Scenario],
    targets: list[str],
    samples: list[Sample],
    found: list[Verdict],
    steps: list[Step],
) -> None:
    console = a_console()
    for scenario in chosen:
        print_scenario(console, scenario, targets, Samples(samples))
    if chosen:
        print_verdicts(console, found)
    if steps:
        print_scale(console, steps)


def _chosen(given: str, known: list[str], option: str) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := set(names) - set(known):
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}: allowed are {', '.join(known)}", param_hint=option
        )
    return [name for name in known if name in names]


if __name__ == "__main__":
    main()
