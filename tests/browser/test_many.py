"""Many files at once: the list of jobs, its changes, and jobs that are started while their files are copied."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import CDPSession, Page, expect

from tests.support.browser.actions import drop
from tests.support.browser.console_scene import House
from tests.support.browser.studio import PAINT, REMIX, Studio, offer, png

if TYPE_CHECKING:
    from conftest import Visitor

SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
FAST = {**SLOW, "uploadThroughput": -1}

ROWS = """
() => [...document.querySelectorAll(".batch-row")].map((row) => [row.dataset.row,
  ...[...row.querySelectorAll("select")].map((one) => one.selectedOptions[0].textContent)])
"""

PASTE = """
(text) => {
  const carried = new DataTransfer();
  carried.setData("text/plain", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));
}
"""

MIXED = """
(count) => {
  const carried = new DataTransfer();
  for (let at = 0; at < count; at += 1) {
    const audio = `take_${String(at).padStart(4, "0")}-AUDIO.wav`;
    const names = [`Take ${at} video.mp4`, audio, `note ${at}.txt`, `._take ${at}.mp4`];
    for (const name of names) carried.items.add(new File([name], name));
  }
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}
"""


def files(*names: str, size: int = 2000) -> list[tuple[str, bytes]]:
    """Files that look like media."""
    return [(name, name.encode() * (size // len(name) + 1)) for name in names]


async def rows(page: Page) -> list[list[str]]:
    """The list of jobs: whether each is ready, and its files."""
    found: list[list[str]] = await page.evaluate(ROWS)
    return found


async def said(page: Page, text: str) -> None:
    """Wait until the list says this."""
    await expect(page.locator(".batch-said")).to_have_text(text)


SESSIONS: WeakKeyDictionary[Page, CDPSession] = WeakKeyDictionary()
"""One for each page: what one session has slowed down, another one does not make fast again."""


async def throttle(page: Page, conditions: dict[str, object]) -> None:
    """Change the speed of the page's uploads."""
    if page not in SESSIONS:
        SESSIONS[page] = await page.context.new_cdp_session(page)
        await SESSIONS[page].send("Network.enable")
    await SESSIONS[page].send("Network.emulateNetworkConditions", conditions)


async def test_many_files_become_jobs_that_can_be_changed_before_the_start(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        given = files("a_video.mp4", "b.mp4", "A_audio.wav", "B.wav", "extra.wav", "notes.txt")
        await drop(page, *given)
        await said(page, "2 jobs, 1 file without a partner")
        assert await rows(page) == [
            ["ready", "a_video.mp4", "A_audio.wav"],
            ["ready", "b.mp4", "B.wav"],
            ["single", "Video: choose a partner", "extra.wav"],
        ]
        await expect(page.get_by_text("1 file fits no input and is left out: notes.txt")).to_be_visible()
        await expect(page.get_by_role("button", name="Start 2 jobs")).to_be_enabled()
        choice = page.get_by_label("Video of job 3", exact=True)
        await choice.focus()
        await choice.select_option("b.mp4")
        await said(page, "3 jobs")
        await drop(page, *files("c.mp4", "c.wav"))
        await said(page, "4 jobs")  # what was changed by hand stays
        await page.get_by_label("Remove job 1 from the list", exact=True).click()
        await said(page, "3 jobs")
        assert [row[1:] for row in await rows(page)] == [["b.mp4", "B.wav"], ["b.mp4", "extra.wav"], ["c.mp4", "c.wav"]]
        await expect(page.get_by_label("Remove job 1 from the list", exact=True)).to_be_focused()
        await page.get_by_role("button", name="Start 3 jobs").click()
        await expect(page.get_by_text("3 jobs started.")).to_be_visible()
        await expect(page.locator(".card[data-state=done]")).to_have_count(3)
        titles = await page.locator(".card-title").all_text_contents()  # of cards below the window too
        assert sorted("".join(title.split()) for title in titles) == ["b.mp4+B.wav", "b.mp4+extra.wav", "c.mp4+c.wav"]
        await expect(page.locator(".batch")).to_have_count(0)
        await expect(page.get_by_label("Choose a video")).to_be_attached()


async def test_one_video_with_many_audio_files_by_hand(home: House, visitor: Visitor, tmp_path: Path) -> None:
    voices = []
    for name, data in files("monday.wav", "tuesday.wav", "friday.wav"):
        (tmp_path / name).write_bytes(data)
        voices.append(tmp_path / name)
    (tmp_path / "me.mp4").write_bytes(b"v" * 3000)
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").set_input_files(tmp_path / "me.mp4")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "ready")
        await page.get_by_label("Choose an audio file").set_input_files(voices)
        await said(page, "3 jobs")
        assert [row[1:] for row in await rows(page)] == [
            ["me.mp4", each] for each in ("friday.wav", "monday.wav", "tuesday.wav")
        ]
        await page.get_by_role("button", name="Discard the list").click()
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "ready")  # it is there as before
        await page.get_by_label("Choose an audio file").set_input_files(voices)
        await page.get_by_role("button", name="Start 3 jobs").click()
        await expect(page.locator(".card")).to_have_count(3)


