"""The operator's page in a real browser: login, what it shows and does, and that everybody can use it."""

from __future__ import annotations

import base64
import ipaddress
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from loguru import logger

from tests.support.programs.operator_scene import DAY, Scene, proxied
from wakestream.adapters.hub.admission import TRIES
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net import qr_code
from wakestream.streams.hub import events as f
from wakestream.streams.hub.hub import DECIDER
from wakestream.streams.hub.needs import ANY_GPU
from wakestream.streams.hub.state import Budgets, Prices
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.axe import FOCUS, faults, no_fault_light_or_dark

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

HTML = "<img src=x onerror=alert(1)>"
EXPECTED = ("ERR_CONNECTION_REFUSED", "WebSocket connection to")


class Visit:
    """An operator in a browser. An error or warning of the browser is a fault, unless the hub is away."""

    def __init__(self, browser: Browser, scene: Scene) -> None:
        self._browser, self.scene = browser, scene
        self.complaints: list[str] = []
        self.hub_away = False

    @asynccontextmanager
    async def page(self, *, key: str | None = "", **context: Any) -> AsyncIterator[Page]:
        """The page, logged in with the admin key or another one; None only opens it."""
        profile = await self._browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **context})
        profile.set_default_timeout(40_000)
        page = await profile.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._note(said.type, said.text))
        await page.goto(f"http://127.0.0.1:{self.scene.port}/operator")
        if key is not None:
            await self.login(page, key)
        yield page
        await profile.close()
        assert self.complaints == []

    async def login(self, page: Page, key: str = "") -> None:
        """Type a key."""
        await page.locator("#door-key").fill(key or self.scene.key)
        await page.locator("#door-key").press("Enter")

    def _note(self, kind: str, text: str) -> None:
        expected = self.hub_away and any(word in text for word in EXPECTED)
        if kind in ("error", "warning") and not expected:
            self.complaints.append(text)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "hub", time.time())


@pytest_asyncio.fixture(loop_scope="module")
async def hub(scene: Scene) -> AsyncIterator[HubServer]:
    async with scene.hub(days=30) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, scene: Scene, hub: HubServer) -> Visit:
    return Visit(browser, scene)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_axe_core_finds_no_violation(visit: Visit, scene: Scene, locale: str) -> None:
    async with scene.work() as work, visit.page(key=None, reduced_motion="reduce", locale=locale) as page:
        await expect(page.locator("#door")).to_be_visible()
        await no_fault_light_or_dark(page)
        await visit.login(page, "wrong")
        await expect(page.locator("#door-wrong")).not_to_be_empty()
        await no_fault_light_or_dark(page)
        monitor = await work.monitor("studio", "lab")
        await work.worker("studio")
        await work.client("alice", *(f"job-{number}" for number in range(12)))
        monitor.send(m.PowerState(gpu="lab", state="no_capacity"))
        logger.error("a long line: {}", "x y " * 400)
        scene.book.revoke(scene.book.issue("client", "gone", 0.0)[0].id, 1.0)
        await visit.login(page)
        await expect(page.locator("#leases tbody tr")).to_have_count(12)
        await expect(page.locator(".bar-slot")).to_have_count(31)
        await page.locator("#invite-form button").click()
        await expect(page.locator(".qr")).to_be_visible()
        await page.locator("#issue-form button").click()
        await expect(page.locator("#secret code")).to_contain_text("ws_client_")
        await page.locator("#days summary").click()
        await expect(page.locator("#days-table tbody tr").first).to_be_visible()
        await no_fault_light_or_dark(page)


