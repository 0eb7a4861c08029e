"""Previews of a daemon without ffmpeg: the page looks into the files itself, and sends nothing for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import Page, expect

from tests.support.browser.actions import drop
from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import REMIX, Studio, offer, png
from wakestream.adapters.engines import probe as preview
from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.engines.samples import make_speech
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import TaskFailed

if TYPE_CHECKING:
    from conftest import Visitor

LISTEN = Kind(
    "listen", (Slot("picture", ("image",)),), (Slot("text", (".txt",)),), title="Listen", help="Reads what is written."
)

PICTURE = "img[src^='data:image/jpeg']"

COLOUR = """
async (src) => {
  const image = new Image();
  image.src = src;
  await image.decode();
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  return [...pen.getImageData(2, 2, 1, 1).data].slice(0, 3).map((part) => Math.round(part / 64));
}
"""


REVOKED = """
() => {
  const revoke = URL.revokeObjectURL.bind(URL);
  window.revoked = 0;
  URL.revokeObjectURL = (url) => { window.revoked += 1; revoke(url); };
}
"""
"""Counts the object URLs that the page revokes."""


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon finds no ffmpeg."""

    def missing() -> str:
        raise TaskFailed("ffmpeg is missing")

    monkeypatch.setattr(preview, "found_ffmpeg", missing)


@pytest_asyncio.fixture(loop_scope="module")
async def media(tmp_path: Path) -> Media:
    """A video that every Chromium plays, which is blue after a black beginning, and a voice."""
    video, voice = tmp_path / "clip.webm", tmp_path / "voice.wav"
    scene = "color=black:s=320x180:d=0.2[a];color=blue:s=320x180:d=2.8[b];[a][b]concat"
    command = [found_ffmpeg(), "-f", "lavfi", "-i", scene, "-c:v", "libvpx", "-y", str(video)]
    async for _ in run_program(command, limit=40.0, merge=True):
        pass
    await make_speech(voice, 2.0)
    return video, voice


async def shows_blue(page: Page, place: str) -> None:
    """Wait for a picture, which is blue."""
    picture = page.locator(f"{place} {PICTURE}")
    await expect(picture).to_have_count(1)
    red, green, blue = await page.evaluate(COLOUR, await picture.get_attribute("src"))
    assert blue > red + green, place


async def test_the_page_shows_a_picture_and_the_length_of_files_and_results(
    home: House, visitor: Visitor, media: Media
) -> None:
    studio = Studio(media)
    studio.go_on.clear()
    await home.gpu_on(studio)
    async with visitor.page() as page:
        await page.evaluate(REVOKED)
        await page.get_by_label("Choose a video").set_input_files(media[0])
        await page.get_by_label("Choose an audio file").set_input_files(media[1])
        await shows_blue(page, "#slot-video")
        await expect(page.locator("#slot-video .slot-text")).to_contain_text("3 s")
        await expect(page.locator("#slot-audio .slot-text")).to_contain_text("2 s")
        await expect(page.locator(f"#slot-audio {PICTURE}")).to_have_count(0)
        assert await page.evaluate("() => window.revoked") == 2
        await page.get_by_role("button", name="Start", exact=True).click()
        await shows_blue(page, "#cards .card")
        studio.go_on.set()
        await expect(page.locator("#recent > [data-state=done]")).to_have_count(1)
        await page.reload()  # the page has no file any more
        await shows_blue(page, "#recent .card")


async def test_a_page_that_was_opened_later_shows_the_input_of_a_job_when_it_is_done(
    home: House, visitor: Visitor
) -> None:
    studio = Studio(kinds=(LISTEN, REMIX))
    studio.go_on.clear()
    await home.gpu_on(studio)
    async with visitor.page() as page:
        await page.get_by_label("Kind of job").select_option(label="Listen")
        await drop(page, ("good.png", png(64, 64, (11, 20, 181))))
        await page.get_by_role("button", name="Start", exact=True).click()
        await shows_blue(page, "#cards .card")
        async with page.expect_response(lambda answer: "/console/previews/jobs/" in answer.url):
            await page.reload()  # the page has no file any more
        await expect(page.locator(f"#cards {PICTURE}")).to_have_count(0)
        studio.go_on.set()
        await expect(page.locator("#recent > [data-state=done]")).to_have_count(1)
        await shows_blue(page, "#recent .card")


async def test_a_file_that_the_browser_cannot_open_keeps_its_icon(home: House, visitor: Visitor) -> None:
    offer(home, REMIX)
    async with visitor.page() as page:
        await drop(page, ("broken.png", b"no picture" * 50))
        slot = page.locator("#slot-picture")
        await expect(slot).to_have_attribute("data-slot", "ready")
        await expect(slot.locator("svg").first).to_be_visible()
        await expect(slot.locator("img")).to_have_count(0)
        await slot.get_by_role("button", name="Remove").click()
        await drop(page, ("good.png", png(64, 64, (11, 20, 181))))
        await shows_blue(page, "#slot-picture")
