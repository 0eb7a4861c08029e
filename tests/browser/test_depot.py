"""A job by way of the depot on its card: what is done, and whether the PC may be switched off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.browser.console_scene import House, Media

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import begin

if TYPE_CHECKING:
    from conftest import Visitor
from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import plain_event

MB = 1_000_000
STORED = "The files are in the depot. You can switch this PC off."
HERE = "The files are in the depot. Leave this PC on: the hub runs on it."
TOLD = (
    (
        e.Storing(30 * MB, 100 * MB, "clip.mp4"),
        "Uploading the files to the depot. Keep this PC on until they are there.",
    ),
    (e.Waking(20.0, "booting"), "Uploading the files to the depot. Keep this PC on until they are there."),
    (e.Stored(100 * MB), STORED),
    (e.Stored(100 * MB, local=True), HERE),
    (e.Remote("wait"), STORED),
    (e.Waking(50.0, "booting"), STORED),
    (e.Remote("fetch", 40.0, "attic"), "attic fetches the files from the depot. You can switch this PC off."),
    (e.Remote("render", 70.0, "attic"), "attic renders. You can switch this PC off."),
    (e.Remote("deliver", 10.0, "attic"), "attic puts the result into the depot. You can switch this PC off."),
    (e.Delivered(50 * MB, "attic"), "The result is in the depot. Downloading it."),
)
DIRECT = e.Note("", {"direct": "full", "why": "the depot is full"})


async def test_each_step_is_a_sentence_and_says_whether_the_pc_may_be_switched_off(
    home: House, visitor: Visitor, files: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = home.daemon.outbox.feed
    publish = feed.publish
    async with visitor.page() as page:
        await begin(page, files)
        await expect(page.locator(".card .card-why")).to_contain_text("GPU")
        job = next(iter(home.daemon.outbox.state.queue))
        monkeypatch.setattr(feed, "publish", lambda *_: None)  # it waits itself, and says so twice a second

        def tell(event: e.JobEvent) -> None:
            publish(job, {"at": time.time(), **plain_event(event)})

        for event, sentence in TOLD:
            tell(event)
            await expect(page.locator(".card .card-why")).to_have_text(sentence)
            state = "Waiting" if sentence in (STORED, HERE) else "Running"
            await expect(page.locator(".card .pill")).to_have_text(state)
        tell(DIRECT)
        await expect(page.locator(".card .card-why")).to_contain_text("The depot is not used: The depot is full.")