async def test_a_kind_with_one_input_makes_one_job_for_each_file(home: House, visitor: Visitor) -> None:
    offer(home, REMIX, PAINT)
    async with visitor.page() as page:
        await page.get_by_label("Kind of job").select_option("remix")
        await drop(page, ("one.png", png()), ("two.png", png()), ("two.wav", b"x" * 50), ("three.png", png()))
        await said(page, "3 jobs")
        assert await rows(page) == [
            ["ready", "one.png", "None"],
            ["ready", "three.png", "None"],
            ["ready", "two.png", "two.wav"],
        ]


async def test_a_thousand_mixed_files_are_listed(visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await page.evaluate(MIXED, 250)
        await said(page, "250 jobs")
        found = await rows(page)
        assert found[0] == ["ready", "Take 0 video.mp4", "take_0000-AUDIO.wav"]
        assert found[249] == ["ready", "Take 249 video.mp4", "take_0249-AUDIO.wav"]
        await expect(page.get_by_text("500 files fit no input and are left out:")).to_be_visible()


async def test_a_job_is_started_while_its_files_are_copied(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page, visitor.page() as other:
        await page.get_by_label("Choose a video").wait_for()
        await throttle(page, SLOW)
        await drop(page, *files("a.mp4", "a.wav", size=1_000_000))
        await expect(page.get_by_text("You can start now.")).to_be_visible()
        await page.get_by_role("button", name="Start", exact=True).click()
        for each in (page, other):
            await expect(each.locator(".card")).to_have_count(1)
        await expect(page.locator(".card[data-state=copying]")).to_contain_text("keep this page open")
        await expect(other.locator(".card")).to_contain_text("Another page copies a.mp4, a.wav")
        await expect(page.locator("#slot-video")).to_have_attribute("data-slot", "empty")  # for the next job
        await throttle(page, FAST)
        for each in (page, other):
            await expect(each.locator(".card[data-state=done]")).to_have_count(1)


async def test_a_reload_stops_the_copy_and_the_same_file_lets_it_go_on(home: House, visitor: Visitor) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await throttle(page, SLOW)
        given = files("a.mp4", "a.wav", size=3_000_000)
        await drop(page, *given)
        await page.get_by_role("button", name="Start", exact=True).press("Enter")
        await expect(page.locator(".card[data-state=copying]")).to_have_count(1)
        page.on("dialog", lambda dialog: dialog.accept())
        await page.reload()
        await expect(page.locator(".card[data-state=stuck]")).to_contain_text("Waiting for a.mp4, a.wav.")
        await throttle(page, FAST)
        await drop(page, *given)
        await expect(page.locator(".card[data-state=done]")).to_have_count(1)


async def test_a_job_that_is_copied_can_be_cancelled(home: House, visitor: Visitor) -> None:
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await throttle(page, SLOW)
        await drop(page, *files("a.mp4", "a.wav", size=3_000_000))
        await page.get_by_role("button", name="Start", exact=True).press("Enter")
        card = page.locator(".card[data-state=copying]")
        await card.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".card")).to_have_count(0)
        assert home.daemon.console.holdings.plain()["used"] == 0


