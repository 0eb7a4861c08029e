"""The web console with 1,000 jobs in Chromium: first paint, a scroll, work at rest; and 20 previews at once."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from many_jobs import waiting_daemon
from timing import row

from wakestream.adapters.daemon.console.sessions import address
from wakestream.adapters.daemon.console.static_files import Page
from wakestream.adapters.daemon.program import RunningDaemon
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.engine import Preview
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox

JOBS = 1000
PAINT_WITHIN = 0.300
FRAME = 1 / 60
SCROLLED = 400
"""Frames of the scroll."""

RUNNING = 20
"""Jobs with previews."""

SHOWN = "(count) => document.querySelectorAll('.so-far img').length === count"

STEP = 100
"""Pixels that a frame scrolls by."""

REST = 10.0
WEIGHT = 250_000

PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
MORE = "(shown) => document.querySelectorAll('#past > li').length > shown"
SCROLL = """
async ([frames, step]) => {
  const begin = await new Promise(requestAnimationFrame);
  let now = begin;
  for (let at = 0; at < frames; at += 1) {
    scrollBy(0, step);
    now = await new Promise(requestAnimationFrame);
  }
  return (now - begin) / 1000;
}
"""


def weight() -> int:
    """Bytes that a browser fetches for the page."""
    return Page().weight


def accept(daemon: RunningDaemon, job: str, at: float) -> None:
    """A job that waits."""
    wish = (job, f"/v/{job}.mp4", "/v/voice.wav", f"/v/{job}.out.mp4", 1, 1, 1, 1, "x", 0, at)
    outbox.DECIDER.evolve(daemon.outbox.state, f.JobAccepted(*wish))


def fill(daemon: RunningDaemon) -> None:
    """A thousand waiting jobs and a thousand that ended yesterday."""
    now = time.time()
    for number in range(JOBS):
        accept(daemon, f"waiting-{number:04}", now + number)
        ended, at = f"ended-{number:04}", now - 90_000 - number
        accept(daemon, ended, at)
        outbox.DECIDER.evolve(daemon.outbox.state, f.JobEnded(ended, "cancelled", at + 60))


async def busy(session: Any) -> float:
    """Seconds of processor time that the page has taken."""
    found = await session.send("Performance.getMetrics")
    return float(next(each["value"] for each in found["metrics"] if each["name"] == "TaskDuration"))


async def paints(page: Any) -> float:
    """Seconds until the first paint, the median of several loads."""
    taken = []
    for _ in range(7):
        await page.reload()
        await page.wait_for_selector("body[data-link=up]")
        taken.append(float(await page.evaluate(PAINT)) / 1000)
    return statistics.median(taken)


def begin(daemon: RunningDaemon) -> None:
    """Twenty jobs run, and their engines show nothing yet."""
    for number in range(RUNNING):
        job, at = f"job-{number:02}", time.time()
        accept(daemon, job, at)
        outbox.DECIDER.evolve(daemon.outbox.state, f.JobStage(job, "render", at))
        daemon.outbox.feed.publish(job, {"event": "running", "at": at, "percent": 5.0, "frame": 0, "frames": 0})


def shows(daemon: RunningDaemon, previews: Sequence[Preview]) -> None:
    """The engine of each running job shows these, two a second."""

    async def newer(job: str, seen: int, within: float) -> tuple[int, Preview] | None:
        number = int(2 * time.time())
        return (number, previews[number % len(previews)]) if previews and number != seen else None

    daemon.previews.newer = newer  # type: ignore[method-assign]


def pictures(folder: Path) -> list[Preview]:
    """Ten JPEG pictures of about 30 kB."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=1,noise=alls=25:allf=t", "-frames:v", "10", "-q:v", "4")
    subprocess.run([found_ffmpeg(), "-loglevel", "error", *source, f"{folder}/%d.jpg"], check=True)
    return [Preview("image/jpeg", path.read_bytes()) for path in folder.glob("*.jpg")]


