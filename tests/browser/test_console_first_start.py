"""From an empty Modelyard to the first answer, in the browser alone."""

from playwright.sync_api import expect
from tab import Tab
from yard import Yard

SPEC = ""
MODEL = """\
name: first
source: file:///nowhere
variants:
  - engine: emulator
    topology: {type: aggregated, memory: 256MiB}
"""
TYPED = """\
name: typed
source: file:///nowhere
variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
"""


def test_an_unfinished_spec_is_told_of_and_no_error(yard: Yard, tab: Tab):
    """Key by key, over what was selected: the browser has nothing to complain of."""
    page = tab.page
    tab.open("/new", "New model")
    editor = page.get_by_label("The model's spec as YAML")
    status = page.get_by_role("region", name="Apply").get_by_role("status")
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("name: typed\nsource: 7")
    expect(status).to_contain_text("Line 2: source")
    expect(page.get_by_role("button", name="Plan anew")).to_be_disabled()
    page.keyboard.press("Shift+Home")  # over what has the colours of a name and of a number
    page.keyboard.type("source: file:///nowhere\nvariants: [")
    expect(status).to_contain_text("Line 3")
    tab.write_yaml("The model's spec as YAML", TYPED)
    expect(status).to_contain_text("It is valid.")
    assert editor.inner_text().split() == TYPED.split()
    assert page.locator(".cm-content [style]").count() == 0


def test_from_the_first_page_to_the_first_answer(yard: Yard, tab: Tab):
    page = tab.page
    tab.open("/", "Overview")
    page.get_by_role("link", name="Declare a model").click()
    tab.shows("New model")

    tab.write_yaml("The model's spec as YAML", MODEL)
    come = page.get_by_role("region", name="What would come of it")
    expect(come).to_contain_text("Would start")
    expect(come.get_by_role("cell", name="local", exact=True)).to_be_visible()
    assert yard.workers("first") == [], "a plan changes nothing"

    page.get_by_role("button", name="Apply", exact=True).click()
    tab.shows("first")
    page.get_by_role("link", name="Models").click()
    row = page.get_by_role("row", name="first")
    expect(row.get_by_text("ready", exact=True)).to_be_visible()

    page.get_by_role("link", name="Playground").click()
    tab.shows("Playground")
    page.get_by_role("textbox", name="Say").fill("What is the capital of France?")
    page.get_by_role("button", name="Send").click()
    said = page.get_by_role("log")
    expect(said).to_have_attribute("aria-busy", "false")
    how = page.get_by_role("status").filter(has_text="TTFT")
    expect(how).to_contain_text("aggregated, variant default, revision 1")
    expect(how.get_by_role("link")).to_contain_text("first-unified-0")
    page.get_by_role("button", name="As curl").click()
    asked = f"curl http://127.0.0.1:{yard.port}/v1/chat/completions"
    expect(page.locator("pre")).to_contain_text(asked)
