"""Actions that can be taken back, and actions for several jobs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import Locator, Page, Route, expect

from tests.browser.test_many import files
from tests.support.browser.actions import drop
from tests.support.browser.console_scene import House
from tests.support.browser.studio import Studio
from tests.support.programs.our_peers import until

if TYPE_CHECKING:
    from conftest import Visitor

AT_ONCE = "() => dispatchEvent(new Event('pagehide'))"
"""What waits is sent, as when the page closes."""


async def start(page: Page, count: int) -> None:
    """Start some jobs."""
    await page.get_by_label("Choose a video").wait_for()
    await drop(page, *files(*(f"clip{at}.{end}" for at in range(count) for end in ("mp4", "wav"))))
    await page.get_by_role("button", name=f"Start {count} jobs").click()
    await expect(page.locator(".card")).to_have_count(count)
    await expect(page.locator(".card[data-state=copying]")).to_have_count(0)


def box(page: Page, number: int) -> Locator:
    """The box of a job."""
    return page.locator(".card").nth(number).get_by_role("checkbox")


async def test_a_cancel_can_be_taken_back_and_happens_when_the_page_closes(home: House, visitor: Visitor) -> None:
    await home.monitor()
    jobs = home.daemon.outbox.state.jobs
    async with visitor.page() as page:
        await start(page, 2)
        first, second = (page.locator(".card", has_text=name) for name in ("clip0", "clip1"))  # their order may change
        await first.get_by_role("button", name="Cancel").press("Enter")
        await expect(first.locator(".card-why")).to_contain_text("Cancelled in")
        await expect(first.get_by_role("button", name="Undo")).to_be_focused()  # the message has not taken the focus
        await page.keyboard.press("Enter")
        await expect(first.locator(".card-why")).not_to_contain_text("Cancelled in")
        await expect(page.locator(".toast", has_text="is cancelled in")).to_have_count(0)
        await second.get_by_role("button", name="Cancel").click()
        await page.locator(".toast").get_by_role("button", name="Undo").focus()
        await page.keyboard.press("Enter")
        await expect(second.get_by_role("button", name="Cancel")).to_be_visible()
        await second.get_by_role("button", name="Cancel").click()
        await page.goto("about:blank")
        await until(lambda: sorted(entry.state for entry in jobs.values()) == ["cancelled", "open"])


async def test_several_jobs_are_chosen_with_shift_and_cancelled_and_tried_again(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await start(page, 3)
        await box(page, 0).click()
        await box(page, 2).click(modifiers=["Shift"])
        await expect(page.get_by_text("3 selected")).to_be_visible()
        await box(page, 1).click()
        await expect(page.get_by_text("2 selected")).to_be_visible()
        await page.get_by_role("button", name="Cancel jobs", exact=True).click()
        await expect(page.get_by_text("2 jobs are cancelled in 10 s.")).to_be_visible()
        await expect(page.locator(".card[data-soon]")).to_have_count(2)
        await page.evaluate(AT_ONCE)
        await expect(page.locator(".card[data-state=cancelled]")).to_have_count(2)
        await expect(page.locator(".card[data-state=waiting]")).to_have_count(1)
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("button", name="Select all").click()
        await expect(page.get_by_text("3 selected")).to_be_visible()
        await page.get_by_role("button", name="Remove results").click()
        await expect(page.get_by_text("No selected job has a result of this page.")).to_be_visible()
        await page.locator("#choose-bar").get_by_role("button", name="Retry").click()
        await expect(page.get_by_text("2 jobs started again.")).to_be_visible()
        await expect(page.locator(".card[data-state=waiting]")).to_have_count(3)


async def test_a_retry_that_is_refused_does_not_stop_the_others(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await start(page, 3)
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("button", name="Select all").click()
        await page.get_by_role("button", name="Cancel jobs", exact=True).click()
        await page.evaluate(AT_ONCE)
        await expect(page.locator(".card[data-state=cancelled]")).to_have_count(3)

        async def refuse(route: Route) -> None:
            await route.fulfill(status=409, json={"code": "file_unusable", "error": "a file is gone"})

        await page.route("**/retry", refuse, times=1)
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("button", name="Select all").click()
        await page.locator("#choose-bar").get_by_role("button", name="Retry").click()
        await expect(page.get_by_text("2 jobs started again.")).to_be_visible()
        await expect(page.locator(".toast.bad")).to_have_count(1)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 409" not in said]


async def test_all_results_are_removed_and_all_jobs_cancelled(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    results = home.daemon.console.holdings.results
    async with visitor.page() as page:
        await start(page, 3)
        await expect(page.locator(".card[data-state=done]")).to_have_count(3)
        assert len(list(results.glob("*.mp4"))) == 3
        await page.get_by_role("button", name="Select", exact=True).click()
        await page.get_by_role("button", name="Select all").click()
        await page.get_by_role("button", name="Remove results").click()
        await expect(page.get_by_text("The results of 3 jobs are removed in 10 s.")).to_be_visible()
        await page.evaluate(AT_ONCE)
        await until(lambda: not list(results.glob("*.mp4")))
        await expect(page.locator("#choose-bar")).to_be_hidden()
