"""What the daemon answers about kinds while it connects to the hub."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from reactivex.subject import ReplaySubject

from wakestream.adapters.daemon import kinds as daemon_kinds
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.fakes import FakeLink
from wakestream.streams.protocol import messages as m


class LastingLink(FakeLink):
    """Tells each subscriber the last event, as `Link` does."""

    def __init__(self) -> None:
        super().__init__()
        self._subject = ReplaySubject(1)
        self.url = "ws://hub"


@pytest.fixture
def link() -> LastingLink:
    return LastingLink()


@pytest.fixture
async def kinds(link: LastingLink, tmp_path: Path) -> AsyncIterator[DaemonKinds]:
    kinds = DaemonKinds("ws://hub", tmp_path)
    following = kinds.follow(cast("Link", link))
    yield kinds
    following.dispose()
    await kinds.close()


async def test_a_question_that_comes_before_the_first_connection_waits_for_the_hubs_answer(
    kinds: DaemonKinds, link: LastingLink
) -> None:
    query = asyncio.ensure_future(link.next(m.KindsQuery))
    asked = asyncio.ensure_future(kinds.present())
    await asyncio.sleep(0)
    link.connect("kinds")
    paint = {"kind": {"name": "paint", "outputs": [{"name": "x"}]}, "gpus": [{"gpu": "a", "online": True}]}
    answer = m.KindsResponse(request_id=(await query).request_id, number=1, of=1, kinds=(paint,), complete=True)
    link.receive(answer)
    known = await asked
    assert ([kind.kind.name for kind in known.kinds], known.complete) == (["paint"], True)


async def test_a_question_is_answered_at_once_with_what_was_known_when_the_hub_is_not_reached(
    kinds: DaemonKinds, link: LastingLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_kinds, "WAIT", 1e6)
    asked = asyncio.ensure_future(kinds.present())
    link.disconnect("connection refused")
    assert not (await asked).known
