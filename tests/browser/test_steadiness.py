"""What the page holds on to: files on their way, the keyboard's place, many jobs, many tabs; and strangers."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from house import House

from wakestream.adapters.console import uploads

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from acts import begin, card, choose
from playwright.async_api import expect

if TYPE_CHECKING:
    from conftest import Visitor


async def cancelled(home: House, files: tuple[Path, Path], job: str) -> str:
    """A job that was cancelled, handed in by another program of the user."""
    assert home.daemon is not None
    bearer = {"Authorization": f"Bearer {home.daemon.console.sessions.new_session()}"}
    output = files[0].with_name(f"{job}.mp4")
    wish = {"id": job, "video": str(files[0]), "audio": str(files[1]), "output": str(output)}
    async with aiohttp.ClientSession(home.url, headers=bearer) as session:
        assert (await session.post("/api/jobs", json=wish)).status == 201
        assert (await session.post(f"/api/jobs/{job}/cancel")).status == 202
        async with session.get(f"/api/jobs/{job}/events") as events:
            assert b"event: cancelled" in await events.read()
    return job


async def test_a_file_on_its_way_is_sent_again_when_the_daemon_is_back(
    home: House, visitor: Visitor, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, begun, loop, write = threading.Event(), asyncio.Event(), asyncio.get_running_loop(), uploads._write_all

    def slow(file: Any, block: bytearray) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert disk.wait(30)
        write(file, block)

    monkeypatch.setattr(uploads, "_write_all", slow)
    async with visitor.page() as page:
        video = page.locator("#slot-video")
        await page.get_by_label("Choose a video").set_input_files(files[0])
        async with asyncio.timeout(20):
            await begun.wait()
        visitor.daemon_away = True
        stopping = asyncio.create_task(home.stop_daemon())
        await expect(video).to_contain_text("sent again when it is back")
        disk.set()
        await stopping
        await home.start_daemon()
        await expect(video).to_have_attribute("data-slot", "ready")
        await expect(video).to_contain_text("interview.mp4")
        kept = list((home.state / "console" / "uploads").rglob("*.mp4"))
        assert [path.stat().st_size for path in kept] == [files[0].stat().st_size]


async def test_chosen_files_outlast_a_reload_and_the_daemon(
    home: House, visitor: Visitor, files: tuple[Path, Path]
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await choose(page, files)
        await page.reload()
        await expect(page.get_by_text("Both files are here.")).to_be_visible()
        visitor.daemon_away = True
        await home.stop_daemon()
        await home.start_daemon()
        await page.reload()
        await expect(page.locator("#slot-audio")).to_contain_text("narration.wav")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("interview.mp4")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "empty")


async def test_a_full_disk_is_said_where_the_file_was_chosen(
    visitor: Visitor, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with visitor.page() as page:
        monkeypatch.setattr(uploads, "_write_all", full)
        await page.get_by_label("Choose a video").set_input_files(files[0])
        alert = page.locator("#slot-video").get_by_role("alert")
        await expect(alert).to_have_text("The disk has no room for it. Free some space, then choose it again.")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "empty")
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 507" not in said]


async def test_a_page_that_is_left_in_an_upload_asks_first(
    visitor: Visitor, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, write = threading.Event(), uploads._write_all

    def slow(file: Any, block: bytearray) -> None:
        assert disk.wait(30)
        write(file, block)

    monkeypatch.setattr(uploads, "_write_all", slow)
    async with visitor.page() as page:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def stay(dialog: Any) -> None:
            asked.put_nowait(dialog.type)
            await dialog.dismiss()

        page.on("dialog", stay)
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "sending")
        await page.close(run_before_unload=True)
        async with asyncio.timeout(15):
            assert await asked.get() == "beforeunload"
        disk.set()
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "ready")


async def test_jobs_stand_in_their_order_and_many_of_them_take_little_room(
    home: House, visitor: Visitor, files: tuple[Path, Path]
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        for number in range(1, 8):
            video = files[0].with_name(f"clip-{number}.mp4")
            video.write_bytes(files[0].read_bytes() + bytes(number))
            await choose(page, (video, files[1]))
            await page.get_by_role("button", name="Start").click()
            await expect(card(page)).to_have_count(number)
        names = [f"clip-{number}.mp4" for number in range(1, 8)]
        await expect(card(page).locator("h3 bdi:first-child")).to_have_text(names)
        high = "() => [...document.querySelectorAll('#cards > li')].map((each) => each.offsetHeight)"
        assert max(await page.evaluate(high)) < 130
        await page.set_viewport_size({"width": 360, "height": 740})
        assert max(await page.evaluate(high)) < 130
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        await card(page).first.get_by_role("button", name="Cancel").click()
        await expect(card(page).last).to_have_attribute("data-state", "cancelled")


async def test_the_history_shows_more_when_asked_and_leaves_the_keyboard_where_it_is(
    home: House, visitor: Visitor, files: tuple[Path, Path]
) -> None:
    for number in range(20):
        await cancelled(home, files, f"job-{number:02}")
    async with visitor.page() as page:
        past, more = page.locator("#past li"), page.get_by_role("button", name="Show more")
        await expect(card(page)).to_have_count(6)
        await expect(past).to_have_count(12)
        await more.click()
        await expect(past).to_have_count(14)
        await expect(more).to_be_hidden()
        await past.nth(3).get_by_role("button").focus()
        job = await past.nth(3).get_attribute("data-job")
        now = await cancelled(home, files, "late")
        await expect(past).to_have_count(15)
        held = "() => document.activeElement.closest('li').dataset.job"
        assert await page.evaluate(held) == job
        assert now not in await past.evaluate_all("(rows) => rows.map((row) => row.dataset.job)")


async def test_a_button_that_goes_away_leaves_the_keyboard_at_its_job(
    home: House, visitor: Visitor, files: tuple[Path, Path]
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        job = await begin(page, files)
        await job.get_by_role("button", name="Cancel").focus()
        await page.keyboard.press("Enter")
        await expect(job).to_have_attribute("data-state", "cancelled")
        assert await page.evaluate(
            "() => document.activeElement.closest('li')?.dataset.job"
        ) == await job.get_attribute("data-job")
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.activeElement.textContent") == "Try again"


async def test_eight_tabs_are_all_alive_and_can_all_act(
    home: House, visitor: Visitor, files: tuple[Path, Path]
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        tabs = [page]
        for _ in range(7):
            tabs.append(await page.context.new_page())
            visitor.watch(tabs[-1])
            await tabs[-1].goto(home.url)
            await expect(tabs[-1].get_by_text("Live", exact=True)).to_be_visible()
        await begin(tabs[-1], files)
        for tab in tabs:
            await expect(card(tab)).to_have_attribute("data-state", "waiting")
        await card(tabs[3]).get_by_role("button", name="Cancel").click()
        for tab in tabs:
            await expect(card(tab)).to_have_attribute("data-state", "cancelled")
            await expect(tab.get_by_text("Live", exact=True)).to_be_visible()


async def test_another_name_for_this_machine_and_another_page_get_nothing(home: House, visitor: Visitor) -> None:
    port = home.url.rpartition(":")[2]
    async with visitor.page() as page:
        rebound = await page.context.new_page()
        answer = await rebound.goto(f"http://evil.localhost:{port}/")
        assert answer is not None
        assert answer.status == 421
        foreign = await page.context.new_page()
        await foreign.goto(home.place.hub_url.replace("ws://", "http://").replace("/dsp", "/"))
        ask = """
        async (url) => {
          const tried = [];
          for (const mode of ["cors", "no-cors"]) {
            tried.push(await fetch(url, { mode, method: "POST" }).then((answer) => answer.type, () => "refused"));
          }
          return tried;
        }
        """
        assert await foreign.evaluate(ask, f"{home.url}/console/session") == ["refused", "refused"]
