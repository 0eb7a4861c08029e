"""Webhooks for programs: what is tried again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wakestream.adapters.daemon.event_feed import Item
from wakestream.adapters.daemon.replicate import hooks
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.net.webhooks import WebhookDown
from wakestream.operators.model.events import Job
from wakestream.streams.outbox.facts import Caller, JobAccepted
from wakestream.streams.outbox.state import Entry
from wakestream.streams.webhooks import WebhookOwed


def prediction(*events: str) -> Entry:
    caller = Caller("shop", webhook="https://shop.example/", events=events)
    return Entry(JobAccepted.of(Job("ws-1", {}, {"whole": Path("a.bin")}), {}, caller=caller))


async def test_the_log_is_not_sent_again_before_its_receiver_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "APART", 0.0)

    async def plain(_: Entry) -> dict[str, Any]:
        return {"status": "processing"}

    sent: list[WebhookOwed] = []
    answered = False
    known: Any = SimpleNamespace(find=lambda _: prediction("logs"), plain=plain)
    tested = hooks.Hooks(known, known, Tokens(tmp_path), ())
    webhooks: Any = SimpleNamespace(tell=sent.append, is_telling=lambda id_: bool(id_) and not answered)
    tested.webhooks = webhooks
    for number in (1, 2, 3):
        await tested._happened(Item(number, "ws-1", "running", b""))
    assert len(sent) == 1
    answered = True
    await tested._happened(Item(4, "ws-1", "running", b""))
    assert len({each.delivery for each in sent}) == 2


async def test_a_webhook_is_tried_again_while_a_later_version_has_the_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"tokens": [], "v": 2}')
    known: Any = SimpleNamespace(find=lambda _: prediction())
    with pytest.raises(WebhookDown, match="use that version"):
        await hooks.Hooks(known, known, Tokens(tmp_path), ()).post(WebhookOwed("ws-1", "msg_1", 0.0, {}))
