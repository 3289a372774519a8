"""What an operator does to models that serve: change, roll back, drain, lose a worker."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import Browser, BrowserContext, expect
from speed import FIRST_PAGE_MS_MAX, first_page_ms
from tab import Tab
from yard import Yard, eventually

from registry.state import DeviceKind, NodeReport
from registry.store import Store

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    variants: [{engine: emulator, topology: {type: aggregated, workers: 2, memory: 256MiB}}]
  - name: emu-pd
    source: file:///nowhere
    rollout: {canary: [50, 100], promote: manual}
    variants:
      - engine: emulator
        topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
BROKEN = """
name: broken
source: file:///nowhere
variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB, args: {no-such: 1}}}]
"""
CHANGED = """\
name: emu-pd
source: file:///nowhere
rollout: {canary: [50, 100], promote: manual}
variants:
  - engine: emulator
    topology:
      type: disaggregated
      prefill: {memory: 256MiB, args: {seed: 7}}
      decode: {memory: 256MiB, args: {seed: 7}}
"""


def confirmed(tab: Tab, name: str) -> None:
    """Presses the button *name* and, in the dialog that asks, the same again."""
    tab.page.get_by_role("button", name=name, exact=True).click()
    dialog = tab.page.get_by_role("dialog", name=name)
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).to_have_count(0)


def test_the_first_page_is_there_soon(browser: Browser, admin: BrowserContext, yard: Yard):
    url = f"http://127.0.0.1:{yard.admin_port}"
    assert first_page_ms(browser, admin, url) < FIRST_PAGE_MS_MAX


def test_the_first_page_says_why_a_model_does_not_answer(yard: Yard, tab: Tab, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    tab.open("/", "Overview")
    yard.cli("apply", "-f", str(file))
    try:
        wrong = tab.page.get_by_role("region", name="What is wrong")
        expect(wrong).to_contain_text("broken")
        expect(wrong).to_contain_text("no-such")
        expect(wrong).to_contain_text("What to do")
        wrong.get_by_role("link", name="broken").first.click()
        tab.shows("broken")
    finally:
        tab.allow(404, "/admin/v1/models/broken")  # the page still looks at it
        yard.cli("delete", "model", "broken", "--yes")
        eventually("it is gone", lambda: not yard.workers("broken"))


def test_the_picture_shows_who_feeds_whom(tab: Tab):
    tab.open("/models/emu-pd", "emu-pd")
    for role in ("prefill", "decode"):
        expect(tab.page.get_by_role("link", name=f"{role} 0 on local")).to_be_visible()


def test_a_killed_worker_is_shown_and_so_is_its_successor(yard: Yard, tab: Tab):
    victim = yard.ready_workers("emu")[0]["id"]
    tab.open("/models/emu?tab=events", "emu")
    for process in yard.engine_processes(victim):
        process.kill()

    row = tab.page.get_by_role("row").filter(has_text=victim)
    expect(row.filter(has_text="failed").first).to_be_visible()
    eventually("two ready workers", lambda: len(yard.ready_workers("emu")) == 2)
    expect(tab.page.get_by_role("main").get_by_text("ready", exact=True).first).to_be_visible()


def test_a_change_is_planned_applied_step_by_step_and_rolled_back(yard: Yard, tab: Tab):
    page = tab.page
    tab.open("/models/emu-pd/edit", "Edit emu-pd")
    tab.write_yaml("The model's spec as YAML", CHANGED)
    come = page.get_by_role("region", name="What would come of it")
    expect(come).to_contain_text("Would start")
    apply = page.get_by_role("region", name="Apply")
    apply.get_by_role("button", name="Apply", exact=True).click()
    asked = page.get_by_role("dialog", name="Apply")
    if asked.is_visible():
        asked.get_by_role("button", name="Apply", exact=True).click()
    eventually("a rollout", lambda: yard.describe("emu-pd")["rollout"])

    tab.open("/models/emu-pd?tab=rollout", "emu-pd")
    expect(page.get_by_text("Revision 1 → 2")).to_be_visible()
    eventually("at its step", lambda: yard.describe("emu-pd")["rollout"]["state"] == "paused")
    confirmed(tab, "Abort rollout")
    expect(page.get_by_role("main")).to_contain_text("rolled back")
    eventually("as before", lambda: yard.is_ready("emu-pd"))


def test_a_node_is_drained_and_taken_back(yard: Yard, tab: Tab):
    """The one node there is: its workers have nowhere to go, and the page says so."""
    page = tab.page
    tab.open("/fleet?node=local", "Fleet")
    drawer = page.get_by_role("dialog", name="Node local")
    drawer.get_by_role("button", name="Drain", exact=True).click()
    sure = page.get_by_role("dialog", name="Drain")
    expect(sure).to_contain_text("local")
    sure.get_by_role("button", name="Drain", exact=True).click()
    expect(drawer).to_contain_text("workers are left")
    drawer.get_by_role("button", name="Uncordon").click()
    expect(drawer.get_by_role("button", name="Cordon", exact=True)).to_be_visible()
    eventually("all are ready", lambda: yard.is_ready("emu") and yard.is_ready("emu-pd"))


def test_a_node_is_cordoned_and_the_first_page_leads_to_taking_it_back(yard: Yard, tab: Tab):
    page = tab.page
    tab.open("/fleet?node=local", "Fleet")
    drawer = page.get_by_role("dialog", name="Node local")
    drawer.get_by_role("button", name="Cordon", exact=True).click()
    expect(drawer).to_contain_text("cordoned")

    tab.open("/", "Overview")
    note = page.get_by_role("listitem").filter(has_text="node local: is cordoned")
    note.get_by_role("link", name="Uncordon").click()
    tab.shows("Fleet")
    drawer.get_by_role("button", name="Uncordon").click()
    expect(drawer.get_by_role("button", name="Cordon", exact=True)).to_be_visible()
    assert states_of_nodes(yard) == {"local": "ready"}


def test_a_node_that_does_not_report_is_forgotten(yard: Yard, tab: Tab):
    page = tab.page
    # In a thread of its own: the browser's event loop runs in this one.
    with ThreadPoolExecutor() as thread:
        thread.submit(asyncio.run, lose_a_node(yard)).result()
    tab.open("/", "Overview")
    note = page.get_by_role("listitem").filter(has_text="node gone: has not reported")
    note.get_by_role("link", name="Forget").click()
    tab.shows("Fleet")
    drawer = page.get_by_role("dialog", name="Node gone")
    drawer.get_by_role("button", name="Forget", exact=True).click()
    sure = page.get_by_role("dialog", name="Forget")
    expect(sure).to_contain_text("gone")
    tab.allow(404, "/admin/v1/nodes/gone")  # the page may look once more
    sure.get_by_role("button", name="Forget", exact=True).click()
    expect(drawer).to_have_count(0)
    assert states_of_nodes(yard) == {"local": "ready"}


def states_of_nodes(yard: Yard) -> dict[str, str]:
    with yard.admin() as admin:
        nodes = admin.get("/nodes").raise_for_status().json()["items"]
    return {node["name"]: node["state"] for node in nodes if node["name"] != "external"}


async def lose_a_node(yard: Yard) -> None:
    """One that reported once, and then no more."""
    store = await Store.open(f"sqlite+aiosqlite:///{yard.home / 'modelyard.db'}")
    try:
        report = NodeReport(
            name="gone",
            address="127.0.0.1",
            device_kind=DeviceKind.CPU,
            runtimes=(),
            labels={},
            devices=(),
        )
        await store.report_nodes((report,))
        await store.mark_nodes_unknown(["gone"], why="it does not report")
    finally:
        await store.aclose()
