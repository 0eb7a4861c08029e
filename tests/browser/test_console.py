"""The console in a real browser: the whole way from two dropped files to the played result."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser.console_scene import Disk, House, Media
from tests.support.programs.our_peers import until
from wakestream.adapters.daemon.console import gpu_status as gpu
from wakestream.adapters.daemon.console import routes
from wakestream.adapters.daemon.console.uploads import Uploads
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.operators.model.engine import Frame
from wakestream.streams.recording.recording import read_log

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import begin, card, choose, drop, open_timeline, plays, saying

if TYPE_CHECKING:
    from conftest import Visitor

SAVE_IN = """
async (output_folder) => (await import("/session.js")).call("PUT", "/console/settings", { output_folder })
"""


async def test_with_the_gpu_on_dropped_files_become_a_video(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        await expect(page.locator(".gpu")).to_contain_text("ready")
        await drop(page, *((path.name, path.read_bytes()) for path in files))
        await page.get_by_role("button", name="Start").press("Enter")
        await expect(card(page)).to_contain_text("Result saved")
        await expect(page.locator("#told")).to_have_text("interview.mp4, narration.wav: Done")
        await expect(page).to_have_title("wakestream")
        await expect(page.locator("#recent > li")).to_have_count(1)
        await expect(page.locator("#cards > li")).to_have_count(0)
        await plays(page)
        async with page.expect_download() as waiting:
            await card(page).get_by_role("button", name="Download").click()
        assert (await waiting.value).suggested_filename == "interview - narration.mp4"


async def test_with_the_gpu_off_the_page_shows_reason_and_progress(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    async with visitor.page() as page:
        lamp = page.locator(".gpu")
        await expect(lamp).to_contain_text("asleep")
        job = await begin(page, files)
        await expect(page).to_have_title("1 waiting \u2013 wakestream")
        await expect(job.get_by_role("listitem")).to_have_text(["Wake", "Check", "Upload", "Render", "Download"])
        await expect(job).to_contain_text("The GPU is waking up")
        await expect(job).to_contain_text("place 1 in the queue")
        await expect(lamp).to_contain_text("waking up")
        home.power("booted")
        await expect(job).to_contain_text("The worker is starting")
        await home.gpu_on()
        await expect(lamp).to_contain_text(re.compile("1 (rendering|in transfer)"))
        home.engine.frames.put_nowait(Frame(21, 50, 42.0))
        await expect(job.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "42")
        await expect(job).to_contain_text("frame 21 of 50")
        await expect(page).to_have_title("42 % · interview.mp4 + narration.wav \u2013 wakestream")
        icon = page.locator("link[rel=icon]")
        await expect(icon).to_have_attribute("href", re.compile("^data:image/svg"))
        home.engine.go_on.set()
        await expect(job).to_contain_text("Result saved")
        await expect(icon).to_have_attribute("href", "/icon.svg")
        for figure in ("Running for", "Jobs", "Cost this month", "Saved"):
            await expect(lamp).to_contain_text(figure)


async def test_lamp_and_card_count_down_to_the_next_try_for_a_machine(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        lamp, job = page.locator(".gpu"), await begin(page, files)
        await expect(lamp).to_contain_text("waking up")
        home.power("no_capacity", retry_in=290)
        for place in (lamp, job):
            await expect(place).to_contain_text(re.compile(r"No GPU available. Next try in 4\smin\s\d+\ss\."))
        text = await job.text_content()
        await expect(job).not_to_have_text(text or "")  # it counts down
        home.power("no_capacity", retry_in=0)
        for place in (lamp, job):
            await expect(place).to_contain_text("No GPU available. Trying again automatically.")
        home.power("starting")
        await expect(job).to_contain_text("The GPU is waking up")


async def test_the_lamp_and_the_card_name_the_gpus_user_at_once(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "EVERY", 3600.0)  # nothing is found out by asking now and then
    await home.gpu_on()
    async with visitor.page() as page:
        lamp = page.locator(".gpu")
        await expect(lamp).to_contain_text("Jobs start at once.")
        job = await begin(page, files)
        home.engine.frames.put_nowait(Frame(5, 50, 10.0))
        await expect(job).to_contain_text("Rendering.")
        await expect(lamp).to_contain_text("Rendering interview.mp4")
        await expect(lamp).to_contain_text("1 rendering")
        home.engine.go_on.set()
        await expect(job).to_contain_text("Result saved")
        await expect(lamp).to_contain_text("none")
        await expect(lamp).to_contain_text("Jobs start at once.")


async def test_a_reused_result_is_marked_on_card_and_history(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        await expect((await begin(page, files)).locator(".card-why")).to_have_text(
            re.compile(r"^Result saved: .*B\.\s*$")
        )
        await choose(page, files)
        await page.get_by_role("button", name="Start").click()
        await expect(card(page).first).to_contain_text("Reused from an earlier job with the same files")
        await page.locator("#past-search").fill("interview")
        await expect(page.locator("#past li").first).to_contain_text("reused, not rendered")
        await expect(page.locator("#past li").last).not_to_contain_text("reused")


async def test_a_finished_job_is_made_once_more_with_a_new_result(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        await job.get_by_role("button", name="Make another").click()
        await expect(page.locator("#recent > li")).to_have_count(2)
        for one in await page.locator("#recent > li").all():
            await expect(one).to_contain_text("interview.mp4")
            await expect(one).not_to_contain_text("Reused")
            await expect(one.get_by_role("button", name="Play")).to_be_visible()


async def test_a_cancelled_job_can_be_tried_again(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    async with visitor.page() as page:
        job = await begin(page, files)
        await job.get_by_role("button", name="Cancel").click()
        await expect(job).to_contain_text("Cancelled.")
        await job.get_by_role("button", name="Retry").click()
        await expect(card(page)).to_have_count(2)
        await home.gpu_on()
        home.engine.go_on.set()
        await expect(card(page).first).to_contain_text("retry of an earlier job")
        await expect(page.locator(".cards > [data-state=done]")).to_contain_text("interview.mp4")


async def test_after_a_failed_boot_a_job_pauses_and_a_button_retries(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        job = await begin(page, files)
        await home.asked_to_boot.wait()
        home.boot_fails("no capacity")
        await expect(job).to_contain_text("The GPU did not start: No capacity. Next try in")
        await home.gpu_on()
        home.engine.go_on.set()
        await job.get_by_role("button", name="Retry now").click()
        await expect(job).to_contain_text("Result saved")
        await expect(card(page)).to_have_count(1)


async def test_a_reload_restores_everything_and_two_pages_agree(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    async with visitor.page() as page:
        job = await begin(page, files)
        home.engine.frames.put_nowait(Frame(5, 50, 10.0))
        await expect(job.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "10")
        await page.reload()
        await expect(job.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "10")
        assert "link=" not in page.url
        other = await page.context.new_page()
        visitor.watch(other)
        await other.goto(home.url)
        home.engine.frames.put_nowait(Frame(30, 50, 60.0))
        for each in (page, other):
            await expect(card(each).get_by_role("progressbar")).to_have_attribute("aria-valuenow", "60")
        await card(other).get_by_role("button", name="Cancel").click()
        for each in (page, other):
            await expect(card(each)).to_have_attribute("data-state", "cancelled")


async def test_the_page_reconnects_to_a_restarted_daemon(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    async with visitor.page() as page:
        job = await begin(page, files)
        home.engine.frames.put_nowait(Frame(5, 50, 10.0))
        await expect(job.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "10")
        visitor.daemon_away = True
        url, broken = home.url, await saying(page, "Reconnecting")
        await home.stop_daemon()
        await broken
        await home.start_daemon()
        assert home.url == url
        await visitor.enter_again(page)
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await expect(job).to_contain_text("interview.mp4")
        home.engine.go_on.set()
        await expect(job).to_contain_text("Result saved")
        await plays(page)


async def test_the_page_is_not_live_without_its_hub_and_says_when_the_program_has_ended(
    home: House, visitor: Visitor
) -> None:
    async with visitor.page() as page:
        link = page.locator("#link-text")
        await expect(link).to_have_text("Live")
        await home.hub_off()
        await expect(page.locator(".gpu")).to_contain_text("Can't reach the hub")
        await expect(link).to_have_text("Hub not reached")
        await expect(page.locator("#kind-note")).to_be_hidden()
        visitor.daemon_away = True
        await home.stop_daemon()
        await expect(link).to_have_text("Stopped")
        await expect(page.locator(".gpu")).to_contain_text("wakestream has ended on this PC")
        await expect(page.locator(".gpu")).to_contain_text("wakestream up")
        await home.start_daemon()
        await expect(link).to_have_text("Locked")


async def test_a_gpu_is_kept_on_and_turned_off_after_a_question_about_its_jobs(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.monitor()
    await home.gpu_on()
    async with visitor.page() as page:
        await page.get_by_role("button", name="Keep on for 1 h").click()
        await expect(page.locator(".gpu")).to_contain_text("Kept on until")
        job = await begin(page, files)
        home.engine.frames.put_nowait(Frame(5, 50, 10.0))
        await expect(page.locator(".gpu")).to_contain_text("1 rendering")
        asked: list[str] = []

        async def answer(dialog: Any) -> None:
            asked.append(dialog.message)
            await (dialog.dismiss() if len(asked) == 1 else dialog.accept())

        page.on("dialog", answer)
        await page.get_by_role("button", name="Turn off now").click()
        await expect(job).to_have_attribute("data-state", "open")
        assert not home.released.is_set()
        await page.get_by_role("button", name="Turn off now").click()
        await expect(job).to_have_attribute("data-state", "cancelled")
        await home.released.wait()
        await expect(page.locator("#toasts")).to_contain_text("gpu is being turned off.")
        assert asked == 2 * ["One of your jobs needs gpu. Cancel it and turn it off?"]


async def test_a_link_in_one_tab_unlocks_all_tabs_after_a_restart(home: House, visitor: Visitor) -> None:
    async with visitor.page() as page:
        other = await page.context.new_page()
        visitor.watch(other)
        await other.goto(home.url)
        await other.wait_for_selector("body[data-link=up]")
        visitor.daemon_away = True
        await home.stop_daemon()
        await home.start_daemon()
        await other.wait_for_selector("body[data-link=locked]")
        await visitor.enter_again(page)
        await other.wait_for_selector("body[data-link=up]")


async def test_the_timeline_survives_a_restart_with_both_names(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        await expect(await begin(page, files)).to_contain_text("Result saved")
    await home.stop_daemon()
    await home.start_daemon()
    async with visitor.page() as page:
        await open_timeline(page)
        await page.locator("#time-list summary").click()
        done = page.locator("#time-rows > li").filter(has_text="done").filter(has_text="out")
        await expect(done.first.locator(".of")).to_have_text("interview.mp4 + narration.wav")


async def test_invalid_files_are_refused_before_an_upload(home: House, visitor: Visitor) -> None:
    home.quota = 0
    async with visitor.page() as page:
        visitor.complaints.clear()
        await drop(page, ("notes.txt", b"x"))
        await expect(page.locator("#toasts")).to_contain_text("notes.txt is not a supported video or audio file")
        video = page.locator("#slot-video")
        await page.get_by_label("Choose a video").set_input_files({"name": "a.mp4", "mimeType": "", "buffer": b""})
        await expect(video.get_by_role("alert")).to_have_text("The file is empty (0 bytes). Choose another one.")
        await page.get_by_label("Choose a video").set_input_files({"name": "a.exe", "mimeType": "", "buffer": b"x"})
        await expect(video.get_by_role("alert")).to_contain_text("Video: a.exe does not fit. Supported: 3gp, avi,")
        big = "() => Object.defineProperty(File.prototype, 'size', { get: () => 20e9 })"
        await page.evaluate(big)
        await page.get_by_label("Choose a video").set_input_files({"name": "a.mp4", "mimeType": "", "buffer": b"x"})
        await expect(video.get_by_role("alert")).to_contain_text("The file is 20 GB; the limit of this page is 50 MB.")
        await expect(page.get_by_role("button", name="Start")).to_be_disabled()
        assert list((home.state / "console" / "uploads").iterdir()) == []
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 4" not in said]


async def test_undecodable_files_start_no_job(home: House, visitor: Visitor, files: Media, tmp_path: Path) -> None:
    home.probe = True
    await home.stop_daemon()
    await home.start_daemon()
    broken, silent = tmp_path / "broken.mp4", tmp_path / "silent.m4a"
    broken.write_bytes(b"this is no video" * 50)
    silent.write_bytes(files[0].read_bytes())
    async with visitor.page() as page:
        video, audio = page.locator("#slot-video"), page.locator("#slot-audio")
        await page.get_by_label("Choose a video").set_input_files(broken)
        await expect(video.get_by_role("alert")).to_contain_text("broken.mp4 is incomplete.")
        await page.get_by_label("Choose an audio file").set_input_files(silent)
        await expect(audio.get_by_role("alert")).to_have_text("silent.m4a contains no audio.")
        await expect(page.get_by_role("button", name="Start")).to_be_disabled()
        assert list((home.state / "console" / "uploads").iterdir()) == []
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await expect(video).to_contain_text("2 s")
        await page.get_by_label("Choose an audio file").set_input_files(files[1])
        await page.get_by_role("button", name="Start").click()
        await expect(card(page).locator(".lasts")).to_have_text([re.compile("2.s"), re.compile("2.s")])
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 415" not in said]


async def test_undecodable_files_show_the_workers_reason(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 50)
    async with visitor.page() as page:
        job = await begin(page, (broken, files[1]))
        await expect(job.locator(".pill")).to_have_text("Failed")
        await expect(job.locator(".card-why")).to_contain_text("Rendering failed. Check the files")
        await job.get_by_text("Details").click()
        await expect(job.locator(".card-detail p")).to_contain_text("Invalid data found")


async def test_the_details_of_a_job_have_its_id_its_path_and_a_log_and_its_folder_is_shown(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(routes, "show_in_folder", lambda path: not opened.append(path))
    await home.gpu_on()
    home.engine.go_on.set()
    (tmp_path / "mine").mkdir()
    async with visitor.page() as page:
        await page.evaluate(SAVE_IN, str(tmp_path / "mine"))
        delivered = home.delivered()
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        ((id_, entry),) = home.daemon.outbox.state.jobs.items()
        async with asyncio.timeout(100):
            await delivered.wait()
        await job.get_by_text("Details").click()
        detail = job.locator(".card-detail")
        await expect(detail.locator("dd").first).to_have_text(id_)
        await expect(detail).to_contain_text(str(next((tmp_path / "mine").glob("*.mp4"))))
        log = detail.get_by_label("Log").locator("li > span")
        await expect(log.last).to_contain_text("Result saved")
        said = await log.all_inner_texts()
        assert "Rendering." in said
        assert all(before != after for before, after in pairwise(said))
        await detail.get_by_role("button", name="Show in folder").click()
        await until(lambda: opened)
        assert opened[0].parent == tmp_path / "mine"
        await page.locator("#past-search").fill("done")
        await page.locator("#past").get_by_text("Details").click()
        await expect(page.locator("#past .card-detail dd").first).to_have_text(id_)
        found, spent = page.locator("#past .card-detail"), {id_: {"cost": 0.0}}
        await page.route("**/console/costs", lambda route: route.fulfill(json={"spent": spent}))
        again, folder = (found.get_by_role("button", name=name) for name in ("Make 4 more", "Show in folder"))
        details, tool = found.locator("summary"), page.locator("#past .past-tools button").first
        lines = found.get_by_label("Log")
        for held, then in ((again, again), (lines, lines), (folder, details), (tool, tool), (tool, None)):
            if then is None:
                await details.click()  # closed: its buttons cannot have the focus
            await held.focus()
            spent[id_]["cost"] += 1
            home.daemon.console._live.tell("costs", None)
            cost = f"{spent[id_]['cost']:.2f}"
            await expect(page.locator("#past .past-note")).to_contain_text(cost)
            if then is not None:
                await expect(found.locator("dd", has_text=cost)).to_be_visible()
            await expect(then or held).to_be_focused()
        await details.click()
        Path(entry.accepted.output).unlink()
        await page.locator("#past-search").fill("interview")
        await expect(page.locator("#past .past-note")).to_contain_text("The result file is gone.")
        await expect(page.locator("#past .card-detail dd").first).to_be_visible()


@pytest.mark.parametrize(
    "name",
    [
        'a "quoted" & <b>bold.mp4',
        "..\\..\\etc\\passwd.mp4",
        "😀👩‍👩‍👧 клип.mp4",
        "\u202egpj.\u05e9\u05dc\u05d5\u05dd.mp4",
        f"{'n' * 300}.mp4",
    ],
)
async def test_names_are_shown_as_text(home: House, visitor: Visitor, files: Media, name: str) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        await drop(page, (name, files[0].read_bytes()), (files[1].name, files[1].read_bytes()))
        await page.get_by_role("button", name="Start").press("Enter")
        await expect(card(page)).to_contain_text("Result saved")
        shown = await card(page).locator("bdi").first.text_content()
        assert shown is not None
        assert shown == name.rsplit("\\", 1)[-1].replace("\u202e", "") or len(shown) == 255
        assert await page.locator("#cards b").count() == 0
        wide = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        async with page.expect_download() as waiting:
            await card(page).get_by_role("button", name="Download").click()
        saved = (await waiting.value).suggested_filename
        assert saved.endswith(".mp4")
        assert "/" not in saved
        assert all(path.resolve().is_relative_to(home.state.resolve()) for path in home.state.rglob("*"))


async def test_a_browser_closed_during_an_upload_leaves_no_file(
    home: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: Disk
) -> None:
    folder, gone, discard = home.state / "console" / "uploads", asyncio.Event(), Uploads.discard

    async def noted(self: Uploads, upload: Any) -> None:
        await discard(self, upload)
        gone.set()

    disk.hold()
    monkeypatch.setattr(Uploads, "discard", noted)
    big = tmp_path / "big.mp4"
    big.write_bytes(bytes(30_000_000))
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").set_input_files(big)
        await expect(page.locator("#slot-video").get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", "0")
        await disk.begun.wait()
        assert list(folder.glob("*/*")) != []
        assert page.context.browser is not None
        await page.context.browser.close()  # a page alone is closed before its connections are
        disk.go_on()
        await gone.wait()
        assert list(folder.iterdir()) == []


async def test_the_page_works_in_chinese(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    async with visitor.page(locale="zh-CN") as page:
        await expect(page.locator(".gpu")).to_contain_text("休眠中")
        await page.get_by_label("选择视频").set_input_files(files[0])
        await page.get_by_label("选择音频").set_input_files(files[1])
        await page.get_by_role("button", name="开始").click()
        await expect(card(page)).to_contain_text("正在唤醒 GPU")
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await home.gpu_on()
        home.engine.go_on.set()
        await expect(card(page)).to_contain_text("结果已保存")
        words = await page.evaluate("() => [...document.querySelectorAll('[data-t]')].map((each) => each.textContent)")
        assert [word for word in words if word.isascii()] == []


async def test_history_search_and_the_saved_timeline_work(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        await page.get_by_label("Search history").fill("INTERVIEW done")
        await expect(page.locator("#past li")).to_have_count(1)
        await page.get_by_label("Search history").fill("nothing of that kind")
        await expect(page.locator("#past-empty")).to_have_text("No job matches “nothing of that kind”.")
        await open_timeline(page)
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
        await page.get_by_role("button", name="Zoom in").click()
        await page.get_by_text("Latest events as text").click()
        await expect(page.locator("#time-rows")).to_contain_text("gpu.job.submit")
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Save log").click()
        saved = await (await waiting.value).path()
        log = read_log(saved.read_bytes().splitlines(keepends=True))
    assert [row.label for row in log.rows if row.label in ("job.accept", "done")] == ["job.accept", "done"]
    trial = await asyncio.to_thread(run_log, log)
    assert (trial.trouble, [str(found) for found in trial.replayed.divergences]) == (None, [])


async def test_the_timeline_moves_until_it_is_paused(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    picture = "() => document.querySelector('#time-canvas').toDataURL()"
    moved = "(before) => document.querySelector('#time-canvas').toDataURL() !== before"
    frames = """
    () => new Promise((go) => {
      let left = 30;
      const one = () => (left-- ? requestAnimationFrame(one) : go());
      one();
    })
    """
    async with visitor.page() as page:
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        await open_timeline(page)
        canvas = page.locator("#time-canvas")
        await canvas.scroll_into_view_if_needed()
        await page.wait_for_function(moved, arg=await page.evaluate(picture))
        await expect(canvas).to_have_attribute("aria-label", re.compile(r"last 1\smin 30\ss; messages: \d+, jobs: 1"))
        await page.get_by_role("button", name="Pause").click()
        held = await page.evaluate(picture)
        await page.evaluate(frames)
        assert await page.evaluate(picture) == held
        await page.get_by_role("button", name="Zoom in").click()
        assert await page.evaluate(picture) != held
        await page.get_by_role("button", name="Zoom out").click()
        assert await page.evaluate(picture) == held
        await page.get_by_role("button", name="Follow").click()
        await page.wait_for_function(moved, arg=held)


async def test_without_a_link_the_page_is_locked_and_a_link_is_good_once(home: House, visitor: Visitor) -> None:
    link = home.link()
    async with visitor.page(link=False) as page:
        await expect(page.get_by_role("heading", name="This page is locked")).to_be_visible()
        await page.get_by_label("Paste the link here").fill(link)
        await page.get_by_role("button", name="Open").click()
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    async with visitor.page(link=False) as page:
        await page.get_by_label("Paste the link here").fill(link)
        await page.get_by_role("button", name="Open").click()
        await expect(page.get_by_role("alert").first).to_contain_text("This link was used before")
        visitor.complaints.clear()


NOTES = """
() => {
  window.noted = [];
  window.asked = 0;
  let permission = "default";
  window.Notification = class {
    static get permission() { return permission; }
    static async requestPermission() { window.asked += 1; permission = "granted"; return permission; }
    constructor(title, { body }) { window.noted.push([title, body]); }
    close() {}
  };
  window.hide = (hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  };
}
"""


async def test_a_notification_says_that_a_job_ended_only_while_the_page_is_hidden(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.gpu_on()
    async with visitor.page() as page:
        await page.add_init_script(f"({NOTES})()")
        await page.reload()
        await page.wait_for_selector("body[data-link=up]")
        assert await page.evaluate("() => window.asked") == 0
        await begin(page, files)
        assert await page.evaluate("() => window.asked") == 1
        await page.evaluate("() => window.hide(true)")
        home.engine.go_on.set()
        await page.wait_for_function("() => window.noted.length > 0")
        assert await page.evaluate("() => window.noted") == [["Done", "interview.mp4 + narration.wav"]]
        await page.evaluate("() => window.hide(false)")
        await choose(page, (files[0], files[1]))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#recent > li")).to_have_count(2)
        assert await page.evaluate("() => [window.asked, window.noted.length]") == [1, 1]


HELD = """
async (wanted) => {
  const { held } = await navigator.locks.query();
  return JSON.stringify(held.map((lock) => lock.name).sort()) === JSON.stringify(wanted);
}
"""


@pytest.mark.parametrize("watched", [True, False])
async def test_a_hidden_page_stays_connected_only_to_notify(
    home: House, visitor: Visitor, files: Media, watched: bool
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await page.add_init_script(f"({NOTES})()")
        await page.reload()
        await page.wait_for_selector("body[data-link=up]")
        await begin(page, files)
        if not watched:
            await page.evaluate("() => localStorage.setItem('wakestream.notify', 'off')")
        await page.clock.install()
        await page.evaluate("() => window.hide(true)")
        await page.clock.run_for(6000)
        streams = ["wakestream.live.1", "wakestream.watch"] if watched else []
        await page.wait_for_function(HELD, arg=streams)


async def test_a_search_finds_all_jobs_by_file_kind_state_and_date(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    today = time.strftime("%Y-%m-%d")
    async with visitor.page() as page:
        await begin(page, files)
        past, search = page.locator("#past li"), page.get_by_label("Search history")
        for text in ("interview", "Lip-sync", "Waiting", "today", today, f"waiting lip-sync {today[:7]} narration"):
            await search.fill(text)
            await expect(page.locator("#past-empty")).to_have_text("1 found")
            await expect(past).to_contain_text("Waiting")
        for text in ("running", "yesterday", "done"):
            await search.fill(text)
            await expect(page.locator("#past-empty")).to_have_text(f"No job matches “{text}”.")
        await search.fill("waiting")
        await past.get_by_role("button", name="Cancel").click()
        await search.fill("cancelled today")
        await expect(past).to_contain_text("Cancelled")


async def test_a_card_that_becomes_a_row_looks_like_the_other_rows(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    look = """
    (row) => {
      const pill = getComputedStyle(row.querySelector(".pill"));
      return [pill.color, getComputedStyle(row.querySelector(".card-head")).gridArea];
    }
    """
    async with visitor.page() as page:
        await begin(page, files)
        home.engine.go_on.set()
        row = page.locator("#recent > li")
        await expect(row).to_have_attribute("data-state", "done")
        moved = await row.evaluate(look)
        assert "head" in moved[1]
        await page.reload()
        await expect(row).to_have_attribute("data-state", "done")
        assert await row.evaluate(look) == moved


async def test_files_and_results_have_pictures_and_a_result_plays_beside_its_input(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    places = "() => [...document.querySelectorAll('video')].map((video) => video.currentTime)"
    async with visitor.page() as page:
        await choose(page, files)
        await expect(page.locator("#slot-video")).to_contain_text(re.compile(r"640x360.+h264.+25 fps"))
        await expect(page.locator("#slot-audio")).to_contain_text("16 kHz")
        await expect(page.locator("#slot-video img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#slot-video img")).to_have_count(0)
        row = page.locator("#recent > li")
        await expect(row.locator(".thumb img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
        await row.get_by_role("button", name="Play").click()
        await expect(row.locator("figcaption")).to_have_text(["Before", "After"])
        await page.wait_for_function(
            "() => [...document.querySelectorAll('video')].every((video) => video.currentTime > 0.1)"
        )
        silent = "() => [...document.querySelectorAll('video')].map((video) => [video.muted, video.controls])"
        assert await page.evaluate(silent) == [[True, False], [False, True]]
        await page.evaluate("() => { const after = [...document.querySelectorAll('video')][1]; after.pause(); }")
        await page.wait_for_function("() => [...document.querySelectorAll('video')].every((video) => video.paused)")
        await page.evaluate("() => { [...document.querySelectorAll('video')][1].currentTime = 0.8; }")
        await page.wait_for_function(f"() => ({places})().every((at) => at === 0.8)")


async def test_without_its_input_a_result_plays_alone(home: House, visitor: Visitor, files: Media) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        await begin(page, files)
        row = page.locator("#recent > li")
        await expect(row).to_contain_text("Result saved")
        for folder in (home.state / "console" / "uploads").iterdir():
            for file in folder.glob("video.*"):
                file.unlink()
        await page.reload()
        await row.get_by_role("button", name="Play").click()
        await expect(row.locator("video")).to_have_count(1)


async def test_the_timeline_is_a_panel_that_stays_open_and_shows_some_jobs_only(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.gpu_on()
    home.engine.go_on.set()
    other = files[0].with_name("other.mp4")
    other.write_bytes(files[0].read_bytes() + b"1")
    async with visitor.page() as page:
        await expect(page.locator("#time-canvas")).to_be_hidden()
        for video in (files[0], other):
            await choose(page, (video, files[1]))
            await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#recent > [data-state=done]")).to_have_count(2)
        await open_timeline(page)
        await page.get_by_text("Latest events as text").click()
        jobs = page.locator("#time-rows bdi:not(:empty)")
        await expect(jobs.filter(has_text="interview.mp4")).not_to_have_count(0)
        await page.get_by_label("Filter by job").fill("other")
        await expect(jobs.filter(has_text="interview.mp4")).to_have_count(0)
        await expect(jobs.filter(has_text="other.mp4")).not_to_have_count(0)
        await expect(page.locator("#time-canvas")).to_have_attribute("aria-label", re.compile(r"jobs: 1\b"))
        await page.reload()
        await expect(page.locator("#time-canvas")).to_be_visible()
        await expect(page.locator("#time-canvas")).to_have_attribute("aria-label", re.compile(r"jobs: 2\b"))


async def test_settings_of_the_daemon_apply_are_kept_and_show_in_other_tabs(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    await home.gpu_on()
    home.engine.go_on.set()
    delivered = home.delivered()
    async with visitor.page() as page:
        other = await page.context.new_page()
        visitor.watch(other)
        await other.goto(home.url)
        for tab in (page, other):
            await tab.get_by_role("button", name="Settings").click()
        await page.get_by_label("Save results in").fill(str(tmp_path / "none"))
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#set-output_folder-wrong")).to_contain_text("There is no such folder.")
        await expect(page.get_by_label("Save results in")).to_be_focused()
        await page.get_by_label("Save results in").fill(str(mine))
        await page.get_by_label("Names of results").fill("../{name}")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#set-name_pattern-wrong")).to_contain_text("A name cannot contain")
        await page.get_by_label("Names of results").fill("{kind} {name}")
        await page.get_by_label("Jobs at a time").fill("2")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#settings")).to_be_hidden()
        await expect(other.get_by_label("Save results in")).to_have_value(str(mine))
        await expect(other.get_by_label("Jobs at a time")).to_have_value("2")
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        async with asyncio.timeout(100):
            await delivered.wait()
        assert [path.name for path in mine.iterdir()] == ["lipsync interview - narration.mp4"]
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 400" not in said]
    await home.stop_daemon()
    await home.start_daemon()
    assert home.daemon.console.preferences.at_once == 2


async def test_language_and_theme_are_chosen_and_show_in_other_tabs(home: House, visitor: Visitor) -> None:
    dark = "() => getComputedStyle(document.body).backgroundColor === 'rgb(13, 16, 21)'"
    async with visitor.page() as page:
        other = await page.context.new_page()
        visitor.watch(other)
        await other.goto(home.url)
        await other.wait_for_selector("body[data-link=up]")
        assert not await page.evaluate(dark)
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Theme").select_option("dark")
        await page.wait_for_function(dark)
        await other.wait_for_function(dark)
        await page.reload()
        assert await page.evaluate(dark)
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Theme").select_option("")
        await page.get_by_label("Language").select_option("zh")
        for tab in (page, other):
            await expect(tab.locator("#new-title")).to_have_text("新任务")
            assert not await tab.evaluate(dark)
        await page.get_by_role("button", name="设置").click()
        await page.get_by_label("语言").select_option("")
        await expect(page.locator("#new-title")).to_have_text("New job")
