"""What axe-core finds on a page."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

AXE = Path(__file__).parents[2] / "browser" / "node_modules" / "axe-core" / "axe.min.js"

FOCUS = """
() => {
  const at = document.activeElement;
  const style = getComputedStyle(at.type === "file" ? at.closest(".slot") : at);
  const named = at.getAttribute("aria-label") || at.textContent.trim() || at.labels?.[0]?.textContent.trim() || "";
  return { tag: at.tagName, id: at.id, named, seen: style.outlineStyle !== "none" };
}
"""
"""What has the keyboard's focus: its name, and whether it is seen."""


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
  const named = at.getAttribute("aria-label") || at.textContent.trim() || at.labels?.[0]?.textContent.trim() || "";
  return { tag: at.tagName, id: at.id, named, seen: style.outlineStyle !== "none", tab: at.dataset.tab ?? "" };
}
"""
"""What has the keyboard focus: its name, whether that is seen, and its number if a test gave it one."""