async def test_everything_is_reached_by_keyboard_and_nothing_is_cut_off_at_360_pixels(
    visit: Visit, scene: Scene
) -> None:
    narrow = {"viewport": {"width": 360, "height": 740}, "reduced_motion": "reduce"}
    async with scene.work() as work, visit.page(**narrow) as page:
        await work.monitor("studio")
        await work.worker("studio")
        await work.client("x" * 200, "job-with-a-long-name-" + "y" * 60)
        scene.book.issue("worker", "z" * 200, 0.0, ["g" * 60])
        await expect(page.locator("#leases tbody tr")).to_have_count(1)
        await expect(page.locator("#licenses li").first).to_be_visible()
        await expect(page.locator("#licenses")).to_contain_text("z" * 200)
        await page.locator("#invite-note").focus()
        await page.keyboard.type("a phone")
        await page.keyboard.press("Enter")
        await expect(page.locator(".qr")).to_be_visible()
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        await page.locator("#leave").focus()
        seen: list[str] = []
        while "log-pause" not in seen:
            await page.keyboard.press("Tab")
            at = await page.evaluate(FOCUS)
            assert at["seen"], at
            assert at["named"] or at["id"] == "log", at
            seen.append(at["id"])
            assert len(seen) < 100
        order = ["licenses-search", "issue-role", "issue-note", "invite-role", "invite-note", "log-level", "log-filter"]
        assert [one for one in seen if one in order] == order


async def test_amounts_of_different_money_are_not_added_up(browser: Browser, scene: Scene) -> None:
    limits = {"price": None, "prices": Prices({}), "currency": "", "budgets": Budgets({})}
    visit = Visit(browser, scene)
    async with scene.hub(days=30, **limits), scene.work() as work:
        for gpu, price, currency in (("studio", 1.5, "EUR"), ("lab", 9.0, "CNY")):
            priced = {"role": "gpu_monitor", "gpus": (gpu,), "price": price, "currency": currency}
            await work.link("monitor", gpu, features=("power_state", "price"), **priced)
        async with visit.page() as page:
            await expect(page.locator("#gpus")).to_contain_text("1.50 EUR per hour")
            await expect(page.locator("#gpus")).to_contain_text("9.00 CNY per hour")
            await expect(page.locator("#chart")).to_have_attribute(
                "aria-label", re.compile("^Running time of each day")
            )
            await expect(page.locator("#costs-figures")).to_contain_text("h")
            assert "EUR" not in await page.locator("#costs-figures").inner_text()


