"""All scenes of the console: no fault that axe-core finds, every control by keyboard, nothing cut off, little work."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser.console_scene import House, Media
from wakestream.operators.model.engine import Frame
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import choose_by_id, open_timeline
from tests.support.browser.axe import FOCUS, faults

if TYPE_CHECKING:
    from conftest import Visitor
    from playwright.async_api import Page

Look = Callable[["Page", str], Awaitable[None]]

LOOKS = {
    "en-US": [(1440, "light"), (768, "light"), (360, "dark")],
    "zh-CN": [(1440, "dark"), (768, "dark"), (360, "light")],
}
"""The widths and colour schemes in which each scene is looked at, by language."""

FAILED = {"why": "the engine ended with code 1: no memory", "code": "task_failed"}


def end(home: House, job: str, how: str, ago: float, data: bytes = b"", **more: Any) -> None:
    """A job of the page's that ended so many seconds ago."""
    result = home.state / "console" / "results" / f"{job}.mp4"
    if data:
        result.write_bytes(data)
    at = time.time() - ago
    wish = (job, f"/v/{job}.mp4", "/v/voice.wav", str(result), 1, 1, 1, 1, "x", 0, at - 60)
    made = {"path": str(result), "size": len(data)} if data else more
    for fact in (f.JobAccepted(*wish), f.JobEnded(job, how, at, **made)):
        outbox.DECIDER.evolve(home.daemon.outbox.state, fact)


def wait(home: House, number: int) -> None:
    """A job that waits for the GPU."""
    job = f"waiting-{number:04}"
    wish = (job, f"/v/{job}.mp4", "/v/voice.wav", f"/v/{job}.out.mp4", 1, 1, 1, 1, "x", 0, 1000.0 + number)
    outbox.DECIDER.evolve(home.daemon.outbox.state, f.JobAccepted(*wish))
    home.daemon.outbox.feed.publish(job, {"event": "accepted", "at": 1000.0 + number})


async def scenes(home: House, page: Page, files: Media, look: Look) -> None:
    """Go through all scenes and look at each."""
    data = files[0].read_bytes()
    await expect(page.locator("#door")).to_be_visible()
    await look(page, "locked")
    await page.locator("#door-code").fill(home.link())
    await page.locator("#door-form button").click()
    await expect(page.locator(".gpu dl")).to_be_visible()
    await look(page, "at rest")
    await choose_by_id(page, files)
    await expect(page.locator("#slot-video img")).to_be_visible()
    await look(page, "ready to start")
    await page.locator("#start").click()
    await expect(page.locator("#cards > [data-state=waiting]")).to_be_visible()
    await look(page, "waiting")
    for number in range(12):
        wait(home, number)
    await page.locator(".fold").click()
    await look(page, "many waiting")
    await page.locator(".grip").nth(4).focus()
    await page.locator(".grip").nth(4).press("ArrowUp")
    await expect(page.locator("#told")).not_to_be_empty()
    await look(page, "moved")
    await page.locator(".fold").click()
    await home.gpu_on()
    home.engine.frames.put_nowait(Frame(21, 50, 42.0))
    await expect(page.locator("[role=progressbar][aria-valuenow='42']")).to_be_visible()
    await look(page, "running")
    home.engine.go_on.set()
    await expect(page.locator("#recent > [data-state=done]")).to_be_visible()
    end(home, "broken", "failed", 20, **FAILED)
    end(home, "late", "timed_out", 30, stage="online", seconds=600.0)
    end(home, "stopped", "cancelled", 40)
    end(home, "old", "done", 90_000, data)
    end(home, "older", "failed", 95_000, **FAILED)
    await page.reload()
    await expect(page.locator("#recent > li")).to_have_count(4)
    await page.locator("#recent > [data-state=failed] summary").click()
    await page.locator("#past > [data-state=failed] summary").click()
    await page.locator("#recent > [data-state=done] .button.main").click()
    await expect(page.locator("video")).to_have_count(2)
    await look(page, "ended")
    await open_timeline(page)
    await page.locator("#time-list summary").click()
    await page.locator("#past-search").fill("broken")
    await expect(page.locator("#past > li")).to_have_count(1)
    await page.locator("#costs > summary").click()
    await expect(page.locator("#costs-licenses")).to_be_attached()
    await look(page, "timeline, search and costs")
    await page.locator("#settings-open").click()
    await look(page, "settings")
    await page.keyboard.press("Escape")
    await expect(page.locator("#settings")).to_be_hidden()
    await expect(page.locator("#settings-open")).to_be_focused()


LOW = "() => [...document.querySelectorAll('button')].filter((each) => 0 < each.offsetHeight && each.offsetHeight < 24)"
MOVING = "() => document.getAnimations().filter((each) => each.playState === 'running')"


