"""What one subject uses: its row of the ledger. All of it with the ledger's lock held.

The order of the stores is what makes a death between two of them harmless: a sum is raised before
its part and lowered after it, so that it is never below what its parts say.
"""

from datetime import date
from typing import NamedTuple

from gateway.limits.ledger import (
    BUCKETS,
    COLUMN_WORDS,
    COLUMNS_AT,
    PERIOD,
    REQUESTS,
    REQUESTS_SUM,
    ROW_WORDS,
    ROWS_AT,
    SECOND,
    SPENT,
    TOKENS,
    TOKENS_SUM,
    WINDOW_S,
    Ledger,
    digest_of,
)

_COUNT_MAX = 2**60  # no sum of counts, be they nonsense, leaves a word
_YEARS_MONTH = 10_000  # from here on a number without its last two digits has a month, too
_EMPTY = memoryview(bytes(2 * BUCKETS * 8)).cast("q")


class Hold(NamedTuple):
    """What was taken for one request: *tokens* in the bucket of *second*, *cost_nano* reserved."""

    second: int
    tokens: int
    cost_nano: int


class Account:
    """*subject* is unique among keys and models."""

    __slots__ = ("_base", "_column", "_digest", "_ledger", "_row", "_words", "second", "subject")

    def __init__(self, ledger: Ledger, subject: str) -> None:
        self._ledger = ledger
        self._words = ledger.words
        self.subject = subject
        self._digest = digest_of(subject)
        self._row = self._base = self._column = 0
        self.second = 0  # the newest of the window, since `open`

    def open(self, second: int) -> None:
        """Finds the row and moves its windows to *second*. Raises LedgerError.

        Processes read the clock before they have the lock: the window never moves back.
        """
        ledger = self._ledger
        if not self._base or not ledger.holds(self._row, self._digest):
            self._row = ledger.find(self._digest, second)
            self._base = ROWS_AT + self._row * ROW_WORDS
            self._column = COLUMNS_AT + 2 * self._row
        last = self._words[self._base + SECOND]
        if second > last:
            self._move(last, second)
        else:
            second = last
        self.second = second

    def has_room(
        self, requests_most: int, tokens_most: int, tokens: int, in_flight_most: int
    ) -> bool:
        """For one request more, of so many *tokens*; 0 is no limit. No, if a sum is too high."""
        words, base = self._words, self._base
        return not (
            (requests_most and words[base + REQUESTS_SUM] >= requests_most)
            or (tokens_most and words[base + TOKENS_SUM] + tokens > tokens_most)
            or (in_flight_most and self.in_flight >= in_flight_most)
        )

    @property
    def requests(self) -> int:
        """Let in within the window."""
        return self._words[self._base + REQUESTS_SUM]

    @property
    def tokens(self) -> int:
        return self._words[self._base + TOKENS_SUM]

    @property
    def in_flight(self) -> int:
        begin = self._column
        end = begin + self._ledger.used * COLUMN_WORDS
        return sum(self._words[begin:end:COLUMN_WORDS])

    @property
    def reserved_nano(self) -> int:
        begin = self._column + 1
        end = begin + self._ledger.used * COLUMN_WORDS
        return sum(self._words[begin:end:COLUMN_WORDS])

    @property
    def spent_nano(self) -> int:
        return self._words[self._base + SPENT]

    def requests_age_s(self) -> int:
        """How many seconds ago the last of them was."""
        return self._age(self._base + REQUESTS)

    def tokens_age_s(self) -> int:
        return self._age(self._base + TOKENS)

    @property
    def request_buckets(self) -> list[int]:
        begin = self._base + REQUESTS
        return self._words[begin : begin + BUCKETS].tolist()

    @property
    def token_buckets(self) -> list[int]:
        begin = self._base + TOKENS
        return self._words[begin : begin + BUCKETS].tolist()

    def recount(self) -> None:
        """The sums from their parts: a process may have died between the two."""
        self._words[self._base + REQUESTS_SUM] = sum(self.request_buckets)
        self._words[self._base + TOKENS_SUM] = sum(self.token_buckets)

    def begin_period(self, period: int, spent_nano: int) -> None:
        """Money is counted for *period*; what is spent is at least *spent_nano*.

        A clock set back does not bring back the period before. One further ahead than the next was
        a clock's mistake, and gives way.
        """
        words, base = self._words, self._base
        before = words[base + PERIOD]
        if before != period and not _is_next(before, period):
            words[base + SPENT] = spent_nano
            words[base + PERIOD] = period  # last: after a death before it, all is done again
        elif before == period and spent_nano > words[base + SPENT]:
            words[base + SPENT] = spent_nano

    def roll_period(self, period: int) -> None:
        """`begin_period` for a request that ends. The budget it was let in by may have got another
        kind of period meanwhile: what is counted by that one stays.
        """
        before = self._words[self._base + PERIOD]
        if not before or len(str(before)) == len(str(period)):
            self.begin_period(period, 0)

    def hold(self, tokens: int, cost_nano: int) -> Hold:
        words, base = self._words, self._base
        if tokens > _COUNT_MAX or cost_nano > _COUNT_MAX:
            tokens, cost_nano = min(tokens, _COUNT_MAX), min(cost_nano, _COUNT_MAX)
        at = base + REQUESTS + self.second % BUCKETS
        words[base + REQUESTS_SUM] += 1
        words[at] += 1
        if tokens:
            words[base + TOKENS_SUM] += tokens
            words[at + BUCKETS] += tokens
        own = self._column + self._ledger.column * COLUMN_WORDS
        words[own] += 1
        if cost_nano:
            words[own + 1] += cost_nano
        return Hold(self.second, tokens, cost_nano)

    def settle(self, hold: Hold, tokens: int, cost_nano: int) -> None:
        """In place of what was held, *tokens* in the same bucket and *cost_nano*. If the bucket has
        left the window, what was used above what was held counts now, and the rest is past.
        """
        words, base = self._words, self._base
        if tokens != hold.tokens:
            self._correct(hold, tokens)
        if cost_nano:
            spent = words[base + SPENT] + cost_nano
            words[base + SPENT] = min(_COUNT_MAX, spent)
        own = self._column + self._ledger.column * COLUMN_WORDS
        if hold.cost_nano:
            words[own + 1] = max(0, words[own + 1] - hold.cost_nano)
        words[own] = max(0, words[own] - 1)

    def _correct(self, hold: Hold, tokens: int) -> None:
        words, base = self._words, self._base
        more = min(tokens, _COUNT_MAX) - hold.tokens
        in_window = self.second - hold.second <= WINDOW_S
        at = base + TOKENS + (hold.second if in_window else self.second) % BUCKETS
        if more > 0:
            words[base + TOKENS_SUM] += more
            words[at] += more
        elif in_window:
            less = min(-more, words[at])
            words[at] -= less
            words[base + TOKENS_SUM] -= less

    def _age(self, at: int) -> int:
        words, second = self._words, self.second
        for age in range(BUCKETS):
            if words[at + (second - age) % BUCKETS]:
                return age
        return BUCKETS

    def _move(self, last: int, second: int) -> None:
        words, base = self._words, self._base
        if second - last > WINDOW_S:
            begin = base + REQUESTS
            words[begin : begin + 2 * BUCKETS] = _EMPTY
            words[base + REQUESTS_SUM] = words[base + TOKENS_SUM] = 0
        else:
            for passed in range(last + 1, second + 1):
                self._leave(base + REQUESTS + passed % BUCKETS, base + REQUESTS_SUM)
                self._leave(base + TOKENS + passed % BUCKETS, base + TOKENS_SUM)
        words[base + SECOND] = second

    def _leave(self, at: int, sum_at: int) -> None:
        count = self._words[at]
        if count:
            self._words[at] = 0
            self._words[sum_at] -= count


def _is_next(later: int, period: int) -> bool:
    """Whether the day or month *later* follows the day or month *period*."""
    return len(str(later)) == len(str(period)) and _ordinal(later) - _ordinal(period) == 1


def _ordinal(period: int) -> int:
    """Of 20261126 as of all days, of 202611 as of all months."""
    rest, last = divmod(period, 100)
    if rest < _YEARS_MONTH:
        return rest * 12 + last
    return date(rest // 100, rest % 100, last).toordinal()
