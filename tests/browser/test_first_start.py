"""The set-up page of a daemon without a hub: a pasted code joins, and the console follows."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.terminal_scene import terminal

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.axe import no_fault_light_or_dark

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")


@pytest.fixture
def newcomer(tmp_path: Path) -> User:
    """A user without settings, whose browser writes down what it is to open."""
    (tmp_path / "pc").mkdir()
    user = User(tmp_path / "pc")
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    user.environment |= {
        "WAKESTREAM_CONFIG": str(tmp_path / "conf"), "WAKESTREAM_DAEMON": str(tmp_path / "daemon"),
        "HOME": str(tmp_path), "BROWSER": str(browser),
    }  # fmt: skip
    return user


async def seen(page: Page, name: str) -> None:
    """It has no fault; and a picture to look at, where a folder for pictures is named."""
    await no_fault_light_or_dark(page)
    if folder := os.environ.get("WAKESTREAM_PICTURES"):
        await page.screenshot(path=f"{folder}/setup-{name}.png", full_page=True)


@pytest.mark.parametrize(("locale", "width"), [("en-US", 1440), ("zh-CN", 360)])
async def test_a_pasted_code_joins_and_the_console_follows(
    newcomer: User, browser: Browser, tmp_path: Path, locale: str, width: int
) -> None:
    keeper = User(tmp_path / "hub" if (tmp_path / "hub").mkdir() is None else tmp_path)
    keeper.environment |= {"WAKESTREAM_CONFIG": str(tmp_path / "hubs"), "HOME": str(tmp_path / "hub")}
    async with keeper.runs("hub", "--listen", "127.0.0.1:0", "--state", "state") as hub:
        url = await hub.address()
        ran = await keeper.run("invite", "client", "--state", "state", "--public", url)
        code = re.search(r"\b([0-9A-Z]{4}-[0-9A-Z]{4})\b", ran.out)
        assert code is not None, ran
        async with terminal(newcomer, "daemon", "--open") as screen:
            setup = await screen.names("set-up page:")
            view: dict[str, Any] = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
            context = await browser.new_context(**view, locale=locale)
            page = await context.new_page()
            await page.goto(setup)
            await seen(page, locale)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await page.locator("#code").fill("nonsense")
            await page.keyboard.press("Enter")
            await expect(page.locator("#wrong")).to_contain_text("hub.example:8765 4MXD-81WA")
            await page.locator("#code").fill(f"{url} 0000-0000")
            await page.keyboard.press("Enter")
            await expect(page.locator("#wrong")).to_contain_text("0000-…")
            await seen(page, f"{locale}-wrong")
            await page.locator("#code").fill(f"wakestream join {url} {code[1]}")
            await page.keyboard.press("Enter")
            await expect(page.locator("#done")).to_be_visible()
            await seen(page, f"{locale}-done")
            console = await screen.names("web console:")
            assert console.split("/#")[0] == setup.split("/#")[0]
            tab = await context.new_page()
            await tab.goto(console)
            await expect(tab.locator("#composer")).to_be_visible()
            await context.close()
        assert (tmp_path / "opened").read_text().count("open-console.html") == 2


async def test_without_the_links_token_nothing_can_be_joined(newcomer: User, browser: Browser) -> None:
    async with terminal(newcomer, "daemon", "--open") as screen:
        setup = await screen.names("set-up page:")
        page = await browser.new_page()
        await page.goto(setup.partition("/#")[0])
        await page.locator("#code").fill("hub.example 7F3K-92QD")
        await page.locator("#go").click()
        await expect(page.locator("#wrong")).to_contain_text("earlier start")
        screen.process.send_signal(2)
        await screen.ended()
        assert screen.process.returncode == 130
