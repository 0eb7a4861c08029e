"""How the page looks on each screen: what must not be broken, covered or out of sight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import PAINT, Studio, offer
from wakestream.operators.model.engine import Slot

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.browser.test_scenes import end
from tests.support.browser.actions import begin

if TYPE_CHECKING:
    from conftest import Visitor

LONG = "a_very_long_name_of_an_interview_with_somebody_2026-11-29_take_03.mp4"
FOUR = replace(PAINT, name="four", outputs=tuple(Slot(f"image{n}", (".png",)) for n in range(4)), title="Four pictures")

LINES = """
(bdi) => {
  const range = document.createRange(), lines = [];
  const walk = document.createTreeWalker(bdi, NodeFilter.SHOW_TEXT);
  let top = null;
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    for (let at = 0; at < node.length; at += 1) {
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const y = Math.round(range.getBoundingClientRect().top);
      if (y !== top) lines.push("");
      top = y;
      lines[lines.length - 1] += node.data[at];
    }
  }
  return lines;
}
"""

OVERLAP = """
() => {
  const place = (at) => document.querySelector(`.card ${at}`).getBoundingClientRect();
  const [one, other] = [place(".choose"), place(".thumb")];
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
"""


@pytest.mark.parametrize("width", [360, 768, 1440])
async def test_a_long_name_breaks_after_its_marks_and_no_box_covers_the_picture(
    home: House, visitor: Visitor, files: Media, tmp_path: Path, width: int
) -> None:
    video = tmp_path / LONG
    video.write_bytes(files[0].read_bytes())
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page(viewport={"width": width, "height": 900}) as page:
        job = await begin(page, (video, files[1]))
        await expect(job).to_contain_text("Result saved")
        lines = await job.locator("h3 bdi").first.evaluate(LINES)
        assert "".join(lines) == LONG
        assert all(line[-1] in "_-." for line in lines[:-1]), lines
        await expect(job.locator(".thumb img")).to_be_visible()
        assert not await page.evaluate(OVERLAP)
        await page.get_by_role("button", name="Select", exact=True).click()
        assert not await page.evaluate(OVERLAP)


async def test_recent_jobs_are_in_the_one_list_of_finished_jobs_and_a_search_finds_each_once(
    home: House, visitor: Visitor
) -> None:
    async with visitor.page() as page:
        await expect(page.locator("#past-empty")).to_have_text("Finished jobs appear here.")
        for number in range(3):
            end(home, f"job-{number}", "cancelled", 20 + number)
        await page.reload()
        history = page.get_by_role("region", name="History")
        await expect(history.locator("[data-job]")).to_have_count(3)
        await expect(page.locator("#past-empty")).to_be_empty()
        assert await page.get_by_role("heading", name="Recent").count() == 0
        await page.locator("#past-search").fill("job-1")
        await expect(page.locator("#past > [data-job]")).to_have_count(1)
        await expect(history.locator("[data-job]:visible")).to_have_count(1)


NARROW = """
() => {
  document.querySelector("#link-text").textContent = "Hub not reached";
  document.body.dataset.hub = "down";
  const right = (part) => document.querySelector(part).getBoundingClientRect().right;
  const cut = [...document.querySelectorAll(".card .step-name")].filter((each) => each.scrollWidth > each.clientWidth);
  return { over: right(".top-tools") - right("#house"), cut: cut.map((each) => each.textContent) };
}
"""


async def test_on_a_phone_the_head_keeps_the_margin_no_stage_is_cut_off_and_closed_panels_are_alike(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.monitor()
    async with visitor.page(viewport={"width": 360, "height": 900}) as page:
        await begin(page, files)
        found = await page.evaluate(NARROW)
        assert found["over"] <= 0
        assert found["cut"] == []
        costs, time = [await page.locator(part).evaluate("(e) => e.offsetHeight") for part in ("#costs", ".panel.time")]
        assert abs(costs - time) <= 4


FIGURES = """
async (hub) => {
  const { showGpus } = await import("/gpus.js");
  showGpus(hub, { eta: null, open: 0, nameOf: (id) => id, order: () => {} });
  return [...document.querySelectorAll("#gpus dt")].map((each) => each.textContent);
}
"""


async def test_how_long_a_gpu_is_in_its_phase_names_the_phase(visitor: Visitor) -> None:
    async with visitor.page() as page:
        for phase, said in (("paused", "paused for"), ("off", "asleep for")):
            gpu = {"gpu": "studio", "phase": phase, "since": 1.0}
            assert said in await page.evaluate(FIGURES, {"hub": "up", "ts": 5, "monitors": 1, "gpus": [gpu]})


async def test_save_is_in_sight_on_a_small_screen(visitor: Visitor) -> None:
    async with visitor.page(viewport={"width": 360, "height": 560}) as page:
        await page.locator("#settings-open").click()
        await expect(page.get_by_role("button", name="Save", exact=True)).to_be_in_viewport(ratio=1)


async def test_pictures_are_shown_side_by_side_and_a_seed_can_be_drawn(
    home: House, visitor: Visitor, files: Media
) -> None:
    title = {"type": "string", "maxLength": 80, "title": "Negative prompt"}
    four = replace(
        FOUR, params={"properties": {**FOUR.params["properties"], "negative": title}, "required": ["prompt"]}
    )
    await home.gpu_on(Studio(files, (four,)))
    offer(home, four)
    async with visitor.page(viewport={"width": 1100, "height": 900}) as page:
        await page.get_by_label("Kind of job").select_option(label="Four pictures")
        assert await page.get_by_label("Negative prompt").evaluate("(field) => field.tagName") == "TEXTAREA"
        await page.get_by_label("Prompt", exact=True).fill("a cat")
        await page.get_by_role("button", name="Draw a random number").click()
        seed = page.get_by_role("spinbutton", name="seed")
        drawn = int(await seed.input_value())
        assert 0 <= drawn < 2**32
        await page.get_by_role("button", name="Start").click()
        job = page.locator(".cards > [data-job]")
        await expect(job).to_contain_text("4 results saved")
        await job.get_by_role("button", name="Show").click()
        await expect(job.locator(".made")).to_have_count(4)
        tops = await job.locator(".made").evaluate_all("(all) => all.map((one) => one.offsetTop)")
        assert len(set(tops)) < 3
