"""What was found, as a table for people."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from simulation.pooling.fleets import TPOT_S
from simulation.pooling.search import Case, Found


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    case: Case
    found: tuple[Found, ...]

    @property
    def is_possible(self) -> bool:
        """Whether a device for each model is enough: else the most popular needs more than one."""
        return self.found[0].fewest is not None

    @property
    def pool_needs_fewest(self) -> bool:
        *others, pool = (one.fewest for one in self.found)
        if pool is None:
            return False
        return all(other is None or pool.devices < other.devices for other in others)


def show(comparisons: Sequence[Comparison], console: Console) -> None:
    case = comparisons[0].case
    table = Table(
        title=f"devices for 99 % of the requests within TTFT {case.ttft_s:g} s and TPOT {TPOT_S:g}"
        f" s; engines {'stop and start anew' if case.stop else 'sleep and wake'}"
    )
    table.add_column("popularity, seed")
    table.add_column("way")
    for title in ("devices", "attained", "with begin", "TTFT p99", "switches/h", "moves/h"):
        table.add_column(title, justify="right")
    for comparison in comparisons:
        popularity = f"Zipf {comparison.case.exponent:g}, {comparison.case.seed}"
        for one in comparison.found:
            best = one.fewest
            if best is None:
                near = max(one.tried, key=lambda outcome: outcome.attained)
                row = [f"none ({near.devices}: {near.attained:.2%})", *[""] * 5]
            else:
                row = [
                    str(best.devices),
                    f"{best.attained:.2%}",
                    f"{best.attained_all:.2%}",
                    f"{best.ttft_p99_s:.2f} s",
                    f"{best.switches_per_hour:.0f}",
                    f"{best.moves_per_hour:.0f}",
                ]
            table.add_row(popularity, one.way, *row)
            popularity = ""
        table.add_section()
    console.print(table)
