"""What somebody who has never seen the console finds on its first page."""

import pytest
from playwright.sync_api import expect
from tab import Tab
from yard import Yard, eventually

# A decode worker that was killed is away for as long as it takes to start.
SPEC = """
models:
  - name: pair
    source: file:///nowhere
    variants:
      - engine: emulator
        topology:
          type: disaggregated
          prefill: {memory: 256MiB}
          decode: {workers: 2, memory: 256MiB, args: {startup-s: 15}}
"""
HUGE = """
name: huge
source: file:///nowhere
variants: [{engine: emulator, topology: {type: aggregated, memory: 4000GiB}}]
"""


@pytest.fixture(scope="module")
def huge(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model that fits nowhere."""
    file = tmp_path_factory.mktemp("huge") / "huge.yaml"
    file.write_text(HUGE)
    yard.cli("apply", "-f", str(file))
    eventually("it has no place", lambda: "no place" in yard.describe("huge")["condition"])


@pytest.mark.usefixtures("huge")
def test_why_a_model_does_not_answer_and_who_feeds_whom(yard: Yard, tab: Tab):
    page = tab.page
    victim = next(w for w in yard.ready_workers("pair") if w["role"] == "decode")["id"]
    tab.open("/", "Overview")
    for process in yard.engine_processes(victim):
        process.kill()

    wrong = page.get_by_role("region", name="What is wrong").get_by_role("listitem")
    placeless = wrong.filter(has_text="model huge")
    expect(placeless).to_contain_text("nothing answers")
    expect(placeless).to_contain_text("no place for default/unified/0: local: needs 4000.0 GiB")
    hurt = wrong.filter(has_text="model pair")
    expect(hurt).to_contain_text("answers, but not with all it should have")
    expect(hurt).to_contain_text("1 of 2 decode ready")
    expect(hurt).to_contain_text("killed by SIGKILL")
    models = page.get_by_role("region", name="Can each model answer")
    feeding = models.get_by_role("link", name="1 prefill → 2 decode")
    for found in (placeless, hurt, feeding):
        expect(found).to_be_in_viewport()
    expect(hurt.get_by_role("link", name="its pipeline")).to_be_in_viewport()

    hurt.get_by_role("link", name="its log").click()
    tab.shows("pair")
    expect(page.get_by_role("dialog")).to_contain_text(victim)
    page.go_back()
    feeding.click()
    tab.shows("pair")
    for worker in ("prefill 0 on local", "decode 0 on local", "decode 1 on local"):
        expect(page.get_by_role("link", name=worker)).to_be_visible()
    eventually("both decode again", lambda: yard.is_ready("pair"))


def test_every_page_says_how_fresh_it_is(tab: Tab):
    """What is asked for again is not told as left alone."""
    for path, title, word in (
        ("/", "Overview", "live"),
        ("/fleet", "Fleet", "refreshed"),
        ("/accounts", "Accounts", "as loaded"),
    ):
        tab.open(path, title)
        expect(tab.page.get_by_role("banner").get_by_role("status")).to_have_text(word)
