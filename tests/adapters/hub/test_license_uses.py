"""The uses of licenses and the codes that give licenses: nothing counts as done before it is on the disk."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.late_thread import cancelled_before_its_thread
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.license_uses import LEAST_PAUSE, LicenseUses
from wakestream.adapters.hub.license_watch import LicenseWatch
from wakestream.adapters.hub.licenses import LicenseBook, LicenseError
from wakestream.streams.hub.state import HubState


def test_uses_that_could_not_be_written_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = LicenseUses.of_folder(tmp_path)
    uses.note("license-1", "192.0.2.1", 1000.0)
    text = uses.due((), {}, 1000.0)
    assert text is not None
    with monkeypatch.context() as full:
        full.setattr(uses.documents, "write", Mock(side_effect=OSError(28, "No space left on device")))
        uses.write(text)
    assert uses.due((), {}, 1001.0) is None
    text = uses.due((), {}, 1000.0 + LEAST_PAUSE)
    assert text is not None
    uses.write(text)
    assert LicenseUses.of_folder(tmp_path).uses["license-1"].last == 1000.0
    assert uses.due((), {}, 1000.0 + 3 * LEAST_PAUSE) is None


async def test_uses_are_written_though_the_hub_stops_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = LicenseUses.of_folder(tmp_path)
    watch = LicenseWatch(HubConfig(LicenseBook(tmp_path), uses=uses), HubState(), Mock())
    uses.note("license-1", "192.0.2.1", 1000.0)
    await cancelled_before_its_thread(watch.keep_uses(), monkeypatch)
    await watch.keep_uses(last=True)
    assert LicenseUses.of_folder(tmp_path).uses["license-1"].last == 1000.0


def test_a_code_is_valid_until_its_license_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, invites = LicenseBook(tmp_path), Invites(tmp_path)
    invite = invites.create("client", 1000.0)
    with monkeypatch.context() as full:
        full.setattr(LicenseBook, "issue", Mock(side_effect=LicenseError("no space left")))
        with pytest.raises(LicenseError, match="no space left"):
            invites.redeem(invite, 1001.0, "there")
    assert invites.valid(1001.0) == [invite]
    invites.redeem(invite, 1002.0, "there")
    assert invites.valid(1002.0) == []
    book.refresh()
    assert len(book.all()) == 1


def test_a_code_that_cannot_be_used_up_leaves_no_license(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, invites = LicenseBook(tmp_path), Invites(tmp_path)
    invite = invites.create("client", 1000.0)
    with monkeypatch.context() as full:
        full.setattr(Invites, "_write", Mock(side_effect=LicenseError("no space left")))
        with pytest.raises(LicenseError, match="no space left"):
            invites.redeem(invite, 1001.0, "there")
    book.refresh()
    assert [found.revoked is not None for found in book.all()] == [True]
