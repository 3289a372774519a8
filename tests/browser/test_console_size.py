"""A thousand models and ten thousand devices: the first page and every interaction stay quick.

An interaction is measured in CPU time of the page's main thread, from the input to the second frame
after it: on a busy machine the time on the clock says what else ran. The first page is on the clock,
and counts at its best of a few.
"""

from collections.abc import Callable, Iterator
from statistics import median

import pytest
from big_world import MODELS, NODES, BigWorld
from playwright.sync_api import Browser, BrowserContext, CDPSession, expect
from tab import Tab, context_of

FIRST_PAGE_MS_MAX = 1500.0
INTERACTION_MS_MAX = 100.0
TRIES = 5
_SEEN = """
new MutationObserver((_, observer) => {
    if (document.querySelector("h1") === null || document.querySelector("table") === null) return;
    window.firstPageMs = performance.now();
    observer.disconnect();
}).observe(document, {childList: true, subtree: true});
"""
_TWO_FRAMES = """() => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigWorld]:
    with BigWorld(tmp_path_factory.mktemp("big")) as world:
        yield world


@pytest.fixture(scope="module")
def admin(browser: Browser, big: BigWorld) -> Iterator[BrowserContext]:
    context = context_of(browser, big.url)
    first = Tab(context)
    first.sign_in(big.secret)
    first.page.close()
    yield context
    context.close()


class Stopwatch:
    """CPU time of the main thread of *tab*'s page."""

    def __init__(self, tab: Tab) -> None:
        self._page = tab.page
        self._session: CDPSession = tab.context.new_cdp_session(tab.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def took_ms(self, act: Callable[[], object]) -> float:
        before = self._task_s()
        act()
        self._page.evaluate(_TWO_FRAMES)
        return (self._task_s() - before) * 1000

    def _task_s(self) -> float:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def medians(tab: Tab, acts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of each of *acts*, in milliseconds; they take turns."""
    watch = Stopwatch(tab)
    took: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(TRIES):
        for name, act in acts.items():
            took[name].append(watch.took_ms(act))
    return {name: round(median(each), 1) for name, each in took.items()}


def test_the_first_page_is_there_soon(browser: Browser, admin: BrowserContext, big: BigWorld):
    """With nothing in the browser's cache."""
    took = []
    for _ in range(TRIES):
        context = context_of(browser, big.url, storage_state=admin.storage_state())
        context.add_init_script(_SEEN)
        tab = Tab(context)
        tab.open("/", "Overview")
        tab.page.wait_for_function("window.firstPageMs !== undefined")
        took.append(tab.page.evaluate("window.firstPageMs"))
        context.close()
        assert not tab.wrong
    print(f"first page, ms: {sorted(map(round, took))}")
    assert min(took) < FIRST_PAGE_MS_MAX


def test_the_list_of_models_answers_each_input_at_once(tab: Tab):
    page = tab.page
    tab.open("/models", "Models")
    expect(page.get_by_text(f"{MODELS} models")).to_be_visible()
    search = page.get_by_label("Search by name, owner or source")
    search.click()
    table = page.get_by_role("region", name="Models")
    took = medians(
        tab,
        {
            "a letter": lambda: page.keyboard.type("0"),
            "another": lambda: page.keyboard.type("9"),
            "backspace": lambda: page.keyboard.press("Backspace"),
            "all again": lambda: page.keyboard.press("Escape"),
            "scroll": lambda: table.evaluate("(one) => one.scrollBy(0, 9000)"),
            "back up": lambda: table.evaluate("(one) => one.scrollTo(0, 0)"),
        },
    )
    print(f"the list, ms: {took}")
    assert page.get_by_role("row").count() < 100, "only what is on screen is in the page"
    assert max(took.values()) < INTERACTION_MS_MAX, took


def test_the_map_of_the_fleet_answers_each_input_at_once(tab: Tab):
    page = tab.page
    tab.open("/fleet", "Fleet")
    expect(page.get_by_text(f"{NODES:,} nodes", exact=True)).to_be_visible()
    picture = page.get_by_role("region", name="Map of the fleet")
    search = page.get_by_label("Search")
    search.click()
    took = medians(
        tab,
        {
            "scroll": lambda: picture.evaluate("(one) => one.scrollBy(0, 5000)"),
            "back up": lambda: picture.evaluate("(one) => one.scrollTo(0, 0)"),
            "a letter": lambda: page.keyboard.type("9"),
            "all again": lambda: page.keyboard.press("Backspace"),
        },
    )
    print(f"the map, ms: {took}")
    assert max(took.values()) < INTERACTION_MS_MAX, took
