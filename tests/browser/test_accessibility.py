"""Everybody can use the console: no fault that axe-core finds, by keyboard, on a narrow screen, without motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import PAINT, REMIX, Studio, offer, png
from wakestream.adapters.engines.command import LIPSYNC_KIND

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import drop
from tests.support.browser.axe import FOCUS, no_fault_light_or_dark

if TYPE_CHECKING:
    from conftest import Visitor
    from playwright.async_api import Page


async def start(page: Page, files: Media) -> None:
    """Start a job."""
    await page.locator("#pick-video").set_input_files(files[0])
    await page.locator("#pick-audio").set_input_files(files[1])
    await page.locator("#start").click()
    await expect(page.locator(".cards > [data-job]").first).to_be_visible()


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_axe_core_finds_no_violation_in_forms_and_results(
    home: House, visitor: Visitor, files: Media, locale: str
) -> None:
    offer(home, LIPSYNC_KIND, PAINT, REMIX)
    await home.gpu_on(Studio(files))
    async with visitor.page(reduced_motion="reduce", locale=locale) as page:
        await page.locator("#kind").select_option("paint")
        await page.locator("#start").click()
        await expect(page.locator("#param-prompt-wrong")).not_to_be_empty()
        await no_fault_light_or_dark(page)
        await page.locator("#kind").select_option("remix")
        offer(home, PAINT, online=False, known=False)
        await drop(page, ("cat.png", png()))
        for output in await page.locator(".option input").all():
            await output.check()
        await page.locator("#start").click()
        await expect(page.locator(".cards > [data-state=done]")).to_be_visible()
        await page.locator("[data-state=done] .button.main").click()
        await expect(page.locator("pre").last).to_contain_text("2.50")
        await no_fault_light_or_dark(page)


async def test_a_form_is_filled_in_by_keyboard_and_fits_a_narrow_screen(home: House, visitor: Visitor) -> None:
    offer(home, PAINT, REMIX)
    async with visitor.page(viewport={"width": 360, "height": 740}, reduced_motion="reduce") as page:
        await page.locator("#kind").select_option("paint")
        await page.locator("#kind").focus()
        seen = []
        while not seen or seen[-1] != "start":
            await page.keyboard.press("Tab")
            at = await page.evaluate(FOCUS)
            assert at["named"], at
            assert at["seen"], at
            seen.append(at["id"])
        fields = [f"param-{name}" for name in PAINT.params["properties"]]
        assert [name for name in seen if name] == [*fields, "start"]
        await page.keyboard.press("Enter")
        await page.keyboard.type("a cat")
        await expect(page.locator("#param-prompt")).to_have_value("a cat")
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        await page.locator("#kind").select_option("remix")
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360


async def test_a_job_is_started_and_stopped_by_keyboard(home: House, visitor: Visitor, files: Media) -> None:
    async with visitor.page() as page:
        await page.get_by_label("Choose a video").set_input_files(files[0])
        await page.get_by_label("Choose an audio file").set_input_files(files[1])
        await expect(page.locator("#start")).to_be_enabled()
        seen = []
        for _ in range(14):
            await page.keyboard.press("Tab")
            at = await page.evaluate(FOCUS)
            assert at["named"], at
            assert at["seen"], at
            seen.append(at["id"])
            if at["id"] == "start":
                break
        assert [name for name in seen if name] == ["settings-open", "pick-video", "pick-audio", "start"]
        await page.keyboard.press("Enter")
        cancel = page.get_by_role("button", name="Cancel")
        await expect(cancel).to_be_visible()
        await cancel.focus()
        await page.keyboard.press("Space")
        await expect(page.locator(".cards > [data-job]")).to_have_attribute("data-state", "cancelled")
        await page.locator("#time > summary").focus()
        await page.keyboard.press("Enter")
        await page.locator("#time-canvas").focus()
        await page.keyboard.press("Space")
        await expect(page.get_by_role("button", name="Follow")).to_be_visible()
        await page.keyboard.press("+")
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("End")
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