async def test_a_full_quota_keeps_the_rest_of_the_list_and_says_what_to_remove(home: House, visitor: Visitor) -> None:
    home.daemon.console.holdings.uploads.quota = 9000
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await drop(page, *files("a.mp4", "a.wav", "b.mp4", "b.wav", "c.mp4", "c.wav"))
        await page.get_by_role("button", name="Start 3 jobs").click()
        await said(page, "1 job")
        row = page.locator(".batch-row").first
        await expect(row.get_by_role("alert")).to_contain_text("Remove results you no longer need")
        await expect(page.locator(".card")).to_have_count(2)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 413" not in said]


async def test_a_path_is_pasted_and_the_daemon_copies_the_file(home: House, visitor: Visitor, tmp_path: Path) -> None:
    await home.gpu_on(Studio())
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(5000))
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + bytes(5000))
    (tmp_path / "notes.txt").write_text("secret")
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        for name in ("a.mp4", "a.wav"):
            await page.evaluate(PASTE, str(tmp_path / name))
        for slot in ("video", "audio"):
            await expect(page.locator(f"#slot-{slot}")).to_have_attribute("data-slot", "ready")
        await page.get_by_role("button", name="Remove a.wav").click()
        field = page.get_by_label("Audio: or paste a path or URL")
        await field.fill(str(tmp_path / "notes.txt"))
        await field.press("Enter")
        await expect(page.locator("#slot-audio")).to_contain_text("notes.txt is not a video, audio or image file")
        await field.fill(str(tmp_path / "a.wav"))
        await field.press("Enter")
        await expect(page.locator("#slot-audio")).to_have_attribute("data-slot", "ready")
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.locator(".card[data-state=done]")).to_have_count(1)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 400" not in said]


async def test_a_batch_has_a_name_and_is_saved_retried_and_cancelled_as_a_whole(
    home: House, visitor: Visitor, tmp_path: Path
) -> None:
    await home.gpu_on(Studio())
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").wait_for()
        await drop(page, *files("a.mp4", "a.wav", "b.mp4", "b.wav", "c.mp4", "c.wav"))
        assert (await page.get_by_label("Name", exact=True).input_value()).startswith("Batch ")
        await page.get_by_label("Name", exact=True).fill("Harbor scenes")
        await page.get_by_role("button", name="Start 3 jobs").click()
        line = page.locator("#batches > li")
        await expect(line).to_contain_text("Harbor scenes3 of 3 done")
        async with page.expect_download() as waiting:
            await line.get_by_role("button", name="Save all: Harbor scenes").click()
        saved = await waiting.value
        assert saved.suggested_filename == "Harbor scenes.zip"
        await saved.save_as(tmp_path / "all.zip")
        with zipfile.ZipFile(tmp_path / "all.zip") as archive:
            assert archive.testzip() is None
            assert sorted(archive.namelist()) == ["a - a.mp4", "b - b.mp4", "c - c.mp4"]
        await home.gpu_off()
        await drop(page, *files("d.mp4", "d.wav", "e.mp4", "e.wav"))
        await page.get_by_label("Name", exact=True).fill("Second")
        await page.get_by_role("button", name="Start 2 jobs").click()
        await expect(line).to_have_count(2)
        await page.reload()
        second = line.filter(has_text="Second")
        await expect(second).to_contain_text("0 of 2 done")
        await second.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".toast", has_text="cancelled in")).to_be_visible()
        await page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide'))")  # do not wait for the undo
        await expect(second).to_contain_text("0 of 2 done, 2 without a result")
        await home.gpu_on(Studio())
        await second.get_by_role("button", name="Retry").click()
        await expect(second).to_contain_text("2 of 2 done")