@pytest.mark.parametrize("locale", LOOKS)
async def test_no_scene_has_a_fault_is_cut_off_too_small_or_moves(
    home: House, visitor: Visitor, files: Media, locale: str
) -> None:
    await home.monitor()

    async def check(page: Page, scene: str) -> None:
        for width, scheme in LOOKS[locale]:
            await page.set_viewport_size({"width": width, "height": 900})
            await page.emulate_media(color_scheme=scheme)
            assert await faults(page) == [], (scene, width, scheme)
            assert await page.evaluate("() => document.documentElement.scrollWidth") <= width, (scene, scheme)
            assert await page.evaluate(f"{LOW}.length") == 0, (scene, width)
            assert await page.evaluate(f"{MOVING}.length") == 0, (scene, width)

    async with visitor.page(link=False, reduced_motion="reduce", locale=locale) as page:
        await scenes(home, page, files, check)


CONTROLS = """
(() => {
  const top = document.querySelector("dialog[open]") ?? document;
  const all = [...top.querySelectorAll("button, input, select, textarea, summary, video[controls], [tabindex='0']")];
  const shown = all.filter((each) => each.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: false }));
  return shown.filter((each) => !each.disabled && each.tabIndex >= 0);
})()
"""

NUMBERED = f"() => {CONTROLS}.map((each, at) => (each.dataset.tab = String(at)))"

NOW = f"() => {CONTROLS}.map((each) => each.dataset.tab ?? '')"

HTML = "(marks) => marks.map((mark) => document.querySelector(`[data-tab='${mark}']`)?.outerHTML)"

FORGET = "() => document.querySelectorAll('[data-tab]').forEach((each) => delete each.dataset.tab)"


async def test_every_control_of_every_scene_is_reached_by_tab(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()

    async def missed(page: Page, scene: str, controls: list[str]) -> list[str]:
        wanted = set(controls)
        assert wanted, scene
        if not await page.evaluate("() => Boolean(document.querySelector('dialog[open]'))"):
            await page.evaluate("() => { document.activeElement.blur(); document.querySelector('.skip').focus(); }")
        for pressed in range(3 * len(wanted) + 20):
            at = await page.evaluate(FOCUS)
            if pressed and at["tag"] not in ("BODY", "VIDEO"):  # players show the focus inside
                assert at["named"], (scene, at)
                assert at["seen"], (scene, at)
            wanted.discard(at["tab"])
            if not wanted:
                break
            await page.keyboard.press("Tab")
        return [*wanted]

    async def walk(page: Page, scene: str) -> None:
        while marks := await missed(page, scene, controls := await page.evaluate(NUMBERED)):
            if await page.evaluate(NOW) == controls:  # else the page has hidden, moved or replaced some meanwhile
                raise AssertionError(scene, await page.evaluate(HTML, marks))
            await page.evaluate(FORGET)
        await page.evaluate(FORGET)

    async with visitor.page(link=False, reduced_motion="reduce") as page:
        await scenes(home, page, files, walk)


async def test_a_page_with_a_thousand_jobs_does_little(home: House, visitor: Visitor, files: Media) -> None:
    """Counts of work, since a busy machine makes every time longer."""
    await home.monitor()
    data = files[0].read_bytes()[:1000]
    for number in range(1000):
        end(home, f"old-{number}", "done", 90_000 + number, data)
        wait(home, number)
    async with visitor.page() as page:
        await expect(page.locator("#now-count")).to_have_text("1,000")
        await expect(page.locator("#past > li")).to_have_count(12)
        assert await page.evaluate("() => document.querySelectorAll('*').length") < 1500
        frames = """
        () => {
          const real = requestAnimationFrame;
          window.frames = 0;
          window.requestAnimationFrame = (call) => { window.frames += 1; return real(call); };
        }
        """
        await page.evaluate(frames)
        ticks = """
        () => new Promise((go) => {
          let left = 3;
          const clock = setInterval(() => {
            left -= 1;
            if (left) return;
            clearInterval(clock);
            go();
          }, 1000);
        })
        """
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")

        async def counts() -> dict[str, float]:
            found = await session.send("Performance.getMetrics")
            return {each["name"]: each["value"] for each in found["metrics"]}

        before = await counts()
        await page.evaluate(ticks)
        after = await counts()
        assert await page.evaluate("() => window.frames") == 0  # nothing is animated while nothing moves
        assert after["LayoutCount"] - before["LayoutCount"] < 30
        await page.get_by_role("button", name="998 more waiting for the GPU").click()
        await expect(page.locator("#cards > [data-job]")).to_have_count(200)
        for shown in (36, 108, 324, 972):
            await page.locator("#past-more").click()
            await expect(page.locator("#past > li")).to_have_count(shown)
        drawn = """
        () => {
          const all = [...document.querySelectorAll("#past > li > *")];
          return all.filter((each) => each.checkVisibility({ contentVisibilityAuto: true })).length;
        }
        """
        assert await page.evaluate(drawn) < 972  # of five thousand elements only those near the view are laid out
