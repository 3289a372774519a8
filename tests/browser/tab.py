"""One tab of a real browser, in which nothing goes wrong unseen."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    Response,
    expect,
)

PATIENCE_MS = 20_000.0  # for what is under way: machines that run tests are busy
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
# A response that is none of these, or was asked for by its test, is wrong.
_REFUSED = "Failed to load resource"
_ABORTED = "net::ERR_ABORTED"  # a page that was left, a stream that was closed

expect.set_options(timeout=PATIENCE_MS)


def chromium(playwright: Playwright) -> Browser:
    """Debian's, as its own sandbox may not be there where tests run."""
    program = shutil.which("chromium")
    assert program is not None, "install Debian's package chromium"
    return playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


class Tab:
    """A page of *context*. *wrong* is what it must not have: errors of scripts and of the
    console (a breach of the Content-Security-Policy is one), requests that failed or were refused.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.wrong: list[str] = []
        self._allowed: set[tuple[int, str]] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def allow(self, status: int, path: str) -> None:
        """From now on *path* may answer *status*: the test asks for it."""
        self._allowed.add((status, path))

    def open(self, path: str, title: str) -> None:
        """Loads *path*, which must get as far as its own title."""
        self.page.goto(path)
        self.shows(title)

    def shows(self, title: str) -> None:
        expect(self.page.get_by_role("heading", level=1, name=title, exact=True)).to_be_visible()

    def settled(self) -> None:
        """What the page loads first is there, or why it is not."""
        loaders = self.page.get_by_label(re.compile("^Loading"))
        expect(loaders).to_have_count(0)

    def sign_in(self, key: str) -> None:
        self.allow(401, "/admin/v1/session")  # that nobody is signed in yet
        self.open("/", "Modelyard")
        self.page.get_by_label("Admin key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.shows("Overview")

    def write_yaml(self, label: str, text: str) -> None:
        """In the place of what the editor *label* holds."""
        editor = self.page.get_by_label(label)
        editor.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def violations(self) -> list[str]:
        """What axe finds, a line each: the rule, and where."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(
            """async () => (await axe.run({resultTypes: ["violations"]})).violations.map(
                ({id, help, nodes}) => [id, help, nodes.slice(0, 3).map((node) =>
                    node.html.slice(0, 200) + " " + node.any.map((one) => one.message).join("; "))]
            )"""
        )
        return [f"{rule}: {words}: {json.dumps(where)}" for rule, words, where in found]

    def _said(self, message: ConsoleMessage) -> None:
        # A refusal is judged by its response, which says what was asked.
        if message.type == "error" and not message.text.startswith(_REFUSED):
            self.wrong.append(f"console: {message.text}")

    def _failed(self, request: Request) -> None:
        if request.failure != _ABORTED:
            self.wrong.append(f"{request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        path = urlsplit(response.url).path
        if response.status >= 400 and (response.status, path) not in self._allowed:
            self.wrong.append(f"{response.request.method} {path}: {response.status}")


OpenTab = Callable[..., Tab]


def context_of(browser: Browser, base_url: str, **options) -> BrowserContext:
    """A browser's memory of its own: cookies, cache."""
    options = {"viewport": {"width": 1280, "height": 900}, **options}
    return browser.new_context(base_url=base_url, reduced_motion="reduce", **options)
