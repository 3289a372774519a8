"""Client processes: started together, and what they saw put together."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator

import msgspec
from load.arithmetic import merged
from load.client import Tally
from load.processes import module
from load.targets import Target, TargetError


@contextlib.contextmanager
def clients(
    target: Target, *, at_once: int, seconds: float, tokens: int, ramp_s: float, processes: int
) -> Iterator[Callable[[], Tally]]:
    """Loads *target* from *processes* clients; what is yielded waits for their common tally."""
    shares = [at_once // processes + (n < at_once % processes) for n in range(processes)]
    env = os.environ | {"BENCH_KEY": target.key}
    options = ("--seconds", seconds, "--tokens", tokens, "--ramp-s", ramp_s)
    started = [
        subprocess.Popen(
            module("client", "--url", target.url, "--at-once", share, *options),
            stdout=subprocess.PIPE,
            env=env,
        )
        for share in shares
        if share
    ]

    def wait() -> Tally:
        outputs = [client.communicate()[0] for client in started]
        return merged([_tally(client, out) for client, out in zip(started, outputs, strict=True)])

    try:
        yield wait
    finally:
        for client in started:
            client.kill()  # does nothing to one that has ended
            client.wait()


def _tally(client: subprocess.Popen, output: bytes) -> Tally:
    try:
        return msgspec.json.decode(output, type=Tally)
    except msgspec.DecodeError:
        raise TargetError(
            f"a client ended with {client.returncode} and {len(output)} bytes of its tally; "
            "its reason is above"
        ) from None