async def opened(browser: Any, daemon: RunningDaemon, width: int, height: int) -> tuple[Any, Any]:
    """The console in a window of this size, and what asks for the page's processor time."""
    page = await browser.new_page(viewport={"width": width, "height": height})
    await page.goto(address(daemon.url, daemon.console.sessions.new_link()))
    await page.wait_for_selector("body[data-link=up]")
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    return page, session


async def with_previews(browser: Any, daemon: RunningDaemon, folder: Path) -> bool:
    """Print what 20 previews at once cost, all in view, in turns with the same page without them."""
    begin(daemon)
    found = pictures(folder)
    page, session = await opened(browser, daemon, 1440, 6000)
    shows(daemon, found)
    await page.wait_for_function(SHOWN, arg=RUNNING)
    every: dict[bool, list[float]] = {False: [], True: []}
    work: dict[bool, list[float]] = {False: [], True: []}
    for shown in (False, True) * 3:
        shows(daemon, found if shown else ())
        before = await busy(session)
        took = float(await page.evaluate(SCROLL, [SCROLLED, 0]))
        every[shown].append(took / SCROLLED)
        work[shown].append((await busy(session) - before) / took)
    rate, rest = (1 / statistics.median(every[shown]) for shown in (True, False))
    print(f"        {RUNNING} previews: {rate:.1f} frames/s, without them {rest:.1f}")
    held = row(f"10 % of a processor: {RUNNING} previews", statistics.median(work[True]), 0.1, 1.0)
    return row(f"frames/s with {RUNNING} previews, against without", rate, rest, 0.95, at_most=False) and held


async def measured(page: Any, session: Any) -> dict[str, float]:
    """The seconds of each measure."""
    paint = await paints(page)
    await page.locator(".fold").click()
    while await page.locator("#past-more").is_visible():
        shown = await page.locator("#past > li").count()
        await page.locator("#past-more").click()
        await page.wait_for_function(MORE, arg=shown)
    before = await busy(session)
    took = float(await page.evaluate(SCROLL, [SCROLLED, STEP]))
    frame = (await busy(session) - before) / SCROLLED
    before = await busy(session)
    await asyncio.sleep(REST)
    return {"paint": paint, "frame": frame, "every": took / SCROLLED, "rest": (await busy(session) - before) / REST}


async def open_page(daemon: RunningDaemon, program: str, folder: Path) -> tuple[dict[str, float], bool]:
    """The measures in a browser, and whether previews hold their budgets."""
    playwright = importlib.import_module("playwright.async_api")  # an extra, which need not be installed
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    async with playwright.async_playwright() as driver:
        arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if root else [])]
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        page, session = await opened(browser, daemon, 1100, 900)
        found = await measured(page, session)
        await page.close()
        held = await with_previews(browser, daemon, folder)
        await browser.close()
        return found, held


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    print(f"the web console with {JOBS} waiting and {JOBS} ended jobs")
    held = row(f"{WEIGHT / 1000:.0f} kB: all files of the page", weight(), WEIGHT, 1.0)
    program = os.environ.get("WAKESTREAM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None or importlib.util.find_spec("playwright") is None:
        print("        skipped: it needs Chromium and playwright (pip install wakestream[browser])")
        return held
    with tempfile.TemporaryDirectory() as folder:
        async with waiting_daemon(Path(folder)) as daemon:
            fill(daemon)
            found, smooth = await open_page(daemon, program, Path(folder))
    print(
        f"        first paint {found['paint'] * 1e3:.0f} ms, {1 / found['every']:.1f} frames/s, "
        f"a frame {found['frame'] * 1e3:.1f} ms, at rest {found['rest']:.1%}"
    )
    held = held and smooth
    held = row("300 ms: first paint", found["paint"], PAINT_WITHIN, 1.0) and held
    held = row("1/60 s of processor time: a frame of the scroll", found["frame"], FRAME, 1.0) and held
    held = row("60 frames/s in the scroll", found["every"], FRAME, 1.05) and held
    return row("10 % of a processor: at rest, all jobs shown", found["rest"], 0.1, 1.0) and held
