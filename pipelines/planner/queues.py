"""Waiting in line and chance, in closed form: what screens the candidates before any simulation."""

from math import erf, exp, floor, sqrt


def waits_longer(servers: int, rate: float, service_s: float, cv2: float, than_s: float) -> float:
    """The share of arrivals that wait longer than *than_s* for one of *servers*, first come first
    served, Poisson arrivals at *rate*: Erlang's C, its mean wait by Allen and Cunneen's
    approximation of M/G/c, its tail taken for exponential.
    """
    if than_s < 0:
        return 1.0
    if rate <= 0:
        return 0.0
    use = rate * service_s / servers
    if use >= 1:
        return 1.0
    mean_s = service_s * (1 + cv2) / 2 / (servers * (1 - use))
    return erlang_c(servers, rate * service_s) * exp(-than_s / mean_s)


def erlang_c(servers: int, load: float) -> float:
    """The chance that all *servers* are busy (M/M/c), *load* in erlangs below *servers*."""
    blocked = 1.0  # Erlang's B by its recursion, which does not overflow
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def at_most(count: float, mean: float) -> float:
    """The chance that a Poisson count of this *mean* is at most *count*, which is floored."""
    if count < 0:
        return 0.0
    if mean <= 0:
        return 1.0
    if mean > 30:  # noqa: PLR2004 - from here on the normal's error is about one part in a hundred
        return below((floor(count) + 0.5 - mean) / sqrt(mean))
    part = total = exp(-mean)
    for k in range(1, int(min(count, 10 * mean + 20)) + 1):
        part *= mean / k
        total += part
    return min(1.0, total)


def below(deviations: float) -> float:
    """The standard normal's distribution function."""
    return (1 + erf(deviations / sqrt(2))) / 2
