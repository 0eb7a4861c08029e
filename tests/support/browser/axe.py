"""What axe-core finds on a page."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

AXE = Path(__file__).parents[2] / "browser" / "node_modules" / "axe-core" / "axe.min.js"


async def faults(page: Page) -> list[str]:
    """What axe-core finds, each with the element."""
    if not AXE.exists():
        pytest.skip("axe-core is not here: `make browser` brings it (needs npm)")
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(AXE.read_text())
    found: dict[str, Any] = await page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]} {node['failureSummary'][:200]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


FOCUS = """
() => {
  const at = document.activeElement;
  const style = getComputedStyle(at.type === "file" ? at.closest(".slot") : at);
  const label = at.labels?.[0] ?? document.getElementById(at.getAttribute("aria-labelledby"));
  const named = at.getAttribute("aria-label") || at.textContent.trim() || label?.textContent.trim() || "";
  return { tag: at.tagName, id: at.id, named, seen: style.outlineStyle !== "none", tab: at.dataset.tab ?? "" };
}
"""
"""What has the keyboard focus: its name, whether that is seen, and its number if a test gave it one."""


async def no_fault_light_or_dark(page: Page) -> None:
    """Axe-core finds nothing on the page as it is, in either colour scheme."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert await faults(page) == [], scheme
