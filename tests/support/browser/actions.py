"""What people do at the console."""

import asyncio
import base64

from playwright.async_api import Locator, Page, expect

from tests.support.browser.console_scene import Media

DROP = """
(files) => {
  const carried = new DataTransfer();
  for (const { name, text } of files) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    carried.items.add(new File([bytes], name));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
  }
}
"""


async def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Drop files onto the page."""
    await page.evaluate(DROP, [{"name": name, "text": base64.b64encode(data).decode()} for name, data in files])


async def choose(page: Page, files: Media) -> None:
    """Choose both files and wait until they are there."""
    await page.get_by_label("Choose a video").set_input_files(files[0])
    await page.get_by_label("Choose an audio file").set_input_files(files[1])
    await expect(page.get_by_text("Ready to start.", exact=True)).to_be_visible()


async def described(page: Page) -> None:
    """Wait until the page shows what is in both files: it asks for no preview then, and nothing moves."""
    await expect(page.locator("#slot-video")).to_contain_text("h264")
    await expect(page.locator("#slot-audio")).to_contain_text("kHz")


async def choose_by_id(page: Page, files: Media) -> None:
    """The same in any language."""
    await page.locator("#pick-video").set_input_files(files[0])
    await page.locator("#pick-audio").set_input_files(files[1])
    await expect(page.locator("#start")).to_be_enabled()


def card(page: Page) -> Locator:
    """The job's card, in the list Active or Recent."""
    return page.locator(".cards > [data-job]")


async def begin(page: Page, files: Media) -> Locator:
    """Choose, start, and wait for the job's card."""
    await choose(page, files)
    await page.get_by_role("button", name="Start").click()
    await expect(card(page)).to_have_count(1)
    return card(page)


async def plays(page: Page) -> None:
    """Press Play, and wait until the picture moves."""
    await card(page).get_by_role("button", name="Play").click()
    await page.wait_for_function("() => { const v = document.querySelector('video'); return v && v.currentTime > 0.1 }")
    assert await page.evaluate("() => document.querySelector('video').videoWidth") == 640


async def open_timeline(page: Page) -> None:
    """Open the panel with the timeline, which is closed at first."""
    await page.locator("#time > summary").click()
    await expect(page.locator("#time-canvas")).to_be_visible()


SAID = """
(words) => new Promise((go) => {
  const link = document.querySelector("#link-text");
  new MutationObserver(() => { if (link.textContent.includes(words)) go(); })
    .observe(link, { childList: true, characterData: true, subtree: true });
  window.watched = true;
})
"""


async def saying(page: Page, words: str) -> asyncio.Task[None]:
    """Ends when the page's head says this of its link: after some seconds of an outage it says something else."""
    heard = asyncio.create_task(page.evaluate(SAID, words))
    await page.wait_for_function("() => window.watched")
    return heard
