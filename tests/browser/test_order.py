"""The order of the jobs that wait, changed with the mouse, a finger and the keys."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import Locator, Page, expect

from tests.browser.test_many import files
from tests.browser.test_undo import start
from tests.support.browser.actions import drop
from tests.support.browser.console_scene import House
from tests.support.browser.studio import Studio
from tests.support.programs.our_peers import until
from tests.support.streams.submitting import submitting
from wakestream.adapters.daemon.console import preferences
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox

if TYPE_CHECKING:
    from conftest import Visitor


async def waiting(home: House, page: Page, count: int) -> None:
    """Start jobs that wait for the GPU, and show them all, the first started first."""
    await page.get_by_label("Choose a video").wait_for()
    await drop(page, *files(*(f"clip{at}.{end}" for at in range(count) for end in ("mp4", "wav"))))
    await page.get_by_role("button", name=f"Start {count} jobs").click()
    waits = page.locator(".fold", has_text="waiting for the GPU")  # another one is of jobs whose files are being copied
    await expect(waits).to_have_text(f"{count - 2} more waiting for the GPU")
    await waits.click()
    await in_order(home, page, count)


async def in_order(home: House, page: Page, count: int) -> None:
    """Copies end in any order, and a job's turn comes with its last copy: put them right, and wait for the page."""
    await until(lambda: len(turns(home)) == count)
    if turns(home) != [*range(count)]:
        for _, job in sorted(zip(turns(home), home.daemon.outbox.state.in_turn(), strict=True)):
            await home.daemon.outbox.move(job)  # to the end: the page shows the right order when the last one is there
    await shows(page, *range(count))


def grip(page: Page, number: int) -> Locator:
    """The handle of a job."""
    return page.get_by_role("button", name=f"Move clip{number}.mp4")


async def shows(page: Page, *numbers: int) -> None:
    """Wait until the list has these jobs in this order."""
    await expect(page.locator("#cards .card-title")).to_have_text(
        [re.compile(f"clip{number}.mp4") for number in numbers]
    )


def turns(home: House) -> list[int]:
    """The jobs in the daemon's order."""
    state = home.daemon.outbox.state
    names = [home.daemon.console.cards.input_names(state.jobs[job])[0] for job in state.in_turn()]
    return [int(name.removeprefix("clip").removesuffix(".mp4")) for name in names]


async def middle(place: Locator) -> tuple[float, float]:
    """The middle of an element in the window."""
    await place.scroll_into_view_if_needed()
    box = await place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


async def carried(page: Page, number: int, over: int) -> Locator:
    """Carry a job over another one, wherever that is by then, and hold it there; returns the other one's card."""
    card = page.locator(".card", has_text=f"clip{over}.mp4")
    await grip(page, number).hover()  # it waits until the handle stands still
    x, _ = await middle(grip(page, number))
    await page.mouse.down()
    async with asyncio.timeout(60):
        while await card.get_attribute("data-drop") is None:
            _, y = await middle(card)
            await page.mouse.move(x, y, steps=5)
    return card


async def drag_to(page: Page, number: int, over: int) -> None:
    """Drag a job over another one, and let go there."""
    await carried(page, number, over)
    await page.mouse.up()


