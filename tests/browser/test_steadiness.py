"""What the page holds on to: files on their way, the keyboard's place, many jobs, many tabs; and strangers."""

from __future__ import annotations

import asyncio
import datetime
import errno
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.browser.console_scene import Disk, House, Media
from wakestream.adapters.daemon.console import job_view as cards
from wakestream.adapters.daemon.console import timeline as timelines
from wakestream.adapters.daemon.console import uploads
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import begin, card, choose, described, open_timeline, plays, saying

if TYPE_CHECKING:
    from conftest import Visitor
    from playwright.async_api import Page, Route


async def cancelled(home: House, files: Media, job: str) -> str:
    """A job that was cancelled, handed in by another program of the user."""
    bearer = {"Authorization": f"Bearer {home.token}"}
    output = files[0].with_name(f"{job}.mp4")
    wish = {"id": job, "video": str(files[0]), "audio": str(files[1]), "output": str(output)}
    async with aiohttp.ClientSession(home.url, headers=bearer) as session:
        assert (await session.post("/api/jobs", json=wish)).status == 201
        assert (await session.post(f"/api/jobs/{job}/cancel")).status == 202
        async with session.get(f"/api/jobs/{job}/events") as events:
            assert b"event: cancelled" in await events.read()
    return job


async def test_a_file_on_its_way_is_sent_again_when_the_daemon_is_back(
    home: House, visitor: Visitor, files: Media, disk: Disk
) -> None:
    disk.hold()
    async with visitor.page() as page:
        video = page.locator("#slot-video")
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await disk.begun.wait()
        visitor.daemon_away = True
        stopping = asyncio.create_task(home.stop_daemon())
        await expect(video).to_contain_text("The upload restarts when the connection is back")
        disk.go_on()
        await stopping
        await home.start_daemon()
        await visitor.enter_again(page)
        await expect(video).to_have_attribute("data-slot", "ready")
        await expect(video).to_contain_text("interview.mp4")
        kept = list((home.state / "console" / "uploads").rglob("*.mp4"))
        assert [path.stat().st_size for path in kept] == [files[0].stat().st_size]


async def test_chosen_files_outlast_a_reload_and_the_daemon(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await choose(page, files)
        await page.reload()
        await expect(page.get_by_text("Ready to start.")).to_be_visible()
        visitor.daemon_away = True
        await home.stop_daemon()
        await home.start_daemon()
        await page.reload()
        await visitor.enter_again(page)
        await expect(page.locator("#slot-audio")).to_contain_text("narration.wav")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("interview.mp4")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "empty")


async def test_a_full_disk_is_shown_at_the_file(
    visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with visitor.page() as page:
        monkeypatch.setattr(uploads, "write_all", full)
        await page.get_by_label("Choose a video").set_input_files(files[0])
        alert = page.locator("#slot-video").get_by_role("alert")
        await expect(alert).to_have_text("The disk is full. Free some space and try again.")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "empty")
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 507" not in said]


async def test_leaving_during_an_upload_asks_first(visitor: Visitor, files: Media, disk: Disk) -> None:
    disk.hold()
    async with visitor.page() as page:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def stay(dialog: Any) -> None:
            asked.put_nowait(dialog.type)
            await dialog.dismiss()

        page.on("dialog", stay)
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "sending")
        await page.close(run_before_unload=True)
        async with asyncio.timeout(100):
            assert await asked.get() == "beforeunload"
        disk.go_on()
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "ready")