@pytest.mark.parametrize(("days", "said"), [(2, "Too few jobs or days"), (12, "Recommended: ")])
async def test_the_page_shows_what_other_settings_would_have_cost(
    browser: Browser, scene: Scene, days: int, said: str
) -> None:
    async with scene.hub(days=30) as hub, Visit(browser, scene).page(key=None) as page:
        today = int(scene.now // DAY)
        for day in range(days):
            for hour in (2, 8, 14, 20):
                hub.state.usage.arrived(ANY_GPU, today - 1 - day, 3600.0 * hour, 120.0)
        await Visit(browser, scene).login(page)
        await expect(page.locator("#plan-said")).to_contain_text(said)
        await expect(page.locator("#plan-rows [data-of=best]")).to_have_count(int(days > 7))


async def test_the_page_shows_how_much_of_the_depot_is_used_by_whom(visit: Visit, scene: Scene, hub: HubServer) -> None:
    editing = scene.book.issue("client", "editing PC", scene.now)[0].id
    async with visit.page(viewport={"width": 360, "height": 740}) as page:
        await expect(page.locator("#overview")).to_be_visible()
        assert not await page.locator("#depot").is_visible(), "this hub has none"
        file = d.DepotFile(name="video", blake3="a" * 64, size=40_000_000_000)
        for fact in (f.DepotHeld("id-depot", "depot", scene.now), f.DepotUsed(editing, (file,), scene.now)):
            DECIDER.evolve(hub.state, fact)
        await expect(page.locator("#depot-licenses tbody tr")).to_have_text(re.compile(r"editing PC\s*1\s*40\sGB"))
        await expect(page.locator("#depot-down")).to_be_visible()
        roles = await page.locator("#issue-role option").all_inner_texts()
        assert roles == ["client", "worker", "monitor", "depot", "front", "admin"]
        assert await page.evaluate("() => document.documentElement.scrollWidth") == 360
        assert await faults(page) == []


async def test_names_are_shown_as_text(visit: Visit, scene: Scene) -> None:
    async with scene.work() as work, visit.page() as page:
        await work.monitor(HTML)
        await work.worker(HTML)
        await work.client(HTML, "job-1")
        logger.warning(HTML)
        for place in ("#gpus", "#jobs", "#leases", "#licenses", "#log"):
            await expect(page.locator(place)).to_contain_text(HTML)
        assert await page.locator("main img").count() == 0


async def test_a_license_is_issued_found_and_revoked(visit: Visit, scene: Scene) -> None:
    for number in range(30):
        scene.book.admit([f"imported-key-{number}-{each:04}" for each in range(40)], "client", f"team {number}", 0.0)
    async with visit.page() as page:
        await expect(page.locator("#licenses-count")).to_have_text("1,201")
        await expect(page.locator("#licenses li")).to_have_count(100)
        await page.locator("#issue-role").select_option("worker")
        await page.locator("#issue-note").fill("the new machine")
        await page.locator("#issue-gpus").fill("studio, lab")
        await page.locator("#issue-form button").click()
        key = await page.locator("#secret code").inner_text()
        found = scene.book.all()[-1]
        assert (found.role, found.note, found.gpus) == ("worker", "the new machine", ("studio", "lab"))
        scene.book.refresh()
        assert scene.book.find(key) == found
        await page.locator("#secret").get_by_role("button", name="Hide").click()
        assert key not in await page.content()
        await page.locator("#licenses-search").fill("new machine")
        await expect(page.locator("#licenses li")).to_have_count(1)
        page.once("dialog", lambda asked: asked.dismiss())
        await page.get_by_role("button", name="Revoke the new machine").click()
        page.once("dialog", lambda asked: asked.accept())
        await page.get_by_role("button", name="Revoke the new machine").click()
        await expect(page.locator("#licenses li")).to_have_attribute("data-revoked", "true")
        assert scene.book.all()[-1].revoked is not None


async def test_the_picture_of_a_code_holds_what_is_to_be_typed_and_a_used_code_vanishes(
    visit: Visit, scene: Scene
) -> None:
    async with visit.page() as page, visit.page() as other:
        await page.locator("#invite-role").select_option("worker")
        await page.locator("#invite-form button").click()
        await expect(page.locator(".qr")).to_be_visible()
        typed = await page.locator(".code code").inner_text()
        (invite,) = Invites(scene.folder).valid(scene.now)
        assert typed == f"wakestream join 127.0.0.1:{scene.port} {invite.code}"
        shown = await page.locator(".qr").get_attribute("src")
        assert shown is not None
        assert base64.b64decode(shown.partition(",")[2]).decode() == qr_code.svg(typed)
        await expect(page.locator(".left")).to_contain_text("left")
        await other.locator("summary", has_text=str(invite.code)).click()
        await other.get_by_role("button", name="Show the QR code").click()
        assert await other.locator(".qr").get_attribute("src") == shown
        Invites(scene.folder).redeem(invite, scene.now, "there")
        for each in (page, other):
            await expect(each.locator(".code")).to_have_count(0)


async def test_wrong_keys_are_told_apart_and_limited(visit: Visit, scene: Scene) -> None:
    _, client = scene.book.issue("client", "", 0.0)
    async with visit.page(key=client) as page:
        wrong = page.locator("#door-wrong")
        await expect(wrong).to_have_text("This key is no admin key: its role is client.")
        for _ in range(TRIES):
            await visit.login(page, "wrong")
            await expect(wrong).to_have_text("This hub does not know the key. Check that it is whole and for this hub.")
        await visit.login(page, "wrong")
        await expect(wrong).to_contain_text("Too many wrong keys came from this address. Try again in")
        await visit.login(page)
        await expect(page.locator("#house")).to_be_visible()
        assert scene.key not in page.url
        stored = "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])"
        assert scene.key not in await page.evaluate(stored)


async def test_a_reload_stays_logged_in_another_tab_does_not_and_a_logout_ends_it(visit: Visit, scene: Scene) -> None:
    async with visit.page() as page:
        await expect(page.locator("#house")).to_be_visible()
        await page.reload()
        await expect(page.locator("#house")).to_be_visible()
        tab = await page.context.new_page()
        await tab.goto(page.url)
        await expect(tab.locator("#door")).to_be_visible()
        await page.locator("#leave").click()
        await expect(page.locator("#door")).to_be_visible()
        await page.reload()
        await expect(page.locator("#door")).to_be_visible()
        await expect(page.locator("#house")).to_be_hidden()


async def test_a_revoked_key_ends_the_open_page_and_leaves_nothing_on_it(visit: Visit, scene: Scene) -> None:
    async with visit.page() as page:
        await expect(page.locator("#licenses li")).to_have_count(1)
        scene.book.revoke(scene.admin.id, scene.now)
        await expect(page.locator("#door-wrong")).to_have_text("This license was revoked, or its key was replaced.")
        await expect(page.locator("#licenses li")).to_have_count(0)
        await expect(page.locator("#door-code")).to_contain_text("wakestream license issue --role admin")


async def test_the_page_comes_back_after_a_restart_of_the_hub(browser: Browser, scene: Scene) -> None:
    visit = Visit(browser, scene)
    async with scene.hub():
        page_of = visit.page()
        page = await page_of.__aenter__()
        await expect(page.locator("#house")).to_be_visible()
        visit.hub_away = True
    await expect(page.locator("#link-text")).to_have_text("Reconnecting…")
    async with scene.hub():
        await expect(page.locator("#door-wrong")).to_contain_text("the hub was restarted")
        visit.hub_away = False
        await visit.login(page)
        await expect(page.locator("#link-text")).to_have_text("Live")
        await page_of.__aexit__(None, None, None)


async def test_the_log_is_filtered_by_level_and_text_and_a_huge_line_is_folded(visit: Visit) -> None:
    async with visit.page() as page:
        logger.info("an apple")
        logger.error("a pear {}", "z" * 1900)
        await expect(page.locator("#log")).to_contain_text("an apple")
        await page.locator("#log-level").select_option("ERROR")
        await expect(page.locator("#log li")).to_have_count(1)
        assert (await page.locator("#log summary").inner_text()).endswith("…")
        await page.locator("#log-level").select_option("INFO")
        await page.locator("#log-filter").fill("APPLE")
        await expect(page.locator("#log li")).to_have_count(1)
        await page.locator("#log-pause").click()
        logger.info("another apple")
        await page.locator("#invite-form button").click()  # its answer comes after the line
        await expect(page.locator(".code")).to_have_count(1)
        await expect(page.locator("#log li")).to_have_count(1)
        await page.locator("#log-pause").click()
        await expect(page.locator("#log li")).to_have_count(2)


async def test_behind_a_proxy_that_was_not_named_the_page_says_what_to_do(browser: Browser, scene: Scene) -> None:
    visit = Visit(browser, scene)
    async with scene.hub(), proxied(scene.port, "Host: 127.0.0.1:1") as scene.port:
        visit.hub_away = True
        async with visit.page(key=None) as page:
            await expect(page.locator("#door-text")).to_contain_text("--behind-proxy")
            await expect(page.locator("#door-form")).to_be_hidden()


async def test_without_tls_over_the_network_the_page_says_why(browser: Browser, scene: Scene) -> None:
    visit, proxies = Visit(browser, scene), (ipaddress.ip_network("127.0.0.1"),)
    async with (
        scene.hub(proxies=proxies),
        proxied(scene.port, "X-Forwarded-Proto: http") as scene.port,
        visit.page(key=None) as page,
    ):
        await expect(page.locator("#door-text")).to_contain_text("not encrypted")
        await expect(page.locator("#door-key")).to_be_hidden()
        assert await faults(page) == []
