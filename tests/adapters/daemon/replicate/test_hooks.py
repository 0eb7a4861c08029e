"""Webhooks for programs: what is tried again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wakestream.adapters.daemon.replicate.hooks import Hooks
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.net.webhooks import WebhookDown
from wakestream.operators.model.events import Job
from wakestream.streams.outbox.facts import Caller, JobAccepted
from wakestream.streams.outbox.state import Entry
from wakestream.streams.webhooks import WebhookOwed


async def test_a_webhook_is_tried_again_while_a_later_version_has_the_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"tokens": [], "v": 2}')
    caller = Caller("shop", webhook="https://shop.example/")
    entry = Entry(JobAccepted.of(Job("ws-1", {}, {"whole": Path("a.bin")}), {}, caller=caller))
    known: Any = SimpleNamespace(find=lambda _: entry)
    with pytest.raises(WebhookDown, match="use that version"):
        await Hooks(known, known, Tokens(tmp_path), ()).post(WebhookOwed("ws-1", "msg_1", 0.0, {}))
