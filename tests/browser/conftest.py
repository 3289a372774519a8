"""A browser and a running Modelyard for each module, and tabs whose errors fail their test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from tab import OpenTab, Tab, chromium, context_of
from yard import Yard, run_yard

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For one module: while it is open, an event loop of its own runs in this thread.
    with sync_playwright() as playwright:
        opened = chromium(playwright)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def yard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Runs the models of the module's SPEC, on the emulator."""
    file = tmp_path_factory.mktemp("spec") / "models.yaml"
    file.write_text(request.module.SPEC)
    home = tmp_path_factory.mktemp("yard") / "home"
    for yard in run_yard(home, MODELYARD_CPU_SLOTS="12"):
        yard.start(*([file] if request.module.SPEC else []))
        yard.wait_ready(90)
        yield yard


def admin_url(yard: Yard) -> str:
    return f"http://127.0.0.1:{yard.admin_port}"


@pytest.fixture
def open_tab(browser: Browser, yard: Yard) -> Iterator[OpenTab]:
    """Opens tabs in contexts of their own, in which nobody is signed in."""
    tabs: list[Tab] = []

    def opened(**options) -> Tab:
        tabs.append(Tab(context_of(browser, admin_url(yard), **options)))
        return tabs[-1]

    yield opened
    for one in tabs:
        one.context.close()
    assert not [line for one in tabs for line in one.wrong], "the browser saw errors"


@pytest.fixture(scope="module")
def admin(browser: Browser, yard: Yard) -> Iterator[BrowserContext]:
    """Somebody who has signed in with the machine's own key."""
    context = context_of(browser, admin_url(yard))
    first = Tab(context)
    first.sign_in((yard.home / "admin.token").read_text().strip())
    first.page.close()
    yield context
    context.close()


@pytest.fixture
def tab(admin: BrowserContext) -> Iterator[Tab]:
    """A tab of an admin."""
    opened = Tab(admin)
    yield opened
    opened.page.close()
    assert not opened.wrong, "the browser saw errors"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failed test leaves a picture of each tab where pytest keeps its files."""
    report = yield
    opened = getattr(item, "funcargs", {}).get("tab")
    if report.failed and isinstance(opened, Tab) and not opened.page.is_closed():
        name = re.sub(r"\W+", "-", item.name)
        picture = Path(item.config.getoption("basetemp") or "/tmp") / f"browser-{name}.png"
        opened.page.screenshot(path=picture)
        report.sections.append(("the tab", f"{opened.page.url}: {picture}"))
    return report
