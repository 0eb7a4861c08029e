"""Jobs of any kind at the console, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import Studio

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import card

if TYPE_CHECKING:
    from conftest import Visitor


async def submit(home: House, job: str, **fields: Any) -> None:
    """Submit a job as the command line does, by the daemon's API."""
    headers = {"Authorization": f"Bearer {home.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{home.url}/api/jobs", json={"id": job, **fields}, headers=headers) as response,
    ):
        assert response.status == 201, await response.text()


async def test_jobs_of_every_kind_are_shown_together(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"png")
    many = {f"f{number}": str(picture) for number in range(12)}
    folder = tmp_path / "results"
    folder.mkdir()
    await submit(home, "one", kind="remix", inputs={"picture": str(picture)}, outputs={"video": f"{folder}/one.mp4"})
    await submit(
        home, "none", kind="paint", inputs={}, params={"prompt": "a cat"}, outputs={"image": f"{folder}/p.png"}
    )
    await submit(home, "many", kind="many", inputs=many, outputs={"whole": f"{folder}/many.bin"})
    async with visitor.page() as page:
        await expect(card(page)).to_have_count(3)
        await expect(page.locator('[data-job="one"] h3')).to_contain_text("cat.png")
        await expect(page.locator('[data-job="none"] h3')).to_contain_text("paint")
        await expect(page.locator('[data-job="many"] h3')).to_contain_text("cat.png")
        await expect(page.locator('[data-job="many"] h3')).to_contain_text("10 more")
        await home.gpu_on(Studio(files))
        await expect(page.locator('[data-job="one"]')).to_contain_text("Result saved")
        await expect(page.locator('[data-job="none"]')).to_contain_text("Result saved")
        await expect(page.locator('[data-job="many"] .pill')).to_have_text("Failed")
        await page.get_by_label("Search history").fill("remix")
        await expect(page.locator("#past li")).to_have_count(1)
        await page.reload()
        await expect(card(page)).to_have_count(3)
