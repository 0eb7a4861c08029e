"""The page and jobs that wait for their files, while the daemon starts again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from aiohttp import web
from playwright.async_api import expect

from tests.acceptance.test_console_sources import MOVIE, internet, served  # noqa: F401 - a fixture
from tests.browser.test_many import FAST, SLOW, files, throttle
from tests.support.browser.actions import drop
from tests.support.browser.console_scene import House
from tests.support.browser.studio import Studio

if TYPE_CHECKING:
    from conftest import Visitor


async def test_a_page_that_stays_open_sends_its_files_to_the_next_run(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page, visitor.page() as other:
        await page.get_by_label("Choose a video").wait_for()
        await throttle(page, SLOW)
        await drop(page, *files("a.mp4", "a.wav", size=3_000_000))
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.locator(".card[data-state=copying]")).to_contain_text("keep this page open")
        visitor.daemon_away = True
        await home.stop_daemon()
        await home.start_daemon()
        await visitor.enter_again(other)
        waiting = other.locator(".card[data-state=stuck]")
        await expect(waiting).to_contain_text("Waiting for a.mp4, a.wav. Open the page where it was started")
        await throttle(page, FAST)
        await visitor.enter_again(page)
        for each in (page, other):
            await expect(each.locator(".card[data-state=done]")).to_have_count(1)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 404" not in said]


@pytest.mark.usefixtures("internet")
async def test_a_copy_that_the_daemon_makes_needs_no_page_and_is_made_again_after_a_failure(
    home: House, visitor: Visitor
) -> None:
    await home.gpu_on(Studio())
    go_on, status = asyncio.Event(), [200]

    async def answer(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(status=status[0], body=MOVIE, content_type="video/mp4")

    async with served(answer) as url:
        async with visitor.page() as page:
            await page.get_by_label("Choose a video").wait_for()
            await drop(page, *files("a.wav"))
            await expect(page.locator("#slot-audio")).to_have_attribute("data-slot", "ready")
            field = page.get_by_label("Video: or paste a path or URL")
            await field.fill(f"{url}/clip.mp4")
            await field.press("Enter")
            await page.get_by_role("button", name="Start", exact=True).click()
            card = page.locator(".card[data-state=copying]")
            await expect(card).to_contain_text("also if you close this page")
            await expect(card).not_to_contain_text("keep this page open")
            status[0] = 404
        await home.stop_daemon()
        await home.start_daemon()
        async with visitor.page() as page:
            card = page.locator(".card[data-state=copying]")
            await expect(card).to_contain_text("clip.mp4 is copied as soon as")
            go_on.set()
            card = page.locator(".card[data-state=stuck]")
            await expect(card).to_contain_text("The server answered with the error 404.")
            await page.reload()
            await expect(card).to_contain_text("The server answered with the error 404.")
            status[0] = 200
            await card.get_by_role("button", name="Retry now").click()
            await expect(page.locator(".card[data-state=done]")).to_have_count(1)


async def test_a_refused_job_says_why_after_a_restart_and_can_be_tried_again(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    home.daemon.outbox.state.open_most = 0
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await throttle(page, SLOW)
        await drop(page, *files("a.mp4", "a.wav", size=300_000))
        await page.get_by_role("button", name="Start", exact=True).click()
        await throttle(page, FAST)
        await expect(page.locator(".card[data-state=stuck]")).to_contain_text("Too many jobs are waiting.")
    await home.stop_daemon()
    await home.start_daemon()
    async with visitor.page() as page:
        await expect(page.locator(".card[data-state=stuck]")).to_contain_text("Too many jobs are waiting.")
        await page.get_by_role("button", name="Retry now").click()
        await expect(page.locator(".card[data-state=done]")).to_have_count(1)


async def test_the_details_of_a_job_of_an_earlier_run_have_no_empty_log(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await drop(page, *files("a.mp4", "a.wav"))
        await page.get_by_role("button", name="Start", exact=True).click()
        done = page.locator(".card[data-state=done]")
        await done.locator(".card-detail > summary").click()
        await expect(done.locator(".log")).to_be_visible()
    await home.stop_daemon()
    await home.start_daemon()
    async with visitor.page() as page:
        await page.locator(".card-detail > summary").first.click()
        await expect(page.locator(".facts-list").first).to_be_visible()
        log = page.locator(".card-detail[open] .log")
        await expect(log).to_have_css("display", "none")  # else the keyboard stops there
