"""A table of jobs that is dropped on the page, and variations of a result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import card, drop
from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import PAINT, REMIX, Studio, offer, png
from wakestream.adapters.daemon.console.app import Live

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Visitor
    from playwright.async_api import Route


async def test_the_rows_of_a_table_are_checked_shown_and_started(home: House, visitor: Visitor) -> None:
    studio = Studio()
    await home.gpu_on(studio)
    offer(home, PAINT, REMIX)
    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Paint a picture")
        await drop(page, ("rows.csv", b"prompt;steps\r\na cat;3\r\na dog;99\r\nno;4\r\n"))
        await expect(page.locator(".batch-said")).to_have_text("2 errors in the table; no job was started")
        await expect(page.locator(".batch ul.wrong li")).to_contain_text(
            ["Line 3, steps: parameter steps: 99 is too large", "Line 4, prompt: parameter prompt"]
        )
        await expect(page.locator("#start")).to_be_disabled()
        await drop(page, ("rows.csv", b"\xef\xbb\xbfprompt;steps;name\r\na cat;3;x\r\na dog;9;y\r\n"))
        await expect(page.locator(".batch-values")).to_have_text(["prompt a cat · steps 3", "prompt a dog · steps 9"])
        await page.get_by_role("button", name="Start 2 jobs").click()
        await expect(page.locator(".batch-line")).to_contain_text("rows.csv")
        await expect(page.locator(".batch-line")).to_contain_text("2 of 2 done")
        await page.locator(".batch-line").get_by_role("button", name="rows.csv", exact=True).click()
        await expect(page.locator("#past > li")).to_have_count(2)
        made = [(work.params["prompt"], work.params["steps"]) for work in studio.works]
        assert sorted(made) == [("a cat", 3), ("a dog", 9)]  # a busy machine may change their order


async def test_more_results_than_the_page_lists_need_a_folder(
    home: House, visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Live.tell  # the news of the new settings come late
    monkeypatch.setattr(Live, "tell", lambda live, kind, plain: None if kind == "rest" else tell(live, kind, plain))
    studio = Studio()
    await home.gpu_on(studio)
    offer(home, PAINT, REMIX)
    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Paint a picture")
        await drop(page, ("rows.csv", b"prompt\n" + b"a cat\n" * 1001))
        start = page.locator("#start")
        await expect(start).to_have_text("Start 1,001 jobs")
        await start.click()
        await expect(page.locator("#toasts")).to_contain_text("lists the last 1,000 ended jobs only")
        await expect(start).to_have_text("Start 1,001 jobs")
        assert not studio.works
        await page.locator("#settings-open").click()
        await page.locator("#set-output_folder").fill(str(tmp_path))
        await page.locator("#settings-form button[type=submit]").click()
        await expect(page.locator("#settings")).to_be_hidden()
        await start.click()
        await expect(page.locator("#new-hint")).to_contain_text("Starting ")


async def test_it_is_said_how_many_rows_are_started(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    offer(home, PAINT, REMIX)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        begun.set()
        await go_on.wait()
        await route.continue_()

    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Paint a picture")
        await drop(page, ("rows.csv", b"prompt\na cat\na dog\n"))
        await page.route("**/console/jobs", hold)
        await page.get_by_role("button", name="Start 2 jobs").click()
        await begun.wait()
        async with page.expect_response("**/console/form"):
            await page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.locator("#new-hint")).to_have_text("Starting 1 of 2…")
        go_on.set()
        await expect(page.locator(".batch-line")).to_contain_text("2 of 2 done")


async def test_a_row_waits_for_the_file_that_it_names(home: House, visitor: Visitor) -> None:
    studio = Studio()
    await home.gpu_on(studio)
    offer(home, REMIX, PAINT)
    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Remix")
        table = b'{"picture": "pics/a.png", "times": 2}\n{"picture": "C:\\\\pics\\\\b.png", "times": 3}\n'
        await drop(page, ("rows.jsonl", table), ("a.png", png()))
        await expect(page.locator(".batch-said")).to_have_text("1 job, 1 row lacks a file; add it")
        await expect(page.locator(".batch-row[data-row=single] select").first).to_contain_text("b.png: add this file")
        await drop(page, ("B.png", png(16)))
        await expect(page.locator(".batch-said")).to_have_text("2 jobs")
        await page.get_by_role("button", name="Start 2 jobs").click()
        await expect(page.locator(".batch-line")).to_contain_text("2 of 2 done")
        assert sorted(work.params["times"] for work in studio.works) == [2, 3]


async def test_a_result_is_made_four_more_times_or_with_one_change_and_all_are_seen_side_by_side(
    home: House, visitor: Visitor
) -> None:
    studio = Studio()
    await home.gpu_on(studio)
    offer(home, PAINT, REMIX)
    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Paint a picture")
        await page.get_by_label("Prompt").fill("a cat")
        await page.get_by_role("button", name="Start", exact=True).click()
        first = card(page).first
        await expect(first.get_by_role("button", name="Show")).to_be_visible()
        details = first.locator(".card-detail > summary")
        await details.click()
        await first.get_by_role("button", name="Make 4 more").click()
        await expect(page.locator(".cards > [data-job][data-state=done]")).to_have_count(5)
        assert len({work.params.get("seed") for work in studio.works[1:]}) == 4
        oldest = page.locator(".cards > [data-job][data-state=done]").last
        await oldest.get_by_label("Parameter").select_option("steps")
        await oldest.get_by_label("New value").fill("7")
        await oldest.locator(".vary form button").click()
        await expect(page.locator(".cards > [data-job][data-state=done]")).to_have_count(6)
        assert studio.works[-1].params["steps"] == 7
        await oldest.locator(".card-detail > summary").click()
        await oldest.locator(".card-detail > summary").click()
        await oldest.get_by_role("button", name="Compare 6 results").click()
        await expect(page.locator("dialog.theatre figure")).to_have_count(6)
        await expect(page.locator("dialog.theatre figcaption").last).to_contain_text("steps 7")


async def test_the_videos_of_a_family_play_together(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on(Studio(files))
    offer(home, REMIX, PAINT)
    async with visitor.page() as page:
        await page.locator("#kind").select_option(label="Remix")
        await drop(page, ("a.png", png(64, 64)))
        await page.get_by_role("button", name="Start", exact=True).click()
        first = card(page).first
        await expect(first.get_by_role("button", name="Play")).to_be_visible()
        await first.locator(".card-detail > summary").click()
        await first.get_by_label("Parameter").select_option("times")
        await first.get_by_label("New value").fill("3")
        await first.locator(".vary form button").click()
        await expect(page.locator(".cards > [data-job][data-state=done]")).to_have_count(2)
        oldest = page.locator(".cards > [data-job][data-state=done]").last
        for _ in range(2):
            await oldest.locator(".card-detail > summary").click()
        await oldest.get_by_role("button", name="Compare 2 results").click()
        await expect(page.locator("dialog.theatre video")).to_have_count(2)
        await page.evaluate("() => document.querySelector('dialog.theatre video').play()")
        await page.wait_for_function(
            "() => { const [a, b] = document.querySelectorAll('dialog.theatre video');"
            " return b.currentTime > 0.2 && Math.abs(a.currentTime - b.currentTime) < 0.5; }"
        )
