"""Who is let in: the limits of a request's key and of its model, all of them or none."""

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import structlog

from gateway.errors import LimitsUnavailableError
from gateway.limits.account import Account, Hold
from gateway.limits.estimate import Estimate
from gateway.limits.ledger import ROWS, Ledger, LedgerError
from gateway.limits.remaining import head_of, headers_of
from gateway.limits.shortage import error_of
from gateway.limits.side import Side
from gateway.routing.table import ModelRow
from registry.spec import Limits
from registry.state import BudgetPeriod, BudgetWindow, Key, KeyLimits

# Who cannot look into the ledger for so long (its holder is stopped in the midst) is turned away.
LOOK_S_MAX = 1.0
_LOOK_AGAIN_S = 0.001
_CHECK_S = 1.0
_REAP_EVERY_S = 0.05
_COMPLAIN_EVERY_S = 60.0
_READING_S_MAX = 5.0  # from when the registry says what was spent until we have it

_MODEL = "model"  # a side's kind, as errors name it

_Done = TypeVar("_Done")

_log = structlog.get_logger("gateway.limits")

# A side, and what is set aside there: tokens, and cost in nanos.
_Wish = tuple[Side, int, int]


class Permit:
    """A request that was let in. `settle` it once, at its end; more often changes nothing."""

    __slots__ = ("_limiter", "_settled", "head", "holds")

    def __init__(self, limiter: "Limiter", holds: list[tuple[Side, Hold]], head: bytes) -> None:
        self._limiter = limiter
        self._settled = False
        self.holds = holds
        self.head = head  # lines of the answer's head: what remains

    def settle(self, tokens: int, cost_nano: int) -> None:
        """What it came to use in the end, in place of what was set aside for it."""
        if not self._settled:
            self._settled = True
            self._limiter.settle(self, tokens, cost_nano)


