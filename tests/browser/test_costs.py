"""The costs on the page: the same figures as `wakestream cost`, by day, job and license, and what there is to say."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support.browser.console_scene import House, Media, samples
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import until
from wakestream.adapters.net.hub_link import Link
from wakestream.streams.hub import local_time as t
from wakestream.streams.protocol import messages as m

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import begin, choose
from tests.support.browser.axe import faults

if TYPE_CHECKING:
    from conftest import Visitor
    from playwright.async_api import Page

ZONE = f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"
"""Where it is about noon now: a GPU cannot have run today for longer than the day is old."""


EUROS = {"currency": "EUR", "zone": ZONE}


def hub_with(**limits: Any) -> pytest.MarkDecorator:
    """The limits of the hub."""
    return pytest.mark.parametrize("home", [EUROS | limits], indirect=True, ids=["hub"])


def has_run(home: House, *hours: float, gpu: str = "gpu") -> None:
    """The GPU ran for so many hours on each of the last days, today last."""
    account = home.hub_server.state.gpus[gpu].account
    today = t.day_of(time.time(), ZONE)
    account.since = time.time() - 90 * 86_400
    account.days.update({today - back: each * 3600 for back, each in enumerate(reversed(hours)) if each})


async def off(home: House) -> None:
    """The machine is off, so that the figures stay as they are."""
    await home.gpu_off()
    home.power("off")
    state = home.hub_server.state
    await until(lambda: state.gpus["gpu"].phase == "off")


async def opened(page: Page, *, all_: bool = True) -> None:
    """Open the panel, and all that is in it."""
    await page.locator("#costs > summary").click()
    await expect(page.locator("#costs-sums > div").first).to_be_visible()  # what has no rows is hidden then
    for each in await page.locator("#costs details:not([hidden]) summary").all() if all_ else []:
        await each.click()


async def figures(page: Page) -> dict[str, str]:
    """The sums of the panel by name."""
    pair = "(cell) => [cell.querySelector('dt').innerText, cell.querySelector('dd').innerText]"
    cells = await page.locator("#costs-sums > div").evaluate_all(f"(cells) => cells.map({pair})")  # in one moment
    return {name: value.replace("\xa0", " ") for name, value in cells}


async def table(page: Page, name: str) -> list[list[str]]:
    """The rows of a table."""
    return [
        [text.replace("\n", "|").replace("\xa0", " ") for text in await row.locator("th, td").all_inner_texts()]
        for row in await page.locator(f"#{name} tbody tr").all()
    ]


@hub_with(budgets={"": (20.0, 300.0), "gpu": (5.0, None)})
async def test_page_and_command_line_show_the_same_figures(tmp_path: Path, home: House, visitor: Visitor) -> None:
    await home.monitor()
    await home.gpu_on()
    home.engine.go_on.set()
    files = await samples(tmp_path, 1.5)
    async with visitor.page() as page:
        job = await begin(page, files)
        await expect(job).to_contain_text("Result saved")
        await expect(job.locator(".when")).to_contain_text("< 0.01 EUR")
        of_hub = home.hub_server.state.jobs
        await until(lambda: not of_hub)  # its use is on the account of its license then
        await off(home)
        has_run(home, 4, 0, 1.5, 2.25)
        home.daemon.console.costs.outdate()  # the page asks the hub again
        await opened(page)
        user = User(tmp_path, API_SERVER_URL=home.place.hub_url, WAKESTREAM_KEY=home.place.keys["client"])
        ran = await user.run("cost", "--json")
        said = orjson.loads(ran.out)
        await expect(page.locator("#costs-of-day")).to_contain_text("2.70 EUR, on for 2 h 15 min")
        costs = said["costs"]
        month, (gpu,) = costs["totals"]["month"]["cost"], said["gpus"]
        assert (gpu["today"]["cost"], gpu["month"]["cost"]) == (costs["totals"]["today"]["cost"], month)
        left = [f"{budget['left']:.2f} EUR" for budget in said["budgets"]]
        assert await figures(page) == {
            "Today": "2.70 EUR",
            "This month": f"{month:.2f} EUR",
            "Forecast for the month": f"{costs['forecast']['month']:.2f} EUR",
            "Budget left today, all GPUs": "17.30 EUR",
            "Budget left this month, all GPUs": f"{300 - month:.2f} EUR",
            "Budget left today, gpu": "2.30 EUR",
        }
        assert sorted(left) == sorted(["17.30 EUR", f"{300 - month:.2f} EUR", "2.30 EUR"])
        days = {row[0]: row[2] for row in await table(page, "costs-table")}
        assert list(days.values()) == [f"{day['cost']:.2f} EUR" for day in reversed(costs["days"])]
        assert list(days.values()) == ["2.70 EUR", "1.80 EUR", "4.80 EUR"]
        ((name, _, cost, share, ended),) = await table(page, "costs-jobs")
        assert (name, cost) == ("interview.mp4 + narration.wav|Lip-sync", "< 0.01 EUR")
        assert share.endswith(" EUR"), "of start-up and idle time"
        assert ended != "not yet"
        (mine,) = costs["licenses"]
        little = "< 0.01 EUR" if mine["used_s"] else "0.00 EUR"  # of less than half a second
        await expect(page.locator("#costs-licenses")).to_contain_text(little)
        license_, nobody = await table(page, "costs-licenses")
        assert (license_[0], license_[3]) == (mine["license"], little)
        assert (nobody[0], nobody[3]) == ("no job (start-up, idle time)", f"{costs['unused']['cost']:.2f} EUR")
        assert await faults(page) == []


@hub_with()
async def test_the_days_are_read_with_the_keyboard_and_the_panel_stays_open(home: House, visitor: Visitor) -> None:
    await home.monitor()
    has_run(home, 1, 0, 2)
    async with visitor.page(viewport={"width": 360, "height": 800}, reduced_motion="reduce") as page:
        assert not await page.locator("#costs-bars").is_visible()
        await opened(page, all_=False)
        bars, said = page.locator("#costs-bars"), page.locator("#costs-of-day")
        await expect(said).to_contain_text("2.40 EUR, on for 2 h")
        await bars.focus()
        await page.keyboard.press("ArrowLeft")
        await expect(said).to_have_text(re.compile(r": on for 0.s$"))
        await page.keyboard.press("ArrowLeft")
        await expect(bars).to_have_attribute("aria-valuetext", re.compile("1.20 EUR, on for 1.h$"))
        await page.keyboard.press("Home")
        await page.keyboard.press("ArrowLeft")
        await expect(bars).to_have_attribute("aria-valuenow", "0")
        await page.keyboard.press("End")
        await expect(said).to_contain_text("2.40 EUR")
        heights = await bars.locator(".day span").evaluate_all("all => all.slice(-3).map(one => one.style.height)")
        assert heights == ["50%", "0%", "100%"]
        await bars.locator(".day").nth(27).hover()
        await expect(said).to_contain_text("1.20 EUR")
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert await faults(page) == []
        await page.reload()
        await expect(page.locator("#costs-of-day")).to_contain_text("2.40 EUR")


@hub_with(price=None)
async def test_without_a_price_it_shows_hours_and_says_how_to_set_one(home: House, visitor: Visitor) -> None:
    await home.monitor()
    has_run(home, 3, 2)
    async with visitor.page() as page:
        await opened(page)
        await expect(page.locator("#costs-note")).to_contain_text("wakestream hub --price-per-hour 1.20")
        assert (await figures(page))["Today"] == "2 h"
        assert [row[1] for row in await table(page, "costs-table")] == ["2 h", "3 h"]
        assert await page.locator("#costs-table thead th").all_inner_texts() == ["Day", "On"]


@hub_with(price=None, currency="")
async def test_different_money_is_not_added_up(home: House, visitor: Visitor) -> None:
    async with AsyncExitStack() as stack:
        for gpu, money in (("lab", "EUR"), ("studio", "USD")):
            register = m.Register(
                role="gpu_monitor", token=home.place.keys["monitor"], gpus=(gpu,), features=("power_state",), price=2.0,
                currency=money,
            )  # fmt: skip
            link = Link(home.place.hub_url, lambda register=register: register)
            stack.push_async_callback(link.close)
            gpus = home.hub_server.state.gpus
            await until(lambda gpus=gpus, gpu=gpu: gpu in gpus)
            has_run(home, 2, 1, gpu=gpu)
        async with visitor.page() as page:
            await opened(page)
            await expect(page.locator("#costs-note")).to_contain_text("Prices are in EUR, USD, so there are no sums.")
            assert (await figures(page))["Today"] == "2 h"
            assert await page.locator("#costs-of-day").inner_text() != ""
            assert await page.locator("#costs-most").inner_text() == "4\xa0h"


@hub_with()
async def test_while_the_hub_is_away_the_last_figures_stay(home: House, visitor: Visitor) -> None:
    await home.monitor()
    has_run(home, 2)
    async with visitor.page() as page:
        await opened(page, all_=False)
        assert (await figures(page))["Today"] == "2.40 EUR"
        await home.hub_off()
        await expect(page.locator("#costs-note")).to_have_text(
            re.compile(r"^Can't reach the hub\. These figures are from .+\.$")
        )
        assert (await figures(page))["Today"] == "2.40 EUR"


@hub_with()
async def test_an_old_hub_is_named_as_the_reason(
    home: House, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wakestream.streams.hub.status.costs.of", lambda *_: None)
    async with visitor.page(locale="zh-CN") as page:
        await page.locator("#costs > summary").click()
        await expect(page.locator("#costs-note")).to_have_text(re.compile("^服务器版本较旧.+请更新服务器。$"))
        assert not await page.locator("#costs-days").is_visible()


@hub_with(price=3600.0)
async def test_after_some_jobs_the_form_says_what_one_takes(tmp_path: Path, home: House, visitor: Visitor) -> None:
    await home.monitor()
    await home.gpu_on()
    home.engine.go_on.set()
    async with visitor.page() as page:
        for number in range(3):
            await expect(page.locator("#new-usual")).to_have_text("")
            (tmp_path / str(number)).mkdir()
            await choose(page, await samples(tmp_path / str(number), 1 + number / 2))
            await page.get_by_role("button", name="Start").click()
            await expect(page.locator(".cards > [data-state=done]")).to_have_count(number + 1)
        await expect(page.locator("#new-usual")).to_have_text(
            re.compile(
                r"^Usually about \d+.s of GPU time and \d+\.\d\d EUR\. Start-up and idle time are extra\. All done at"
            )
        )
        await expect(page.locator("#recent .when").first).to_have_text(re.compile(r"\d\.\d\d EUR"))
        home.engine.go_on.clear()
        for number in range(2):
            (tmp_path / f"open{number}").mkdir()
            await choose(page, await samples(tmp_path / f"open{number}", 3 + number))
            await page.get_by_role("button", name="Start").click()
            await expect(page.locator("#cards > [data-job]")).to_have_count(number + 1)
        await expect(page.locator("#now-done")).to_have_text(re.compile(r"^all done in about \d+.s$"))
        home.engine.go_on.set()
        await page.locator("#past-search").fill("interview")
        await expect(page.locator("#past .past-note").first).to_have_text(re.compile(r"\d\.\d\d EUR\s*$"))


@hub_with(budgets={"": (1.0, None)})
async def test_a_job_that_waits_for_money_says_when_it_goes_on(home: House, visitor: Visitor, files: Media) -> None:
    await home.monitor()
    has_run(home, 2)
    async with visitor.page() as page:
        job = await begin(page, files)
        await expect(job).to_contain_text("The budget is spent. The job continues at ")
        await expect(page.locator("#spent")).to_have_text(re.compile(r"^2\.\d\d of 1\.00 EUR today$"))
        await page.locator("#settings-open").click()
        await expect(page.locator("#set-money > li")).to_have_text(
            [
                re.compile(r"^gpu: 1\.20 EUR per hour$"),
                re.compile(r"^Budget of all GPUs: 1\.00 EUR per day, 2\.\d\d EUR spent"),
            ]
        )
        await page.locator("#settings-close").click()
        today = t.day_of(time.time(), ZONE)
        midnight = int(t.begin_of(today + 1, ZONE) * 1000)
        clock = await page.evaluate(
            "(at) => new Date(at).toLocaleTimeString('en-US', { timeStyle: 'short' })", midnight
        )
        await expect(job).to_contain_text(clock.replace("\u202f", " ").split(" ")[0])
        await opened(page, all_=False)
        await expect(page.locator("#costs-sums")).to_contain_text("Budget left today, all GPUs")
        assert (await figures(page))["Budget left today, all GPUs"] == "0.00 EUR"
        title = await page.locator("#costs-sums > div", has_text="Budget left").get_attribute("title")
        assert title is not None
        assert title.startswith("2.40 EUR of 1.00 EUR spent; no GPU is started before ")
