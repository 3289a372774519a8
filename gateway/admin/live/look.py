"""Everything at one moment, as those see it who look now. Pure."""

from collections.abc import Mapping
from functools import cached_property

from gateway.admin.live.engines import Pace
from gateway.admin.live.flow import flow
from gateway.admin.live.overview import overview
from gateway.admin.live.problems import Facts, problems
from gateway.admin.live.rates import everybody, of_clients, rates_of, summed, waiting
from gateway.admin.live.standing import Standing
from gateway.admin.live.views import FlowView, ModelsEvent, OverviewView
from gateway.admin.views import ModelSummary, RatesView, model_summary
from pipelines.awake.wishes import NOTHING, Wish
from registry.errors import NotFoundError
from registry.state import Lease
from registry.traffic import Traffic


class Served:
    """What all did within one window: *rates* by model, and of *everything*."""

    def __init__(self, standing: Standing, traffic: Mapping[str, list[Traffic]]) -> None:
        sums = {
            name: summed(of_clients(standing.models[name], rows))
            for name, rows in traffic.items()
            if name in standing.models
        }
        self.traffic = traffic
        self.rates = {name: rates_of(seen, NOTHING) for name, seen in sums.items()}
        self.everything = rates_of(summed(tuple(sums.values())), NOTHING)


_QUIET = rates_of(summed(()), NOTHING)


class Look:
    """What it is asked for is worked out once. *before* is the look before this one; *known* are
    the newest summaries that somebody asked for.
    """

    def __init__(
        self,
        *,
        at: float,
        standing: Standing,
        served: Served,
        wishes: Mapping[str, Wish],
        lease: Lease | None,
        before: "Look | None" = None,
    ) -> None:
        self.at = at
        self.standing = standing
        self._served = served
        self._wishes = wishes
        self._lease = lease
        self.known: Mapping[str, ModelSummary] = before.known if before is not None else {}

    @cached_property
    def summaries(self) -> Mapping[str, ModelSummary]:
        """By name, in its order; who has not changed is the very one that was told before."""
        known, found = self.known, {}
        for name in self.standing.models:
            summary = self._summary(name)
            found[name] = known[name] if known.get(name) == summary else summary
        self.known = found
        return found

    @cached_property
    def overview(self) -> OverviewView:
        facts = Facts(
            snapshot=self.standing.snapshot,
            states=self.standing.states,
            statuses=self.standing.statuses,
            failed=self.standing.failed,
            rates=self._served.rates,
            wishes=self._wishes,
            lease=self._lease,
            proposals=self.standing.proposals,
            now=self.at,
        )
        rates = waiting(self._served.everything, everybody(self._wishes))
        return overview(self.standing.counts, self.standing.fleet, rates, problems(facts), self.at)

    def flow(self, name: str, paces: Mapping[str, Pace]) -> FlowView:
        """Raises NotFoundError."""
        model = self.standing.models.get(name)
        if model is None:
            raise NotFoundError("model", name)
        return flow(
            model,
            self.standing.statuses[name],
            self._served.traffic.get(name, []),
            self._wishes.get(name, NOTHING),
            paces=paces,
            devices=self.standing.devices,
            now=self.at,
        )

    def _summary(self, name: str) -> ModelSummary:
        return model_summary(
            self.standing.models[name], self.standing.statuses[name], self._rates(name)
        )

    def _rates(self, name: str) -> RatesView:
        rates = self._served.rates.get(name, _QUIET)
        wish = self._wishes.get(name, NOTHING)
        return rates if wish.is_idle else waiting(rates, wish)


def changes(
    before: Mapping[str, ModelSummary] | None, now: Mapping[str, ModelSummary]
) -> ModelsEvent | None:
    """What is new since *before*, or all of it where there is none; None where nothing is."""
    if before is None:
        return ModelsEvent(items=tuple(now.values()), removed=(), whole=True)
    items = tuple(
        one for name, one in now.items() if before.get(name) is not one and before.get(name) != one
    )
    removed = tuple(name for name in before if name not in now)
    if not items and not removed:
        return None
    return ModelsEvent(items=items, removed=removed, whole=False)
