"""A real browser for these tests: Chromium where it is installed, else they are skipped with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.browser.console_scene import Disk, House, Media, house, samples

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ("--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")

EXPECTED = (
    "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE",
    "ERR_SOCKET_NOT_CONNECTED",
)  # fmt: skip
EXPECTED += ("status of 401",)
"""What a browser logs about a daemon that is away, and at the first call to the one that comes after it."""


def pytest_collectstart(collector: pytest.Collector) -> None:
    """The tests of a file share the loop in which their browser runs."""
    if isinstance(collector, pytest.Module) and collector.path.is_relative_to(Path(__file__).parent):
        collector.add_marker(pytest.mark.asyncio(loop_scope="module"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser, a page and an engine on one slow core take their time; the tests wait for what happens, not for it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(180))


def chromium() -> str:
    """The browser's program; the test is skipped without it or its driver."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")
    named = os.environ.get("WAKESTREAM_CHROMIUM", "")
    found = named or next(filter(None, map(shutil.which, NAMES)), "")
    if not found:
        pytest.skip("no Chromium here; install it (apt-get install chromium) or name it in WAKESTREAM_CHROMIUM")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launch() -> AsyncIterator[Callable[[], Awaitable[Browser]]]:
    """Gives the Chromium of a file's tests; it is started again where one of them has closed it."""
    program = chromium()
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=40_000)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    running: list[Browser] = []
    async with async_playwright() as driver:

        async def launch() -> Browser:
            if not running or not running[-1].is_connected():
                started = await driver.chromium.launch(
                    executable_path=program, args=[*ARGUMENTS, *(["--no-sandbox"] if root else [])],
                    env={**os.environ, "LC_ALL": "C.UTF-8"},  # else it saves no name but ASCII ones in some places
                )  # fmt: skip
                running.append(started)
            return running[-1]

        yield launch
        await running[-1].close()


@pytest_asyncio.fixture(loop_scope="module")
async def browser(launch: Callable[[], Awaitable[Browser]]) -> AsyncIterator[Browser]:
    """Chromium, without a page."""
    running = await launch()
    yield running
    for context in running.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Hub and daemon, the GPU off. The parameter of the fixture, if there is one, are limits of the hub."""
    async with house(tmp_path, **getattr(request, "param", {})) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def disk(home: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """See `Disk`. What waits is written before the daemon ends."""
    disk = Disk(monkeypatch)
    yield disk
    disk.go_on()


@pytest_asyncio.fixture(loop_scope="module")
async def files(tmp_path: Path) -> Media:
    """A video and a voice of a second and a half."""
    return await samples(tmp_path, 1.5)


class Visitor:
    """A user of the console. An error or warning of the browser is a fault, unless the test expects it."""

    def __init__(self, browser: Browser, home: House) -> None:
        self._browser, self._home = browser, home
        self.complaints: list[str] = []
        self.daemon_away = False

    @asynccontextmanager
    async def page(self, *, link: bool = True, **context: Any) -> AsyncIterator[Page]:
        """The console, opened by a link of its own in a browser that has never been there."""
        profile = await self._browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **context})
        profile.set_default_timeout(40_000)
        page = await profile.new_page()
        self.watch(page)
        await page.goto(self._home.link() if link else self._home.url)
        await page.wait_for_selector("body[data-link=up]" if link else "body[data-link=locked]")
        try:
            yield page
        finally:
            await profile.close()
        assert self.complaints == []

    async def enter_again(self, page: Page) -> None:
        """Into the daemon's next run, by a link of its own: a session ends with the run that gave it."""
        await page.locator("#door-code").fill(self._home.link())
        await page.locator("#door-code").press("Enter")
        await page.wait_for_selector("body[data-link=up]")

    def watch(self, page: Page) -> None:
        """Note what the browser complains about."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)

    def _note(self, said: ConsoleMessage) -> None:
        expected = self.daemon_away and any(word in said.text for word in EXPECTED)
        # A preview may still be asked for when its file is removed.
        expected |= "status of 404" in said.text and "/console/previews/" in said.location["url"]
        if said.type in ("error", "warning") and not expected:
            self.complaints.append(said.text)


@pytest.fixture
def visitor(browser: Browser, home: House) -> Visitor:
    """See `Visitor`."""
    return Visitor(browser, home)
