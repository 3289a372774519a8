"""`make bench-soak`: thousands of streams through the gateway for minutes.

Streams are renewed as they end. Watched are the gateway's memory, its event loop's lag as it
exports it, and every stream's wholeness.
"""

import itertools
import math
import tempfile
import time
from pathlib import Path

import click
import httpx
import msgspec
from load.arithmetic import bucket_quantile, percentile, slope_per_min
from load.client import Tally
from load.clients import clients
from load.processes import cpu_s, queued_s, raise_file_limit, rss_bytes
from load.report import a_console
from load.targets import Target, TargetError, mock_engines, modelyard, set_pace
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

LAG = "modelyard_event_loop_lag_seconds"
_LAG_P99_S_MAX = 0.020
_SLOPE_MB_MAX = 1.0  # a minute, over the second half: flat
_SAMPLE_S = 5.0
_SCRAPE_S = 5.0
_TOKENS = 64
# With its default limits a worker takes 256 requests at once; power of two choices spreads these.
_STREAMS_PER_WORKER = 125
_MB = 1e6


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside the table. *rss* are pairs of seconds and megabytes; *lag_p99_s* is
    NaN (in JSON: null) where the gateway does not export its lag.
    """

    streams: int
    good: int
    tokens: int
    wall_s: float
    errors: dict[str, int]
    first_p50_s: float
    first_p99_s: float
    cpu_us_per_token: float
    cpu_share: float
    queued_share: float  # of the time in which the gateway was ready to run and had no core
    lag_p50_s: float
    lag_p99_s: float
    lag_p99_worst_s: float
    slope_mb_per_min: float
    rss: list[tuple[float, float]]


def lag_buckets(gateway: Target) -> dict[float, float]:
    """The histogram of the event loop's lag so far, summed over the gateway's processes; empty if
    it is not exported, or not in time.
    """
    try:
        answer = httpx.get(
            f"{gateway.admin_url}/metrics",
            headers={"authorization": f"Bearer {gateway.admin_key}"},
            trust_env=False,
            timeout=_SCRAPE_S,
        ).raise_for_status()
    except httpx.HTTPError as error:
        click.echo(f"the gateway's metrics could not be read: {error!r}", err=True)
        return {}
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(answer.text):
        if family.name == LAG:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return buckets


def between(earlier: dict[float, float], later: dict[float, float]) -> dict[float, float]:
    return {bound: count - earlier.get(bound, 0.0) for bound, count in later.items()}


def soak(gateway: Target, *, streams: int, seconds: float, pace: float, processes: int) -> Outcome:
    """Drives the streams and watches the gateway meanwhile."""
    ramp_s = _TOKENS / pace
    rss: list[tuple[float, float]] = []
    lags: list[dict[float, float]] = []
    cpu_before, queued_before = cpu_s(gateway.pid), queued_s(gateway.pid)
    began = time.monotonic()
    with clients(
        gateway,
        at_once=streams,
        seconds=seconds,
        tokens=_TOKENS,
        ramp_s=ramp_s,
        processes=processes,
    ) as wait:
        while time.monotonic() - began < seconds:
            time.sleep(_SAMPLE_S)
            at = time.monotonic() - began
            rss.append((at, rss_bytes(gateway.pid) / _MB))
            if at > ramp_s and (buckets := lag_buckets(gateway)):
                lags.append(buckets)
            click.echo(f"{at:5.0f} s: {rss[-1][1]:.1f} MB", err=True)
        tally = wait()
    used_s, queued = cpu_s(gateway.pid) - cpu_before, queued_s(gateway.pid) - queued_before
    return _outcome(
        tally, streams=streams, rss=rss, lags=lags, used_s=used_s, queued=queued, ramp_s=ramp_s
    )


def _outcome(
    tally: Tally,
    *,
    streams: int,
    rss: list[tuple[float, float]],
    lags: list[dict[float, float]],
    used_s: float,
    queued: float,
    ramp_s: float,
) -> Outcome:
    whole = between(lags[0], lags[-1]) if lags else {}
    steps = [
        bucket_quantile(between(earlier, later), 0.99)
        for earlier, later in itertools.pairwise(lags)
    ]
    return Outcome(
        streams=streams,
        good=tally.good,
        tokens=tally.tokens,
        wall_s=tally.wall_s,
        errors=tally.errors,
        first_p50_s=percentile(tally.first_s, 50),
        first_p99_s=percentile(tally.first_s, 99),
        cpu_us_per_token=used_s / tally.tokens * 1e6 if tally.tokens else math.nan,
        cpu_share=used_s / tally.wall_s,
        queued_share=queued / tally.wall_s,
        lag_p50_s=bucket_quantile(whole, 0.5),
        lag_p99_s=bucket_quantile(whole, 0.99),
        lag_p99_worst_s=max((step for step in steps if not math.isnan(step)), default=math.nan),
        slope_mb_per_min=slope_per_min([sample for sample in rss if sample[0] > ramp_s]),
        rss=rss,
    )


def _show(outcome: Outcome) -> None:
    table = Table(title=f"{outcome.streams:,} streams for {outcome.wall_s:.0f} s")
    for name in ("", "measured", "target", ""):
        table.add_column(name)
    errors = sum(outcome.errors.values())
    slope = outcome.slope_mb_per_min
    lag = outcome.lag_p99_s
    rows = (
        ("whole streams", f"{outcome.good:,}", "", ""),
        ("errors", str(outcome.errors or 0), "0", _met(not errors)),
        (
            "memory, second half",
            f"{slope:+.2f} MB/min, {outcome.rss[-1][1]:.0f} MB at the end",
            f"flat (< {_SLOPE_MB_MAX:.0f} MB/min)",
            _met(None if math.isnan(slope) else slope < _SLOPE_MB_MAX),
        ),
        (
            "event loop's lag p99",
            "not exported" if math.isnan(lag) else f"{lag * 1e3:.1f} ms",
            f"< {_LAG_P99_S_MAX * 1e3:.0f} ms",
            _met(None if math.isnan(lag) else lag < _LAG_P99_S_MAX),
        ),
        ("lag p99 of the worst 5 s", _ms(outcome.lag_p99_worst_s), "", ""),
        ("TTFT p50, p99", f"{_ms(outcome.first_p50_s)}, {_ms(outcome.first_p99_s)}", "", ""),
        ("tokens/s", f"{outcome.tokens / outcome.wall_s:,.0f}", "", ""),
        ("gateway's CPU", f"{outcome.cpu_share:.0%} of a core", "", ""),
        ("gateway waited for a core", f"{outcome.queued_share:.0%} of the time", "", ""),
        ("CPU by token", f"{outcome.cpu_us_per_token:.1f} µs", "", ""),
    )
    for row in rows:
        table.add_row(*row)
    a_console().print(table)


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.1f} ms"


def _met(good: bool | None) -> str:
    return "not measured" if good is None else "met" if good else "NOT met"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--streams", default=2000, help="Streams at once.")
@click.option("--minutes", default=5.0)
@click.option("--tokens-per-s", default=5.0, help="Of each stream; two cores bear 5.")
@click.option("--gateway-workers", default=1, help="Processes of the gateway (serve --workers).")
@click.option("--processes", default=1, help="Clients that share the streams, and mock engines.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(".bench/soak.json"))
def main(
    *,
    streams: int,
    minutes: float,
    tokens_per_s: float,
    gateway_workers: int,
    processes: int,
    out: Path,
) -> None:
    """Keep thousands of streams going through the gateway and watch its memory and its lag."""
    raise_file_limit()
    out.parent.mkdir(parents=True, exist_ok=True)
    workers = max(math.ceil(streams / _STREAMS_PER_WORKER), processes)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="modelyard-soak-") as folder,
            mock_engines(processes, Path(folder)) as mocks,
            modelyard(
                [mocks[number % processes] for number in range(workers)],
                Path(folder),
                workers=gateway_workers,
            ) as gateway,
        ):
            set_pace(mocks, tokens_per_s)
            outcome = soak(
                gateway,
                streams=streams,
                seconds=minutes * 60,
                pace=tokens_per_s,
                processes=processes,
            )
    except TargetError as error:
        raise click.ClickException(str(error)) from None
    out.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1))
    _show(outcome)
    click.echo(f"all samples are in {out}", err=True)


if __name__ == "__main__":
    main()