async def test_jobs_stay_in_order_and_many_of_them_are_compact(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    tallest = "() => Math.max(...[...document.querySelectorAll('#cards > li')].map((each) => each.offsetHeight))"
    async with visitor.page() as page:

        async def height(width: int) -> int:
            await page.set_viewport_size({"width": width, "height": 800})
            return int(await page.evaluate(tallest))

        alone = 0, 0
        for number in range(1, 8):
            video = files[0].with_name(f"clip-{number}.mp4")
            video.write_bytes(files[0].read_bytes() + bytes(number))
            await choose(page, (video, files[1]))
            await page.get_by_role("button", name="Start").click()
            if number <= 3:
                await expect(card(page)).to_have_count(number)
            await expect(page.locator("#now-count")).to_have_text(str(number))
            if number == 1:
                alone = await height(360), await height(1280)
        fold = page.get_by_role("button", name="5 more waiting for the GPU")
        await expect(card(page)).to_have_count(2)
        await expect(fold).to_have_attribute("aria-expanded", "false")
        await fold.press("Enter")
        await expect(fold).to_have_attribute("aria-expanded", "true")
        await expect(fold).to_be_focused()
        names = [f"clip-{number}.mp4" for number in range(1, 8)]
        await expect(card(page).locator("h3 bdi:first-child")).to_have_text(names)
        assert await height(1280) < 0.7 * alone[1]
        assert await height(360) < 0.7 * alone[0]
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        await card(page).first.get_by_role("button", name="Cancel").click()
        await expect(page.locator("#recent > li")).to_have_attribute("data-state", "cancelled")
        await expect(page.locator("#cards > [data-job]")).to_have_count(6)


async def test_the_history_shows_more_and_keeps_the_focus(home: House, visitor: Visitor, files: Media) -> None:
    for number in range(26):
        await cancelled(home, files, f"job-{number:02}")
    async with visitor.page() as page:
        past, more = page.locator("#past li"), page.get_by_role("button", name="Show more")
        await expect(card(page)).to_have_count(12)
        await expect(past).to_have_count(12)
        await more.click()
        await expect(past).to_have_count(14)
        await expect(more).to_be_hidden()
        await past.nth(3).get_by_role("button").focus()
        job = await past.nth(3).get_attribute("data-job")
        now = await cancelled(home, files, "late")
        await expect(past.first).to_have_attribute("data-job", "job-14")  # the last of the recent ones makes room
        await expect(past).to_have_count(15)
        held = "() => document.activeElement.closest('li').dataset.job"
        assert await page.evaluate(held) == job
        assert now not in await past.evaluate_all("(rows) => rows.map((row) => row.dataset.job)")


async def test_a_removed_button_leaves_the_focus_at_its_job(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    async with visitor.page() as page:
        job = await begin(page, files)
        await job.get_by_role("button", name="Cancel").press("Enter")
        await expect(job).to_have_attribute("data-state", "cancelled")
        assert await page.evaluate(
            "() => document.activeElement.closest('li')?.dataset.job"
        ) == await job.get_attribute("data-job")
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.activeElement.textContent") == "Details"


async def test_eight_tabs_work_at_once(home: House, visitor: Visitor, files: Media) -> None:
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


def of_yesterday(home: House, job: str, ago: float, made: bytes = b"x" * 1000) -> Path:
    """A job of the page's that was done so many seconds ago; its result."""
    result = home.state / "console" / "results" / f"{job}.mp4"
    result.write_bytes(made)
    dated, at = result.stat().st_mtime_ns, time.time() - ago
    accepted = f.JobAccepted(job, f"/gone/{job}.mp4", "/gone/voice.wav", str(result), 1, 1, 1, 1, "x", 0, at - 60)
    for fact in (accepted, f.JobEnded(job, "done", at, path=str(result), size=len(made), mtime_ns=dated)):
        outbox.DECIDER.evolve(home.daemon.outbox.state, fact)
    return result


async def test_a_removed_result_can_be_taken_back_for_some_seconds(home: House, visitor: Visitor) -> None:
    result = of_yesterday(home, "old", 86_400)
    async with visitor.page() as page:
        past = page.locator("#past li")
        await expect(past).to_have_count(1)
        remove = past.get_by_role("button", name="Remove result")
        await remove.click()
        await expect(past).to_contain_text("The result is removed in")
        await past.get_by_role("button", name="Undo").click()
        assert result.exists()
        await remove.click()
        await expect(page.locator(".toast")).to_contain_text("old - voice.mp4 is removed in 10")
        await expect(past).to_contain_text("The result file is gone")
        await expect(page.locator(".toast")).to_have_count(0)
        assert not result.exists()
        await expect(card(page)).to_have_count(0)
        await expect(page.locator("#told")).to_be_empty()


async def test_a_result_that_plays_goes_on_when_the_page_comes_back(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_yesterday(home, "old", 60, files[0].read_bytes())
    async with visitor.page() as page:
        await plays(page)
        visitor.daemon_away = True
        monkeypatch.setattr(cards, "NOW_LASTS", 30.0)
        home.daemon.console._live.close()
        of_yesterday(home, "new", 0)
        await expect(card(page)).to_have_count(2)  # the page is back, and has the old one still
        assert await page.evaluate("() => document.querySelector('video').currentTime > 0.1")


def accept(home: House, number: int) -> None:
    """A job waits, as far as the page knows."""
    job, box = f"job-{number:04}", home.daemon.outbox
    wish = (job, f"/v/{job}.mp4", "/v/voice.wav", f"/v/{job}.out.mp4", 1, 1, 1, 1, "x", 0, 1000.0 + number)
    outbox.DECIDER.evolve(box.state, f.JobAccepted(*wish))
    box.feed.publish(job, {"event": "accepted", "at": 1000.0 + number})


async def test_all_jobs_are_cancelled_before_their_gpu_is_turned_off_also_those_without_a_card(
    home: House, visitor: Visitor
) -> None:
    await home.monitor()
    await home.gpu_on()
    for number in range(450):
        accept(home, number)
    asked: list[tuple[str, int]] = []

    async def hear(route: Route) -> None:
        said = route.request.post_data_json
        asked.append((said.get("act") or said["action"], len(said.get("jobs", ()))))
        await route.fulfill(json={"refused": [], "until": 0})

    async with visitor.page() as page:
        await page.route("**/console/act", hear)
        await page.route("**/console/gpus", hear)
        async with page.expect_event("dialog") as dialog:
            page.once("dialog", lambda each: each.accept())
            await page.get_by_role("button", name="Turn off now").click()
        assert (await dialog.value).message == "450 of your jobs need gpu. Cancel them and turn it off?"
        await expect(page.locator("#toasts")).to_contain_text("gpu is being turned off.")
    assert asked == [("cancel", 400), ("cancel", 50), ("stop", 0)]


async def test_of_thousands_of_jobs_the_running_ones_are_shown(home: House, visitor: Visitor) -> None:
    box = home.daemon.outbox

    def begins(number: int) -> None:
        job = f"job-{number:04}"
        outbox.DECIDER.evolve(box.state, f.JobStage(job, "render", 9000.0))
        box.feed.publish(job, {"event": "running", "at": 9000.0, "percent": 5.0, "frame": 0, "frames": 0})

    for number in range(2000):
        accept(home, number)
    for number in range(8):
        begins(number)
    async with visitor.page() as page:
        await expect(card(page)).to_have_count(10)  # 8 run, and 2 of those that wait
        await expect(card(page).first).to_contain_text("job-0000.mp4")
        await expect(page.locator("#now-count")).to_have_text("2,000")
        await page.get_by_role("button", name="1,990 more waiting for the GPU").click()
        await expect(card(page)).to_have_count(200)
        await expect(page.locator("#now-more")).to_have_text("Showing the first 200; 1,800 more are waiting.")
        begins(1900)
        await expect(card(page).nth(8)).to_contain_text("job-1900.mp4")
        await expect(card(page)).to_have_count(200)
        for number in range(2000, 5000):
            accept(home, number)
            if not number % 100:
                await asyncio.sleep(0)
        await expect(page.locator("#now-count")).to_have_text("5,000")
        await expect(card(page)).to_have_count(200)
        await expect(card(page).nth(8)).to_contain_text("job-1900.mp4")


async def test_late_news_do_not_change_the_form(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.monitor()
    console, used = home.daemon.console, 10_000
    tell = type(console._live).tell
    monkeypatch.setattr(
        type(console._live), "tell", lambda live, kind, plain: None if kind == "rest" else tell(live, kind, plain)
    )

    async def late(page: Page, idle: list[Any]) -> None:
        nonlocal used
        used += 1000
        tell(console._live, "rest", {**console._rest(), "uploads": idle, "used": used})
        await expect(page.locator("#foot")).to_contain_text(f"{used // 1000}\u00a0kB")

    async with visitor.page() as page:
        await choose(page, files)
        await late(page, [])
        assert await page.locator("#start").is_enabled()
        idle = console.holdings.plain()["uploads"]
        await late(page, idle)
        await page.locator("#start").click()
        await expect(card(page)).to_have_count(1)
        await late(page, idle)
        assert await page.locator("#slot-video").get_attribute("data-slot") == "empty"
        await late(page, [])
        await choose(page, files)
        await page.get_by_role("button", name="Remove interview.mp4").click()
        await late(page, [])


async def test_a_file_that_was_replaced_or_removed_does_not_come_back(
    home: House, visitor: Visitor, files: Media, disk: Disk
) -> None:
    async with visitor.page() as page:
        video = page.locator("#slot-video")
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await expect(video).to_have_attribute("data-slot", "ready")
        [first] = (home.state / "console" / "uploads").iterdir()
        disk.hold()
        other = files[0].with_name("other.mp4")
        other.write_bytes(files[0].read_bytes())
        await page.get_by_label("Choose a video").set_input_files(other)
        await expect(video).to_have_attribute("data-slot", "sending")
        async with page.expect_response(lambda answer: answer.request.method == "DELETE"):
            await video.get_by_role("button", name="Remove other.mp4").click()
        disk.go_on()
        await page.get_by_label("Choose an audio file").set_input_files(files[1])
        await expect(page.locator("#slot-audio")).to_have_attribute("data-slot", "ready")
        await expect(page.locator("#foot")).to_contain_text(re.compile(r"[\d.]+\skB of"))
        assert await video.get_attribute("data-slot") == "empty"
        assert not first.exists()


async def test_the_keyboards_place_is_kept_where_its_button_goes(home: House, visitor: Visitor, files: Media) -> None:
    held = "() => document.activeElement.closest('[data-job]')?.dataset.job"
    for number in reversed(range(14)):  # the oldest ended first
        of_yesterday(home, f"old-{number:02}", 86_400 + number)
    async with visitor.page(link=False) as page:
        await page.locator("#door-code").fill(home.link())
        await page.keyboard.press("Enter")
        await expect(page.locator("#past li")).to_have_count(12)
        assert await page.evaluate("() => document.activeElement.id") == "work"
        await page.locator("#past-more").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#past li")).to_have_count(14)
        assert await page.evaluate(held) == "old-12"
        page.on("dialog", lambda dialog: dialog.accept())
        await page.locator("#past li").nth(3).get_by_role("button", name="Remove result").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#past li").nth(3)).to_contain_text("The result file is gone")
        assert await page.evaluate(held) == "old-03"
        await choose(page, files)
        await page.locator("#start").focus()
        await page.keyboard.press("Enter")
        await expect(card(page).locator("h3")).to_be_focused()


async def test_the_keyboard_goes_to_a_started_job_also_when_its_news_come_late(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, held = home.daemon.outbox.feed, list[tuple[str, dict[str, Any]]]()
    publish = feed.publish
    async with visitor.page() as page:
        await choose(page, files)
        before = await page.locator("#new-hint").inner_text()
        monkeypatch.setattr(feed, "publish", lambda *news: held.append(news))
        await page.clock.install()
        await page.locator("#start").press("Enter")
        await expect(page.locator("#new-hint")).not_to_have_text(re.compile(f"Starting|{re.escape(before)}"))
        await page.clock.run_for(1000)
        await expect(card(page)).to_have_count(0)
        monkeypatch.setattr(feed, "publish", publish)
        for news in held:
            publish(*news)
        await expect(card(page).locator("h3")).to_be_focused()


async def test_a_press_counts_when_its_button_moves_away_meanwhile(visitor: Visitor, files: Media) -> None:
    async with visitor.page() as page:
        await choose(page, files)
        await described(page)
        start, mouse = page.get_by_role("button", name="Start"), page.mouse
        await start.hover()
        await mouse.down()
        await mouse.move(5, 5)
        await mouse.up()  # let go elsewhere: no press
        await start.hover()
        await expect(start).to_be_enabled()
        await mouse.down()
        await page.evaluate("() => { document.querySelector('#composer').style.marginTop = '150px' }")
        await mouse.up()
        await expect(card(page)).to_have_count(1)


async def test_each_end_is_announced_to_screen_readers(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    told = "() => { new MutationObserver(() => window.told.push(document.querySelector('#told').textContent))"
    told += ".observe(document.querySelector('#told'), { childList: true, characterData: true, subtree: true });"
    async with visitor.page() as page:
        await page.evaluate(f"{told} window.told = []; }}")
        for number in range(2):
            await cancelled(home, files, f"job-{number}")
            await expect(card(page)).to_have_count(number + 1)
            await page.wait_for_function("(ends) => window.told.length >= ends", arg=number + 1)
        heard = await page.evaluate("() => window.told")
        assert heard == ["interview.mp4, narration.wav: Cancelled"] * 2


async def test_after_midnight_today_becomes_yesterday(home: House, visitor: Visitor) -> None:
    noon = datetime.datetime(2026, 1, 10, 12).astimezone()
    of_yesterday(home, "old", time.time() - noon.timestamp())
    async with visitor.page() as page:
        visitor.daemon_away = True
        when = page.locator("#past li time")
        for later, shown in ((6, r"^12:00\sPM$"), (30, r"^Jan 10, 2026, 12:00\sPM$")):
            await page.clock.set_fixed_time(noon + datetime.timedelta(hours=later))
            home.daemon.console._live.close()
            await expect(when).to_have_text(re.compile(shown))


async def test_a_paused_timeline_stays_unchanged_as_text(
    home: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "LEAP", math.inf)
    timeline = home.daemon.console._timeline
    async with visitor.page() as page:
        await open_timeline(page)
        await page.get_by_text("Latest events as text").click()
        rows = page.locator("#time-rows")
        timeline._start -= 5.0  # its times are ahead of the browser's
        timeline.row("out", "before", {"event": "before"}, "a")
        await expect(rows).to_contain_text("before")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Follow")).to_be_visible()
        timeline.row("out", "meanwhile", {"event": "meanwhile"}, "a")
        visitor.daemon_away = True
        home.daemon.console._live.close()
        of_yesterday(home, "new", 0)
        await expect(card(page)).to_have_count(1)  # the page is back, with all rows
        assert "meanwhile" not in await rows.inner_text()
        await page.get_by_role("button", name="Follow").click()
        await expect(rows).to_contain_text("meanwhile")


async def test_a_job_that_is_over_before_the_page_hears_of_it_is_shown_and_told(home: House, visitor: Visitor) -> None:
    box = home.daemon.outbox
    async with visitor.page() as page:
        of_yesterday(home, "quick", 0)
        for kind in ("accepted", "done"):
            box.feed.publish("quick", {"event": kind, "at": time.time()})
        await expect(card(page)).to_have_attribute("data-state", "done")
        await expect(page.locator("#told")).to_have_text("quick.mp4, voice.wav: Done")


async def test_a_browser_that_knows_no_segments_of_text_shows_the_page(home: House, visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.add_init_script("delete Intl.Segmenter")
        await page.reload()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def test_ends_during_an_outage_are_announced_after_it(home: House, visitor: Visitor) -> None:
    box, now = home.daemon.outbox, time.time()
    async with visitor.page() as page:
        for job in ("one", "two"):
            wish = (job, f"/v/{job}.mp4", "/v/voice.wav", f"/v/{job}.out.mp4", 1, 1, 1, 1, "x", 0, now)
            outbox.DECIDER.evolve(box.state, f.JobAccepted(*wish))
            box.feed.publish(job, {"event": "accepted", "at": now})
        await expect(card(page)).to_have_count(2)
        visitor.daemon_away = True
        home.daemon.console._live.close()
        for job in ("one", "two"):
            outbox.DECIDER.evolve(box.state, f.JobEnded(job, "failed", now, why="broken", code="task_failed"))
        told = page.locator("#told")
        await expect(told).to_contain_text("one.mp4, voice.wav: Failed")
        await expect(told).to_contain_text("two.mp4, voice.wav: Failed")


async def test_a_refused_key_is_not_shown_as_an_outage(home: House, visitor: Visitor) -> None:
    await home.stop_daemon()
    home.place.keys["client"] = "ws_client_0123456789abcdef0123456789abcdef"
    await home.start_daemon()
    async with visitor.page() as page:
        await expect(page.locator(".gpu-title")).to_have_text("The hub rejected this program")
        await expect(page.locator(".gpu-text")).to_contain_text("license")


async def test_the_history_search_finds_outcomes_in_the_pages_language(
    home: House, visitor: Visitor, files: Media
) -> None:
    of_yesterday(home, "old", 86_400)
    await cancelled(home, files, "stopped")
    async with visitor.page(locale="zh-CN") as page:
        past = page.locator("#past li")
        for text, job in (("完成", "old"), ("已取消 interview", "stopped")):
            await page.locator("#past-search").fill(text)
            await expect(past).to_have_count(1)
            await expect(past).to_have_attribute("data-job", job)


async def test_a_stream_that_is_there_again_at_once_is_no_news(home: House, visitor: Visitor) -> None:
    seen = "() => { window.seen = []; const link = document.querySelector('#link');"
    seen += " new MutationObserver(() => window.seen.push(link.textContent))"
    seen += ".observe(link, { childList: true, characterData: true, subtree: true }); }"
    async with visitor.page() as page:
        await page.evaluate(seen)
        visitor.daemon_away = True
        home.daemon.console._live.close()
        of_yesterday(home, "new", 10)
        await expect(card(page)).to_have_count(1)
        assert await page.evaluate("() => window.seen") == []
        broken = await saying(page, "Reconnecting…")
        await home.stop_daemon()
        await broken
        await home.start_daemon()
        await visitor.enter_again(page)
        await expect(page.locator("#link")).to_have_text("Live")
