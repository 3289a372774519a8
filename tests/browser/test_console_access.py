"""Who gets in, as whom, and what a key opens: in a browser, on a running Modelyard."""

import httpx
import pytest
from playwright.sync_api import expect
from tab import OpenTab, Tab
from yard import Yard, eventually

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    variants: [{engine: emulator, topology: {type: aggregated, memory: 256MiB}}]
"""
PASSWORD = "correct horse battery staple"


def secret_of(yard: Yard) -> str:
    return (yard.home / "admin.token").read_text().strip()


def complete(yard: Yard, key: str) -> int:
    asked = {"model": "emu", "prompt": "Say something", "max_tokens": 4}
    headers = {"authorization": f"Bearer {key}"}
    url = f"http://127.0.0.1:{yard.port}/v1/completions"
    return httpx.post(url, json=asked, headers=headers, trust_env=False, timeout=30).status_code


def test_a_key_signs_in_and_out_and_is_nowhere_in_the_page(yard: Yard, open_tab: OpenTab):
    tab = open_tab()
    tab.sign_in(secret_of(yard))

    (cookie,) = tab.context.cookies()
    assert cookie["name"] == "__Host-modelyard"
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    kept = tab.page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert secret_of(yard) not in kept + tab.page.content()
    assert cookie["value"] not in kept + tab.page.content()

    tab.page.get_by_role("button", name="Sign out").click()
    expect(tab.page.get_by_label("Admin key")).to_be_visible()
    assert tab.context.cookies() == []


@pytest.mark.parametrize("wrong", ["mka-" + "x" * 43, "an inference key"])
def test_what_opens_nothing_is_refused_with_why(yard: Yard, open_tab: OpenTab, wrong: str):
    tab = open_tab()
    tab.allow(401, "/admin/v1/session")
    tab.open("/models", "Modelyard")
    tab.page.get_by_label("Admin key").fill(yard.key if wrong == "an inference key" else wrong)
    tab.page.get_by_role("button", name="Sign in").click()

    refusal = tab.page.get_by_role("alert")
    expect(refusal).to_contain_text("this key does not open the admin API")
    assert tab.context.cookies() == []


def test_a_viewer_sees_everything_and_what_it_may_not_do_says_why(
    yard: Yard, tab: Tab, open_tab: OpenTab
):
    """The admin makes an account; who it is for signs in, looks, and loses it again."""
    tab.open("/accounts", "Accounts")
    tab.page.get_by_role("button", name="New account").click()
    form = tab.page.get_by_role("dialog", name="New account")
    form.get_by_label("Name").fill("vera")
    form.get_by_role("textbox", name="Password").fill(PASSWORD)
    form.get_by_role("button", name="Make the account").click()
    expect(tab.page.get_by_role("row", name="vera")).to_contain_text("viewer")

    other = open_tab()
    other.allow(401, "/admin/v1/session")
    other.open("/keys", "Modelyard")
    other.page.get_by_text("With an account").click()
    other.page.get_by_role("textbox", name="Account").fill("vera")
    other.page.get_by_role("textbox", name="Password").fill("not her password")
    other.page.get_by_role("button", name="Sign in").click()
    expect(other.page.get_by_role("alert")).to_contain_text("there is no such account, or")
    other.page.get_by_role("textbox", name="Password").fill(PASSWORD)
    other.page.get_by_role("button", name="Sign in").click()

    other.shows("Keys")
    expect(other.page.get_by_text("vera (viewer)")).to_be_visible()
    new_key = other.page.get_by_role("button", name="New key")
    expect(new_key).to_be_disabled()
    why = "You are signed in as a viewer. An admin can do this."
    expect(new_key).to_have_attribute("title", why)

    row = tab.page.get_by_role("row", name="vera")
    row.get_by_role("button", name="Delete").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    for what in ("keys", "overview", "live", "models", "series"):
        other.allow(401, f"/admin/v1/{what}")  # whichever asks first
    other.page.get_by_role("link", name="Overview").click()
    expect(other.page.get_by_label("Admin key")).to_be_visible()


def test_an_admin_key_may_be_made_that_only_looks(tab: Tab, open_tab: OpenTab):
    page = tab.page
    tab.open("/keys", "Keys")
    page.get_by_role("button", name="New key").click()
    form = page.get_by_role("dialog", name="New key")
    form.get_by_label("Name").fill("dashboards")
    form.get_by_role("combobox", name="What it opens").click()
    page.get_by_role("option", name="the admin API and this console").click()
    expect(form.get_by_role("combobox", name="Role")).to_have_value("viewer: looks")
    form.get_by_role("button", name="Make the key").click()
    secret = page.get_by_role("status").filter(has_text="The secret of dashboards")
    expect(page.get_by_role("row", name="dashboards")).to_contain_text("admin (viewer)")

    other = open_tab()
    other.sign_in(secret.locator("code").inner_text())
    expect(other.page.get_by_text("(viewer)")).to_be_visible()


def test_a_key_is_made_limited_rotated_and_revoked(yard: Yard, tab: Tab):
    page = tab.page
    tab.open("/keys", "Keys")
    page.get_by_role("button", name="New key").click()
    form = page.get_by_role("dialog", name="New key")
    form.get_by_label("Name").fill("app")
    form.get_by_label("Requests a minute").fill("100")
    form.get_by_role("button", name="Make the key").click()

    shown = page.get_by_role("status").filter(has_text="The secret of app")
    secret = shown.locator("code").inner_text()
    # The inference listener learns of keys with its next look at the registry, 0.2 s later at most.
    eventually("it opens", lambda: complete(yard, secret) == 200, 5)
    row = page.get_by_role("row", name="app")
    expect(row).to_contain_text("100")

    row.get_by_role("button", name="Rotate app").click()
    asking = page.get_by_role("dialog", name="Rotate app")
    asking.get_by_label("Days that both work").fill("1")
    asking.get_by_role("button", name="Rotate", exact=True).click()
    expect(shown.locator("code")).not_to_have_text(secret)
    rotated = shown.locator("code").inner_text()
    eventually(
        "both open", lambda: [complete(yard, one) for one in (secret, rotated)] == [200, 200], 5
    )

    row.get_by_role("button", name="Revoke").click()
    sure = page.get_by_role("dialog", name="Revoke")
    expect(sure).to_contain_text("app")
    sure.get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    eventually(
        "neither opens anything",
        lambda: [complete(yard, one) for one in (secret, rotated)] == [401, 401],
    )

    page.get_by_role("link", name="Audit").click()
    tab.shows("Audit")
    for action in ("key.create", "key.rotate", "key.revoke"):
        expect(page.get_by_role("row").filter(has_text=action).first).to_be_visible()
