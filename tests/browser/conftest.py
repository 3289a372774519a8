"""A browser and a running Modelyard for each module, and tabs whose errors fail their test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, StorageState, sync_playwright
from tab import OpenTab, Tab, chromium
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


@pytest.fixture
def open_tab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenTab]:
    """Opens tabs of the module's `yard` (or of another *base_url*), each in a context of its own."""
    tabs: list[Tab] = []

    def opened(**options) -> Tab:
        if "base_url" not in options:
            options["base_url"] = admin_url(request.getfixturevalue("yard"))
        options.setdefault("viewport", {"width": 1280, "height": 900})
        tabs.append(Tab(browser.new_context(reduced_motion="reduce", **options)))
        return tabs[-1]

    yield opened
    wrong = [line for tab in tabs for line in tab.wrong]
    for tab in tabs:
        tab.context.close()
    assert not wrong, "the browser saw errors"


def admin_url(yard: Yard) -> str:
    return f"http://127.0.0.1:{yard.admin_port}"


@pytest.fixture(scope="module")
def admin_state(browser: Browser, yard: Yard) -> StorageState:
    """Of somebody who has signed in with the machine's own key."""
    context = browser.new_context(base_url=admin_url(yard))
    tab = Tab(context)
    tab.sign_in((yard.home / "admin.token").read_text().strip())
    state = tab.state()
    context.close()
    return state


@pytest.fixture
def tab(open_tab: OpenTab, admin_state: StorageState) -> Tab:
    """Signed in as an admin."""
    return open_tab(storage_state=admin_state)


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
