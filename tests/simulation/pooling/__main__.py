"""`make bench-pooling`: how many devices forty models need, each on its own, packed, and pooled."""

import argparse
import sys
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import msgspec
from rich.console import Console
from simulation.pooling.catalog import catalog
from simulation.pooling.fleets import TTFT_S
from simulation.pooling.report import Comparison, show
from simulation.pooling.search import Case, dedicated, packed, pooled


def main(arguments: list[str] | None = None) -> int:
    """0 if the pool needs the fewest everywhere."""
    options = _options(arguments)
    from_s = min(options.from_s, options.until_s / 3)
    cases = [
        Case(
            exponent=exponent,
            models=options.models,
            until_s=options.until_s,
            from_s=from_s,
            awake_min_s=options.awake_min_s,
            stop=options.stop,
            ttft_s=options.ttft_s,
            seed=seed,
        )
        for exponent in options.exponents
        for seed in options.seeds
    ]
    comparisons = list(_compared(cases, options.jobs))
    show(comparisons, Console(width=100))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(comparisons)) + b"\n")
    return 0 if all(one.pool_needs_fewest for one in comparisons if one.is_possible) else 1


def _compared(cases: list[Case], jobs: int) -> Iterator[Comparison]:
    with Pool(jobs) as pool:
        for number, comparison in enumerate(pool.imap(compare, cases), 1):
            sys.stderr.write(f"\r{number} of {len(cases)} cases")
            sys.stderr.flush()
            yield comparison
    sys.stderr.write("\n")


def compare(case: Case) -> Comparison:
    models = catalog(case.models, exponent=case.exponent, seed=case.seed)
    alone = dedicated(models, case)
    if alone.fewest is None:
        return Comparison(case=case, found=(alone,))
    together = packed(models, case)
    most = together.tried[0].devices
    return Comparison(case=case, found=(alone, together, pooled(models, case, most=most)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-pooling",
        description="Forty models of Zipf popularity on the arrivals of Azure's conversations: the "
        "fewest devices that keep 99 % of the promises, for a device each, for first-fit packing "
        "awake, and for a pool whose models sleep and wake by the controller's own rules. "
        "Deterministic; a minute of one core for each popularity and seed. Exits with 1 if the "
        "pool does not need the fewest wherever a device each is enough.",
    )
    parser.add_argument("--models", type=int, default=40, help="(40)")
    parser.add_argument(
        "--exponents", type=float, nargs="+", default=[1.0, 1.5, 2.0], help="of Zipf (1 1.5 2)"
    )
    parser.add_argument("--until-s", type=float, default=1500.0, help="of the trace (1500)")
    parser.add_argument(
        "--from-s",
        type=float,
        default=600.0,
        help="what counts begins (600), at most a third of --until-s",
    )
    parser.add_argument("--awake-min-s", type=float, default=5.0, help="of the pool (5)")
    parser.add_argument(
        "--stop", action="store_true", help="engines that do not sleep: they stop and start anew"
    )
    parser.add_argument(
        "--ttft-s", type=float, default=TTFT_S, help=f"promised until the first token ({TTFT_S:g})"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(1)")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (2)")
    parser.add_argument(
        "--out", type=Path, default=Path(".bench/pooling.json"), help="(.bench/pooling.json)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
