"""What goes wrong between gateway and worker.

UpstreamError            *reason* is a word for metrics
├── ConnectError         no connection: refused, unreachable, too slow, too many
├── ResetError           the connection ended before the answer began
│   └── StaleError       so did a kept one, at once: nobody knows whether the request was seen
├── CutOffError          it ended in the middle of the answer
├── HungError            the worker's process does not even answer its health route
└── BrokenAnswerError    what came is not HTTP, or more of it than we take
    └── UnfinishedError  it ended as HTTP, and not as a stream: the worker is there and has failed
LegError                 a leg of a request failed; the request may go on elsewhere
CannotResumeError        what a stream has said so far cannot be handed to another worker
"""


class UpstreamError(Exception):
    reason = "upstream"


class ConnectError(UpstreamError):
    reason = "connect"


class ResetError(UpstreamError):
    reason = "reset"


class StaleError(ResetError):
    pass


class CutOffError(UpstreamError):
    reason = "cut_off"


class HungError(UpstreamError):
    reason = "hung"


class BrokenAnswerError(UpstreamError):
    reason = "broken_answer"


class UnfinishedError(BrokenAnswerError):
    reason = "cut_off"


class LegError(Exception):
    """*gone*: the worker took no part, or went away: ask others, and this one no more.
    *answered*: something came back that no client can use.
    """

    def __init__(self, worker_id: str, reason: str, *, gone: bool, answered: bool) -> None:
        super().__init__(f"{worker_id}: {reason}")
        self.worker_id = worker_id
        self.reason = reason
        self.gone = gone
        self.answered = answered


class CannotResumeError(Exception):
    pass
