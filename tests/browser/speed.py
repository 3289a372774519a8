"""How long a page takes, told so that a busy machine does not change what is told.

An interaction is the CPU time of the page's main thread, from the input to the idle time after it:
the time on the clock says what else runs. The first page is on the clock, or, where that is less,
in CPU time of all who bring it, browser and gateway together: they wait for nobody but each other,
so with the machine to themselves they take no longer. One good try of a few is enough.
"""

import logging
from collections.abc import Callable
from contextlib import closing, suppress
from statistics import median

import psutil
from playwright.sync_api import Browser, BrowserContext, CDPSession
from tab import Tab, context_of

FIRST_PAGE_MS_MAX = 1500.0
INTERACTION_MS_MAX = 100.0
_log = logging.getLogger("speed")
_FIRST_PAGE_TRIES = 6
_TRIES = 5
# The overview is there with its numbers, and the table that says whether each model can answer.
_SEEN = """
window.firstPageMs = new Promise((done) => {
    new MutationObserver((_, observer) => {
        if (!document.querySelector("section[aria-label=Now]")) return;
        if (!document.querySelector("section[aria-labelledby=models] tbody td")) return;
        done(performance.now());
        observer.disconnect();
    }).observe(document, {childList: true, subtree: true});
});
"""
# What an input leads to is drawn with the next two frames, and whatever was put off until there is
# time, as React does with what is not urgent, comes before the idle time.
_SETTLED = """() => new Promise((done) => requestAnimationFrame(() =>
    requestAnimationFrame(() => requestIdleCallback(done))))"""


def first_page_ms(browser: Browser, admin: BrowserContext, url: str) -> float:
    """From the start of the navigation to all of the overview, with nothing in the browser's cache;
    the best of as many tries as it takes.
    """
    took: list[float] = []
    while len(took) < _FIRST_PAGE_TRIES and (not took or min(took) >= FIRST_PAGE_MS_MAX):
        context = context_of(browser, url, storage_state=admin.storage_state())
        with closing(context):
            context.add_init_script(_SEEN)
            tab = Tab(context)
            before = _spent_s()
            tab.page.goto("/", wait_until="commit")
            shown = tab.page.evaluate("window.firstPageMs")
            spent = (_spent_s() - before) * 1000
            took.append(min(shown, spent))
            _log.info("first page, ms: %d on the clock, %d of CPU", shown, spent)
            tab.shows("Overview")
        assert not tab.wrong
    return min(took)


def _spent_s() -> float:
    """CPU time of all processes that this one has started, or those of them."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


def medians(tab: Tab, acts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of each of *acts*, in milliseconds; they take turns."""
    watch = _Stopwatch(tab)
    took: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(_TRIES):
        for name, act in acts.items():
            took[name].append(watch.took_ms(act))
    found = {name: round(median(each), 1) for name, each in took.items()}
    _log.info("medians, ms of CPU: %s", found)
    return found


class _Stopwatch:
    """CPU time of the main thread of *tab*'s page."""

    def __init__(self, tab: Tab) -> None:
        self._page = tab.page
        self._session: CDPSession = tab.context.new_cdp_session(tab.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def took_ms(self, act: Callable[[], object]) -> float:
        before = self._task_s()
        act()
        self._page.evaluate(_SETTLED)
        return (self._task_s() - before) * 1000

    def _task_s(self) -> float:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")