class Limiter:
    """*clock* is the one that all processes of the machine share, *wall_clock* says which day it
    is. Without a *ledger* it counts for this process alone.

    Run `watch` beside it; `close` it at last.
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._opened = ledger
        self._clock = clock
        self._wall_clock = wall_clock
        self._keys: dict[str, Side] = {}
        self._models: dict[str, Side] = {}
        self._closed = False
        self._open: set[Permit] = set()
        self._late: list[tuple[Permit, int, int]] = []  # the ledger was locked when they ended
        self._windows: dict[BudgetPeriod, BudgetWindow] = {}
        self._spending_of: dict[BudgetPeriod, str] = {}
        self._reaped_at = self._complained_at = float("-inf")

    def spending_read(self) -> None:
        """`Key.spent_nano` of the keys to come has been read from the registry just now. It is of
        the present period if it was read well within.
        """
        now = self._wall_clock()
        self._spending_of = {
            period: period.window(now - _READING_S_MAX).name for period in BudgetPeriod
        }

    def limits(self, key: Key, model: ModelRow) -> bool:
        """Whether either has any."""
        return _limited(key.limits) or key.limits.budget_nano > 0 or _limited(model.limits)

    async def admit(self, key: Key, model: ModelRow, estimate: Estimate) -> Permit:
        """Takes what *estimate* says from the limits of both.

        Raises RateLimitError, OverLimitError, or LimitsUnavailableError; then nothing is taken.
        """
        return await self._locked(lambda: self._admit(key, model, estimate))

    async def move(self, permit: Permit, model: ModelRow, estimate: Estimate) -> None:
        """Another *model* is to answer: what *permit* took from the limits of the one before is
        given back, and taken from its. What it took from the key's stays as it is: for the key it
        is one request.

        Raises RateLimitError, OverLimitError, or LimitsUnavailableError; then nothing is taken from
        *model*'s.
        """
        await self._locked(lambda: self._move_to(permit, model, estimate))

    async def _locked(self, work: Callable[[], _Done]) -> _Done:
        """What *work* does under the ledger's lock. Raises LimitsUnavailableError."""
        ledger = self._ledger()
        if not ledger.lock():
            ledger = await self._lock_patiently()
        try:
            return work()
        except LedgerError as error:
            self._complain(error)
            raise LimitsUnavailableError from error
        finally:
            ledger.unlock()

    def settle(self, permit: Permit, tokens: int, cost_nano: int) -> None:
        """For `Permit.settle`. If the ledger is locked, it is done soon."""
        if self._closed:
            return  # what is left is cleared by others
        ledger = self._ledger()
        if ledger.lock():
            try:
                self._apply(permit, tokens, cost_nano)
            finally:
                ledger.unlock()
            return
        self._late.append((permit, tokens, cost_nano))
        if len(self._late) == 1:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._settle_late)

    async def watch(self) -> None:
        """Sees to it that the file is still the one that others use, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            self.check()

    def check(self) -> None:
        """If somebody removed the file, all begin a new one, with what is under way."""
        ledger = self._opened
        if ledger is None or ledger.path is None or ledger.is_current():
            return
        try:
            new = Ledger.open(ledger.path, patience_s=0.0)
            if not new.lock():
                new.close()
                return
            try:
                self._move(new)
            finally:
                new.unlock()
        except LedgerError as error:
            self._complain(error)
            return
        _log.error("limits-begin-anew", path=str(ledger.path), why="somebody removed the file")
        ledger.close()

    def close(self) -> None:
        self._closed = True
        if self._opened is not None:
            if self._late:
                self._settle_late()
            self._opened.close()
            self._opened = None

    def _ledger(self) -> Ledger:
        if self._opened is None:
            self._opened = Ledger.private()
        return self._opened

    async def _lock_patiently(self) -> Ledger:
        until = self._clock() + LOOK_S_MAX
        while self._clock() < until:
            await asyncio.sleep(_LOOK_AGAIN_S)
            ledger = self._ledger()  # as it is now
            if ledger.lock():
                return ledger
        self._complain(LedgerError("a gateway process that was stopped holds the ledger of limits"))
        raise LimitsUnavailableError

    def _admit(self, key: Key, model: ModelRow, estimate: Estimate) -> Permit:
        wishes = self._wishes(key, model, estimate)
        holds = self._take(wishes, key.spent_nano)
        permit = Permit(self, holds, head_of([side for side, _, _ in wishes]))
        self._open.add(permit)
        return permit

    def _move_to(self, permit: Permit, model: ModelRow, estimate: Estimate) -> None:
        second = int(self._clock())
        for side, _ in permit.holds:
            side.account.open(second)
        of_model = [held for held in permit.holds if held[0].kind == _MODEL]
        permit.holds = [held for held in permit.holds if held[0].kind != _MODEL]
        for side, hold in of_model:
            side.account.settle(hold, 0, 0)
        permit.holds += self._take(self._wishes_of_model(model, estimate), 0)
        permit.head = head_of([side for side, _ in permit.holds])

    def _take(self, wishes: list[_Wish], spent_nano: int) -> list[tuple[Side, Hold]]:
        """All of them, or none. *spent_nano* is by the registry's word of the key's budget."""
        if self._late:
            self._apply_late()
        now = self._clock()
        second = int(now)
        fits = True
        for side, tokens, cost_nano in wishes:
            side.account.open(second)
            if side.budget_nano:
                self._begin_period(side, spent_nano)
            fits = fits and side.fits(tokens, cost_nano)
        if not fits:
            self._look_closely(wishes, now)
        return [(side, side.account.hold(tokens, cost)) for side, tokens, cost in wishes]

    def _wishes(self, key: Key, model: ModelRow, estimate: Estimate) -> list[_Wish]:
        wishes = []
        limits = key.limits
        if limits.budget_nano or _limited(limits):
            side = self._keys.get(key.id)
            if side is None or side.limits is not limits or side.name != key.name:
                side = self._side_of_key(key)
            cost_nano = 0
            if side.budget_nano:
                cost_nano = estimate.cost_within(side.budget_nano, model.price)
            wishes.append((side, estimate.tokens_within(side.tokens_most), cost_nano))
        return wishes + self._wishes_of_model(model, estimate)

    def _wishes_of_model(self, model: ModelRow, estimate: Estimate) -> list[_Wish]:
        if not _limited(model.limits):
            return []
        side = self._models.get(model.name)
        if side is None or side.limits is not model.limits:
            side = self._side_of_model(model)
        return [(side, estimate.tokens_within(side.tokens_most), 0)]

    def _side_of_key(self, key: Key) -> Side:
        return _remember(
            self._keys,
            key.id,
            Side(
                Account(self._ledger(), f"key {key.id}"),
                key.limits,
                "API key",
                key.name,
                budget_nano=key.limits.budget_nano,
                period=key.limits.budget_period,
            ),
        )

    def _side_of_model(self, model: ModelRow) -> Side:
        account = Account(self._ledger(), f"model {model.name}")
        side = Side(account, model.limits, _MODEL, model.name)
        return _remember(self._models, model.name, side)

    def _look_closely(self, wishes: list[_Wish], now: float) -> None:
        """With every count made anew, and what dead processes had given back. Raises
        RateLimitError, OverLimitError.
        """
        for side, _, _ in wishes:
            side.account.recount()
        if now - self._reaped_at >= _REAP_EVERY_S:
            self._reaped_at = now
            self._ledger().reap()
        shortages = []
        for side, tokens, cost_nano in wishes:
            ends_in_s = self._window(side.period).ends_at - self._wall_clock()
            shortages += side.shortages(tokens, cost_nano, now, ends_in_s)
        if shortages:
            raise error_of(shortages, headers_of([side for side, _, _ in wishes], now))

    def _settle_late(self) -> None:
        if not self._late or self._opened is None:
            return
        if self._opened.lock():
            try:
                self._apply_late()
            finally:
                self._opened.unlock()
        else:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._settle_late)

    def _apply_late(self) -> None:
        late, self._late = self._late, []
        for permit, tokens, cost_nano in late:
            self._apply(permit, tokens, cost_nano)

    def _apply(self, permit: Permit, tokens: int, cost_nano: int) -> None:
        self._open.discard(permit)
        second = int(self._clock())
        try:
            for side, hold in permit.holds:
                side.account.open(second)
                if side.budget_nano:
                    side.account.roll_period(_number(self._window(side.period).name))
                    side.account.settle(hold, tokens, cost_nano)
                else:
                    side.account.settle(hold, tokens, 0)
        except LedgerError as error:
            self._complain(error)

    def _move(self, ledger: Ledger) -> None:
        """To another *ledger*, whose lock is held, with what is under way."""
        self._opened = ledger
        self._keys.clear()
        self._models.clear()
        second = int(self._clock())
        for permit in self._open:
            permit.holds = [_moved(ledger, side, hold, second) for side, hold in permit.holds]

    def _begin_period(self, side: Side, spent_nano: int) -> None:
        window = self._window(side.period)
        if spent_nano and self._spending_of.get(side.period) != window.name:
            spent_nano = 0
        side.account.begin_period(_number(window.name), spent_nano)

    def _window(self, period: BudgetPeriod) -> BudgetWindow:
        window = self._windows.get(period)
        now = self._wall_clock()
        if window is None or not window.begins_at <= now < window.ends_at:
            window = self._windows[period] = period.window(now)
        return window

    def _complain(self, error: LedgerError) -> None:
        now = self._clock()
        if now - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = now
            _log.error("limits-unavailable", error=str(error))


def _limited(limits: KeyLimits | Limits) -> bool:
    return bool(limits.requests_per_minute or limits.tokens_per_minute or limits.in_flight)


@lru_cache
def _number(name: str) -> int:
    """2026-11-26 as a number; 1 for the whole of time."""
    digits = name.replace("-", "")
    return int(digits) if digits.isdigit() else 1


def _remember(sides: dict[str, Side], name: str, side: Side) -> Side:
    if len(sides) >= ROWS:
        sides.clear()
    sides[name] = side
    return side


def _moved(ledger: Ledger, side: Side, hold: Hold, second: int) -> tuple[Side, Hold]:
    new = Side(
        Account(ledger, side.account.subject),
        side.limits,
        side.kind,
        side.name,
        budget_nano=side.budget_nano,
        period=side.period,
    )
    new.account.open(second)
    return new, new.account.hold(hold.tokens, hold.cost_nano)
