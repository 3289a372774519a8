"""From traffic, SLO and fleet to the recommended topology and the editor, by the real planner."""

import re

import pytest
from playwright.sync_api import Locator, expect
from tab import Tab

SPEC = """
models:
  - name: chat
    source: file:///nowhere
    limits: {requests_per_minute: 600}
    variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
"""
PLAN_MS = 240_000.0  # it is half a minute's work for a processor that has nothing else to do
CHAT = {
    "Name": "chat",
    "Source": "hf://Qwen/Qwen3-8B",
    "Requests/s": "4",
    "Prompt tokens": "800",
    "Answer tokens": "100",
    "TTFT, s": "1",
    "TPOT, s": "0.05",
}


def fill(rows: Locator, values: dict[str, str]) -> None:
    for label, value in values.items():
        rows.get_by_label(label, exact=True).fill(value)


def violations(tab: Tab) -> dict[str, list[str]]:
    found = {}
    for scheme in ("dark", "light"):
        tab.page.emulate_media(color_scheme=scheme)
        expect(tab.page.locator("html")).to_have_attribute("data-mantine-color-scheme", scheme)
        found[scheme] = tab.violations()
    return found


@pytest.mark.timeout(400)
def test_from_traffic_and_fleet_to_the_editor(tab: Tab):
    page = tab.page
    tab.open("/planner", "Planner")
    asked = page.get_by_role("region", name="What is asked")
    expect(asked).to_contain_text("below is an example")
    models = asked.get_by_role("group").first
    fill(models, CHAT)
    models.get_by_role("button", name="More").click()
    models.get_by_role("checkbox", name="sglang").uncheck()
    fill(
        asked.get_by_role("group").last, {"Device model": "H100", "Nodes": "1", "Devices each": "1"}
    )

    # What is not allowed is said at its field.
    tab.allow(422, "/admin/v1/recommendations")
    rate = models.get_by_label("Requests/s", exact=True)
    rate.fill("0")
    recommend = asked.get_by_role("button", name="Recommend")
    recommend.click()
    expect(rate).to_be_focused()
    expect(models).to_contain_text("allowed is")
    assert violations(tab) == {"light": [], "dark": []}
    rate.fill("4")

    # What is under way can be called off, and asked for again.
    recommend.click()
    answer = page.get_by_role("region", name="Recommendation")
    expect(asked.get_by_role("status")).to_contain_text("The planner works")
    asked.get_by_role("button", name="Cancel").click()
    expect(asked.get_by_role("status")).to_have_text("")
    expect(asked.get_by_role("button", name="Cancel")).to_have_count(0)
    recommend.click()
    table = answer.get_by_role("table", name="Recommended")
    expect(table).to_be_visible(timeout=PLAN_MS)
    row = table.get_by_role("row").nth(1)
    for words in ("chat", "aggregated 1x TP1", "1 worker of 1 device, vllm", "1 H100", "100 %"):
        expect(row).to_contain_text(words)
    expect(answer).to_contain_text("Devices: 1 of 1 H100")
    model = answer.get_by_role("region", name="chat")
    expect(model).to_contain_text("aggregated on H100: 1, as 1x TP1 (recommended)")
    expect(model).to_contain_text("disaggregated on H100: no shape does")
    plot = model.get_by_role("figure")
    expect(plot).to_contain_text(re.compile(r"Within 50 ms a token: aggregated .* tokens/s"))
    expect(plot.locator("canvas")).to_be_visible()
    assert violations(tab) == {"light": [], "dark": []}
    page.set_viewport_size({"width": 800, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    page.set_viewport_size({"width": 1280, "height": 900})

    # The editor has the recommendation, and all else of the model that is there.
    model.get_by_role("button", name="Change chat to this").click()
    tab.shows("Edit chat")
    text = page.get_by_label("The model's spec as YAML")
    for words in ("device_model: H100", "engine: vllm", "tpot_s: 0.05", "requests_per_minute: 600"):
        expect(text).to_contain_text(words)
    expect(page.get_by_role("region", name="Apply")).to_contain_text("It is valid")
    page.on("dialog", lambda dialog: dialog.accept())
    page.go_back()
    tab.shows("Planner")
    expect(table).to_be_visible()
