"""Every page as axe sees it, in light and in dark, wide and narrow, and by keyboard alone."""

import pytest
from playwright.sync_api import expect
from steady_load import SteadyLoad
from tab import OpenTab, Tab
from yard import Yard, eventually

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
  - name: emu-pd
    source: file:///nowhere
    variants:
      - engine: emulator
        topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
BROKEN = """
name: broken
source: file:///nowhere
variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB, args: {no-such: 1}}}]
"""
PAGES = {
    "/": "Overview",
    "/models": "Models",
    "/models/emu-pd": "emu-pd",
    "/models/emu-pd?tab=charts": "emu-pd",
    "/models/emu-pd?tab=workers": "emu-pd",
    "/models/emu-pd?tab=revisions": "emu-pd",
    "/models/emu-pd?tab=rollout": "emu-pd",
    "/models/emu-pd?tab=events": "emu-pd",
    "/models/emu/edit": "Edit emu",
    "/new": "New model",
    "/fleet": "Fleet",
    "/planner": "Planner",
    "/playground": "Playground",
    "/keys": "Keys",
    "/usage": "Usage",
    "/events": "Events",
    "/audit": "Audit",
    "/accounts": "Accounts",
    "/nowhere": "No such page",
}


@pytest.fixture(scope="module")
def lively(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Something is wrong, and something was asked: pages have all that they can show."""
    file = tmp_path_factory.mktemp("broken") / "broken.yaml"
    file.write_text(BROKEN)
    yard.cli("apply", "-f", str(file))
    with SteadyLoad(yard, "emu-pd", clients=1) as load:
        eventually("answers", lambda: len(load.got) > 5)
    eventually("it fails", lambda: yard.describe("broken")["condition"])


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("path", PAGES)
def test_no_page_breaks_a_rule_of_axe(tab: Tab, path: str):
    tab.open(path, PAGES[path])
    tab.settled()
    found = {}
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        expect(tab.page.locator("html")).to_have_attribute("data-mantine-color-scheme", scheme)
        found[scheme] = tab.violations()
    assert found == {"light": [], "dark": []}


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_small_window(tab: Tab, path: str):
    """Wide tables scroll by themselves; the page does not."""
    tab.page.set_viewport_size({"width": 800, "height": 700})
    tab.open(path, PAGES[path])
    tab.settled()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 800


def test_the_way_in_breaks_no_rule_of_axe(open_tab: OpenTab):
    tab = open_tab()
    tab.allow(401, "/admin/v1/session")
    tab.open("/", "Modelyard")
    for way in ("With a key", "With an account"):
        tab.page.get_by_text(way).click()
        assert tab.violations() == []


def test_from_the_first_page_to_a_model_by_keyboard_alone(tab: Tab):
    """The skip link comes first, then what is on the page; focus can always be seen."""
    tab.open("/", "Overview")
    press = tab.page.keyboard.press
    press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press("Enter")
    model = tab.page.get_by_role("table").get_by_role("link", name="emu", exact=True)
    expect(model).to_be_visible()
    for _ in range(40):
        press("Tab")
        if model.evaluate("(link) => link === document.activeElement"):
            break
    assert model.evaluate("(link) => getComputedStyle(link).outlineStyle") != "none"
    press("Enter")
    tab.shows("emu")