async def test_jobs_are_dragged_and_two_pages_agree(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page, visitor.page() as other:
        await waiting(home, page, 4)
        await other.locator(".fold").click()
        await shows(other, 0, 1, 2, 3)
        await drag_to(page, 3, 0)
        await shows(page, 3, 0, 1, 2)
        await shows(other, 3, 0, 1, 2)
        await expect(grip(page, 3)).to_be_focused()
        await expect(page.locator("#told")).to_have_text("clip3.mp4, clip3.wav: place 1 of 4")
        await expect(page.locator(".toast", has_text="Drag")).to_have_count(0)
        await grip(page, 3).press("Enter")
        await expect(page.locator(".toast", has_text="Drag to change the order")).to_be_visible()
        await drag_to(other, 0, 2)
        await shows(page, 3, 1, 2, 0)
        await shows(other, 3, 1, 2, 0)
        assert turns(home) == [3, 1, 2, 0]
        await carried(page, 2, 3)
        await page.keyboard.press("Escape")
        await expect(page.locator("[data-drag], [data-drop]")).to_have_count(0)
        await page.mouse.up()
        await shows(page, 3, 1, 2, 0)
        await page.reload()
        await page.locator(".fold").click()
        await shows(page, 3, 1, 2, 0)
        await home.gpu_on(Studio())
        await expect(page.locator(".card[data-state=done]")).to_have_count(4)


async def test_jobs_are_moved_with_the_keys_and_the_focus_stays(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await waiting(home, page, 4)
        await grip(page, 3).focus()
        for _ in range(2):
            await page.keyboard.press("ArrowUp")
        await shows(page, 0, 3, 1, 2)
        await expect(page.locator("#told")).to_have_text("clip3.mp4, clip3.wav: place 2 of 4")
        await page.keyboard.press("Alt+ArrowDown")
        await shows(page, 0, 1, 3, 2)
        await page.keyboard.press("End")
        await shows(page, 0, 1, 2, 3)
        await page.keyboard.press("ArrowDown")  # it is the last
        await page.keyboard.press("Home")
        await shows(page, 3, 0, 1, 2)
        await page.keyboard.press("ArrowDown")
        await shows(page, 0, 3, 1, 2)
        await expect(grip(page, 3)).to_be_focused()
        assert turns(home) == [0, 3, 1, 2]
        await grip(page, 3).press("Enter")
        await expect(page.locator(".toast", has_text="Drag to change the order")).to_be_visible()


async def test_jobs_are_dragged_with_a_finger_on_a_small_screen(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True) as page:
        await start(page, 3)
        await in_order(home, page, 3)
        x, y = await middle(grip(page, 2))
        to = await page.locator(".card", has_text="clip0.mp4").bounding_box()
        assert to is not None
        finger = await page.context.new_cdp_session(page)

        async def touch(kind: str, *points: dict[str, float]) -> None:
            await finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

        assert await grip(page, 2).evaluate("(it) => getComputedStyle(it).opacity") == "1"  # a finger does not hover
        await touch("touchStart", {"x": x, "y": y})
        await touch("touchMove", {"x": x, "y": y - 20})
        await expect(page.locator("[data-drag]")).to_have_count(1)
        while await page.locator("[data-drop]").evaluate("one => one !== one.parentNode.firstElementChild"):
            await touch("touchMove", {"x": x, "y": 30})  # the page scrolls there
        await touch("touchEnd")
        await shows(page, 2, 0, 1)
        assert turns(home) == [2, 0, 1]
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360


async def test_a_job_that_began_meanwhile_stays_and_the_page_says_why(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await start(page, 3)
        await in_order(home, page, 3)

        async def refuse(route: object) -> None:
            await route.fulfill(status=409, json={"code": "not_movable", "error": "job x is at the GPU already"})  # type: ignore[attr-defined]

        await page.route("**/move", refuse, times=1)
        await drag_to(page, 2, 0)
        await expect(page.get_by_text("The job has begun, so it cannot be moved.")).to_be_visible()
        await shows(page, 0, 1, 2)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 409" not in said]


async def begins(home: House, page: Page, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU gets a job, and the page learns it."""
    box = home.daemon.outbox
    job = str(await page.locator(".card", has_text=f"clip{number}.mp4").get_attribute("data-job"))
    outbox.DECIDER.evolve(box.state, f.JobStage(job, "render", 9.0, "http://gpu", "task-1"))
    publish = box.feed.publish

    def not_its_wait(name: str, event: dict[str, Any]) -> None:
        if name != job:  # its pipeline goes on to wait, and says so
            publish(name, event)

    monkeypatch.setattr(box.feed, "publish", not_its_wait)
    publish(job, {"event": "running", "at": 9.0, "percent": 5.0, "frame": 0, "frames": 0})
    await expect(page.locator(f'[data-job="{job}"]')).to_have_attribute("data-state", "open")


@pytest.mark.parametrize(("job", "over", "edge", "order"), [(3, 1, "before", [0, 3, 2]), (0, 3, "after", [1, 2, 0])])
async def test_a_job_that_is_dropped_where_another_began_comes_to_the_nearest_that_waits(
    home: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, job: int, over: int, edge: str, order: list[int]
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await waiting(home, page, 4)
        await expect(await carried(page, job, over)).to_have_attribute("data-drop", edge)
        await begins(home, page, over, monkeypatch)
        await page.mouse.up()
        await expect(page.locator("#told")).to_contain_text("of 3")
        await expect(page.locator("[data-drag], [data-drop]")).to_have_count(0)
        assert [one for one in turns(home) if one != over] == order


async def test_after_an_error_during_a_drop_the_page_goes_on(visitor: Visitor) -> None:
    script = """
    async () => {
      const { Order } = await import("/order.js");
      let drawn = 0;
      const job = { id: "a", state: "open", stage: 0, inputs: [{ file: "a" }] };
      const lists = () => ({ shown: () => [job], draw: () => { drawn += 1; } });
      const asked = () => { throw new Error("broken"); };
      const order = new Order({ known: { jobs: new Map([["a", job]]), open: 1 }, lists, asked });
      const card = document.createElement("li");
      const grip = document.createElement("button");
      const other = document.createElement("li");
      other.dataset.job = "b";
      const to = { root: other, edge: "before" };
      order.dragging = { id: "a", card, grip, to, ending: new AbortController() };
      order.dragged = true;
      order.mark = () => {};
      const error = await order.drop(true).catch((broken) => broken.message);
      return [error, order.dragging, drawn];
    }
    """
    async with visitor.page() as page:
        assert await page.evaluate(script) == ["broken", None, 1]


async def test_of_many_jobs_that_wait_one_is_moved_far(home: House, visitor: Visitor) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await waiting(home, page, 9)
        await grip(page, 8).press("Home")
        await shows(page, 8, *range(8))
        await page.locator(".fold").click()
        await shows(page, 8, 0)
        await grip(page, 0).press("End")
        await shows(page, 8, 1, 0)  # it stays below the line while it has the focus
        await expect(grip(page, 0)).to_be_focused()
        await until(lambda: turns(home) == [8, 1, 2, 3, 4, 5, 6, 7, 0])


@pytest.mark.parametrize("width", [360, 768, 1440])
async def test_beyond_twenty_jobs_each_takes_one_line(home: House, visitor: Visitor, width: int) -> None:
    await home.monitor()
    async with visitor.page(viewport={"width": width, "height": 900}) as page:
        await waiting(home, page, 22)
        low = "(card) => card.getBoundingClientRect().height < 50"
        await page.wait_for_function(f"() => [...document.querySelectorAll('#cards > .card')].every({low})")
        row = page.locator("#cards > .card").nth(1)
        await row.get_by_text("Details").click()
        await expect(row.locator(".card-detail .log")).to_be_visible()
        assert await page.evaluate("() => document.documentElement.scrollWidth") == width


async def test_a_job_that_the_page_does_not_show_comes_when_it_is_moved_to_the_top(
    home: House, visitor: Visitor, tmp_path: Path
) -> None:
    await home.monitor()
    box = home.daemon.outbox
    file = f.FileStat(str(tmp_path / "clip.mp4"), 1, 1)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    for n in range(230):
        job = submitting(0, f"job-{n}", {"video": file, "audio": file}, {"video": f"/out/{n}.mp4"})
        assert (await box.submit(job)).status == 201
    async with visitor.page() as page:
        jobs = page.locator("#cards > [data-job]")
        await expect(page.locator(".fold")).to_have_text("228 more waiting for the GPU")
        await expect(page.locator('[data-job="job-229"]')).to_have_count(0)
        await box.move("job-229", first=True)
        await expect(jobs.first).to_have_attribute("data-job", "job-229")
        await expect(page.locator(".fold")).to_have_text("228 more waiting for the GPU")
        await page.locator(".fold").click()
        await expect(jobs).to_have_count(200)
        handle = page.locator('[data-job="job-150"] .grip')
        x, y = await middle(handle)
        await page.mouse.move(x, y)
        await page.mouse.down()
        while not await jobs.first.get_attribute("data-drop"):
            await page.mouse.move(x, 5)  # the page scrolls there
        await page.mouse.up()
        await expect(jobs.first).to_have_attribute("data-job", "job-150")
        await expect(handle).to_be_focused()
        assert home.daemon.outbox.state.in_turn()[:3] == ["job-150", "job-229", "job-0"]
        last, other = [page.locator(f'[data-job="job-{n}"] .grip') for n in (198, 197)]
        await expect(jobs.last).to_have_attribute("data-job", "job-198")
        told = page.locator("#told")
        await other.press("ArrowDown")
        await expect(told).to_contain_text("place 200 of 230")
        assert box.state.in_turn()[198:201] == ["job-198", "job-197", "job-199"]
        x, y = await middle(last)
        await page.mouse.move(x, y)
        await page.mouse.down()
        await page.mouse.move(x, y + 150, steps=4)
        await expect(page.locator('[data-job="job-197"]')).to_have_attribute("data-drop", "after")
        await page.mouse.up()
        await expect(jobs.last).to_have_attribute("data-job", "job-198")
        assert box.state.in_turn()[198:201] == ["job-197", "job-198", "job-199"]
        await last.press("End")
        await expect(told).to_contain_text("place 230 of 230")
        assert box.state.in_turn()[-1] == "job-198"


async def test_where_one_job_runs_at_a_time_another_is_moved_before_it(home: House, visitor: Visitor) -> None:
    await home.monitor()
    await home.stop_daemon()
    preferences.save(home.state, {"at_once": 1})
    await home.start_daemon()
    async with visitor.page() as page:
        await start(page, 3)
        await until(lambda: len(turns(home)) == 3)
        first, second, third = turns(home)  # copies end in any order
        why = page.locator("#cards .card-why")
        turn = "Waiting: one job runs at a time, {} ahead."
        await expect(why).to_contain_text(["GPU", turn.format(0), turn.format(1)])
        await drag_to(page, third, first)
        await shows(page, third, first, second)
        await expect(why).to_contain_text(["GPU", turn.format(0), turn.format(1)])
        await home.gpu_on(Studio())
        await expect(page.locator(".card[data-state=done]")).to_have_count(3)
        ended = sorted(home.daemon.outbox.state.jobs.values(), key=lambda entry: entry.ended.at if entry.ended else 0)
        names = [home.daemon.console.cards.input_names(entry)[0] for entry in ended]
        assert names == [f"clip{number}.mp4" for number in (third, first, second)]
