"""The README's pictures of the console: a world of emulators on GPUs that are none, and a browser.

make screenshots    # into examples/screenshots, in light and in dark
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import expect, sync_playwright
from steady_load import SteadyLoad
from tab import Tab, chromium, context_of
from yard import Yard, eventually, run_yard

PICTURES = Path(__file__).parents[2] / "examples/screenshots"
BYTES_MAX = 300_000  # of a picture: they are fetched with the code
GPUS = [{"links": [other for other in range(8) if other != gpu]} for gpu in range(8)]
LOADED = {"chat": 6, "assistant": 3, "coder": 2}  # clients by model
SPEC = """
models:
  - name: chat
    source: hf://example/chat-70b
    owner: product
    priority: 500
    slo: {ttft_s: 2.0}
    variants:
      - engine: emulator
        topology:
          type: disaggregated
          prefill: {workers: 2, memory: 60GiB, args: {ttft-ms: 120, jitter: 0.4}}
          decode: {workers: 3, memory: 70GiB, args: {tpot-ms: 18, jitter: 0.3}}
  - name: assistant
    source: hf://example/assistant-8b
    owner: product
    variants:
      - engine: emulator
        topology:
          type: aggregated
          workers: 2
          memory: 18GiB
          args: {ttft-ms: 60, tpot-ms: 12, jitter: 0.4}
  - name: coder
    source: hf://example/coder-32b
    owner: tools
    variants:
      - engine: emulator
        topology:
          type: disaggregated
          prefill: {memory: 30GiB, args: {ttft-ms: 90, jitter: 0.4}}
          decode: {workers: 2, memory: 40GiB, args: {tpot-ms: 15, jitter: 0.3, startup-s: 8}}
  - name: minilm
    source: hf://example/minilm
    task: embed
    owner: tools
    variants:
      - {engine: emulator, topology: {type: aggregated, memory: 2GiB}}
"""
NOWHERE = """
name: research
source: hf://example/research-400b
owner: lab
variants: [{engine: emulator, topology: {type: aggregated, devices: 4, memory: 78GiB}}]
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--into", type=Path, default=PICTURES)
    into = arguments.parse_args().into
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        (gpus := Path(folder) / "gpus.json").write_text(json.dumps({"gpus": GPUS}))
        environ = {"MODELYARD_FAKE_GPUS": str(gpus), "MODELYARD_NODE_NAME": "gpu-1"}
        for yard in run_yard(home, **environ, MODELYARD_NODE_LABELS="zone=a"):
            take(yard, into)
    for picture in sorted(into.glob("*.png")):
        size = picture.stat().st_size
        assert size <= BYTES_MAX, f"{picture.name} has {size} bytes"
        sys.stdout.write(f"{picture.name}: {size // 1000} kB\n")


def take(yard: Yard, into: Path) -> None:
    folder = yard.home.parent
    (spec := folder / "models.yaml").write_text(SPEC)
    (nowhere := folder / "research.yaml").write_text(NOWHERE)
    yard.start(spec)
    yard.wait_ready(120)
    with ExitStack() as stack:
        for model, clients in LOADED.items():
            stack.enter_context(SteadyLoad(yard, model, clients=clients, tokens=60, pause_s=0.1))
        browser = chromium(stack.enter_context(sync_playwright()))
        context = context_of(browser, f"http://127.0.0.1:{yard.admin_port}")
        tab = Tab(context)
        tab.sign_in((yard.home / "admin.token").read_text().strip())
        tab.page.wait_for_timeout(20_000)  # rates are of the last half minute
        model_page(tab, into)
        fleet_page(tab, into)
        edit_page(tab, into)
        yard.cli("apply", "-f", str(nowhere))
        eventually("it says why", lambda: yard.describe("research")["condition"])
        overview_page(yard, tab, into)
        context.close()
        browser.close()
    assert not tab.wrong, tab.wrong


def overview_page(yard: Yard, tab: Tab, into: Path) -> None:
    """With a model that has no place, and one that has lost a worker."""
    victim = next(w for w in yard.ready_workers("coder") if w["role"] == "decode")
    tab.open("/", "Overview")
    for process in yard.engine_processes(victim["id"]):
        process.kill()
    wrong = tab.page.get_by_role("region", name="What is wrong")
    wrong.get_by_text("coder").first.wait_for()
    expect(wrong).not_to_contain_text("starts again")  # it has begun to
    both(tab, into / "overview")


def model_page(tab: Tab, into: Path) -> None:
    tab.open("/models/chat", "chat")
    tab.settled()
    tab.page.wait_for_timeout(5000)  # what flows is between two looks at the engines
    both(tab, into / "model", height=560)


def fleet_page(tab: Tab, into: Path) -> None:
    tab.open("/fleet", "Fleet")
    tab.settled()
    # The one with two models on it; who it works with is drawn.
    devices = tab.page.get_by_role("toolbar", name="Devices of gpu-1").get_by_role("button")
    devices.nth(3).click()
    both(tab, into / "fleet", height=540)


def edit_page(tab: Tab, into: Path) -> None:
    tab.open("/models/assistant/edit", "Edit assistant")
    tab.page.get_by_role("textbox", name="Workers", exact=True).fill("4")
    come = tab.page.get_by_role("region", name="What would come of it")
    come.get_by_text("Would start").first.wait_for()
    both(tab, into / "edit")


def both(tab: Tab, picture: Path, height: int = 900) -> None:
    tab.page.set_viewport_size({"width": 1280, "height": height})
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        tab.page.locator(f'html[data-mantine-color-scheme="{scheme}"]').wait_for()
        tab.page.wait_for_timeout(300)
        tab.page.screenshot(path=picture.with_name(f"{picture.name}-{scheme}.png"))


if __name__ == "__main__":
    main()
