"""The published cases, beside what the planner makes of them."""

import msgspec
from simulation.planning.forms import Form, options_of
from simulation.planning.placing import Laid, laid

from pipelines.planner.demand import Demand, Length
from pipelines.planner.fleet import Fleet, NodeKind
from pipelines.planner.options import Option, options
from pipelines.planner.plan import Subject
from pipelines.planner.rehearsal import rate_rehearsed
from pipelines.planner.silicon import Silicon
from registry.spec.demand import Slo

LLAMA = "nvidia/Llama-3.1-70B-Instruct-FP8"
GPT_OSS = "openai/gpt-oss-120b"
STEADY = 0.5  # of the requests within the SLO: the estimators that published count the mean one
MANY = 1e6
REQUESTS = 3000


PAIR = Form(first=4, second=4, prefills=1, decodes=1)


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """Answered tokens a second and device, within the SLO. *placed*: where the scheduler lays the
    disaggregated shape's workers, where that was asked.
    """

    case: str
    devices: int
    aggregated_shape: str
    aggregated_tokens: float
    disaggregated_shape: str
    disaggregated_tokens: float
    published: str
    placed: tuple[Laid, ...] = ()

    @property
    def ratio(self) -> float:
        return self.disaggregated_tokens / max(self.aggregated_tokens, 1e-9)


def headlines(seed: int) -> list[Headline]:
    found = []
    for nodes, published in ((1, "1.54x (1.3x by DistServe's kind)"), (2, "2.31x (over 2x)")):
        for share, said in ((STEADY, "steady"), (0.95, "95 % within")):
            asked = _demand(LLAMA, 3000, 150, Slo(ttft_s=1.0, tpot_s=0.02), share)
            found.append(
                _headline(f"Llama-70B FP8 3000/150, {said}", asked, nodes, published, seed)
            )
    asked = _demand(GPT_OSS, 2000, 500, Slo(ttft_s=1.0, tpot_s=0.02), 0.95)
    best = _headline("gpt-oss-120b 2000/500, 95 % within", asked, 1, "1P TP4 + 1D TP4", seed)
    return [*found, best, _as_declared(best, asked, seed)]


def _demand(model: str, prompt: int, answer: int, slo: Slo, share: float) -> Demand:
    return Demand(model=model, rate=MANY, lengths=(Length(prompt, answer),), slo=slo, share=share)


def _headline(case: str, demand: Demand, nodes: int, published: str, seed: int) -> Headline:
    fleet = Fleet(nodes=(NodeKind(device_model="H100", count=nodes),))
    every = options(demand, Silicon(demand.model).times, fleet, engines=["vllm"])
    aggregated = _best([one for one in every if not one.is_disaggregated], demand, seed)
    disaggregated = _best([one for one in every if one.is_disaggregated], demand, seed)
    return Headline(
        case=case,
        devices=fleet.devices,
        aggregated_shape=aggregated[0],
        aggregated_tokens=aggregated[1],
        disaggregated_shape=disaggregated[0],
        disaggregated_tokens=disaggregated[1],
        published=published,
    )


def _as_declared(best: Headline, demand: Demand, seed: int) -> Headline:
    """The published shape itself, whatever is better, laid by the scheduler."""
    option, fleet = pair_of(demand)
    rate = rate_rehearsed(option.group, demand, option.rate, seed=seed, requests=REQUESTS)
    return msgspec.structs.replace(
        best,
        case="gpt-oss-120b 2000/500, as published",
        disaggregated_shape=option.label,
        disaggregated_tokens=round(rate * demand.answer / option.devices, 1),
        placed=laid(option, demand, fleet, f"hf://{demand.model}"),
    )


def pair_of(demand: Demand, island: int = 0) -> tuple[Option, Fleet]:
    """One prefill worker and one decode worker of 4 devices each, and the node of 8 for them."""
    fleet = Fleet(nodes=(NodeKind(device_model="H100", island=island),))
    subject = Subject(demand=demand, times_of=Silicon(demand.model).times, engines=("vllm",))
    (option,) = options_of(PAIR, [subject], fleet)
    return option, fleet


def _best(every: list[Option], demand: Demand, seed: int) -> tuple[str, float]:
    """By rehearsal, of the five that formulas find best: (shape, tokens/s/device)."""
    every = sorted(every, key=lambda one: -one.rate / one.devices)[:5]
    found = [
        (
            rate_rehearsed(one.group, demand, one.rate, seed=seed, requests=REQUESTS)
            * demand.answer
            / one.devices,
            one.label,
        )
        for one in every
    ]
    tokens, label = max(found, default=(0.0, "none"))
    return label, round(tokens, 1)
