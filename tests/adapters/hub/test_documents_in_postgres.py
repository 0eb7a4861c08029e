"""Licenses, codes and the capability key in a real PostgreSQL, where each hub of a cluster has the same."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loguru import logger

from tests.support.postgres import PostgresServer
from wakestream.adapters.cli import exit_codes, main
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk import documents
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook, LicenseError
from wakestream.adapters.net.capability_keys import Signer


def kept(address: str) -> Any:
    from wakestream.adapters.disk.postgres_documents import PostgresDocuments

    return PostgresDocuments(address)


def test_two_hubs_have_the_same_licenses_codes_key_and_uses(postgres: PostgresServer) -> None:
    address = postgres.database()
    first, second = kept(address), kept(address)
    invite = Invites(first).create("worker", time.time(), gpus=["studio"])
    license_, _ = Invites(second).redeem(invite, time.time(), "there")
    assert [(one.id, one.gpus) for one in LicenseBook(first).all()] == [(license_, ("studio",))]
    with pytest.raises(LicenseError, match="this code was used already"):
        Invites(first).redeem(invite, time.time(), "there")
    assert Signer.of_folder(first).public == Signer.of_folder(second).public
    uses = LicenseUses.of_folder(first)
    uses.note(license_, "192.0.2.1", 1000.0)
    text = uses.due((), {}, 1000.0)
    assert text is not None
    uses.write(text)
    assert LicenseUses.of_folder(second).uses[license_].address == "192.0.2.1"


def test_programs_that_change_licenses_at_once_lose_none(postgres: PostgresServer) -> None:
    address = postgres.database()
    with ThreadPoolExecutor(4) as pool:
        issued = list(pool.map(lambda _: LicenseBook(kept(address)).issue("client", "", 0.0)[0].id, range(12)))
    assert sorted(one.id for one in LicenseBook(kept(address)).all()) == sorted(issued)


def test_a_running_hub_sees_what_others_changed_without_a_session_of_its_own(postgres: PostgresServer) -> None:
    from wakestream.adapters.disk.postgres import connect, make_tables

    address = postgres.database()
    session = connect(address, 100.0)
    make_tables(address, session)
    of_hub = kept(address)
    book = LicenseBook(of_hub)
    of_hub.look(session)
    license_, key = LicenseBook(kept(address)).issue("client", "", 0.0)
    assert book.refresh() == frozenset()
    assert book.find(key) is None
    of_hub.look(session)
    assert book.refresh() == frozenset()
    assert book.find(key) is not None
    own, own_key = book.issue("client", "", 0.0)
    book.refresh()
    assert book.find(own_key) is not None, "what it changed itself it knows at once"
    LicenseBook(kept(address)).revoke(license_.id, 1.0)
    postgres.sql(address, "ALTER TABLE wakestream.documents RENAME TO gone")  # so that a query would fail
    assert book.refresh() == frozenset()
    assert own.id in book
    postgres.sql(address, "ALTER TABLE wakestream.gone RENAME TO documents")
    of_hub.look(session)
    assert book.refresh() == {license_.id}
    session.close()


def test_a_hub_does_not_forget_what_it_changed_while_it_reads_what_others_changed(postgres: PostgresServer) -> None:
    from wakestream.adapters.disk.postgres import connect, make_tables

    address = postgres.database()
    with contextlib.closing(connect(address, 100.0)) as session:
        make_tables(address, session)
        of_hub = kept(address)
        of_hub.write("invites.json", b"1")
        of_hub.look(session)
        kept(address).write("licenses.json", b"{}")

        class Slow:
            """Its answer arrives when the hub has written."""

            def execute(self, *query: Any, **options: Any) -> Any:
                found = session.execute(*query, **options)
                of_hub.write("invites.json", b"2")  # another thread does so
                return found

        of_hub.look(Slow())  # type: ignore[arg-type]
        assert of_hub.read("invites.json") == b"2"


@pytest.mark.parametrize("damage", [b'{"held": [{"role": "wor', b'{"held": 1}', b"\x00" * 20, b""])
def test_damaged_uses_are_refused_by_an_audit_and_kept_aside_by_the_hub(
    postgres: PostgresServer, damage: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, said = postgres.database(), list[str]()
    uses = LicenseUses.of_folder(kept(address))
    text = uses.due((), {("worker", "studio"): ("w1", 1.0)}, 1000.0)
    assert text is not None
    uses.write(text)
    assert [held.gpu for held in LicenseUses.of_folder(kept(address)).held] == ["studio"]
    kept(address).write("license_uses.json", damage)
    with pytest.raises(
        SettingsError, match=r"license_uses in postgresql://.* is damaged \(.*\); the hub writes it again"
    ):
        LicenseUses.of_folder(kept(address))
    assert main.main(["audit", "--journal", address]) == exit_codes.USAGE
    assert "license_uses in postgresql://" in capsys.readouterr().err
    monkeypatch.setattr(logger, "warning", lambda text, *values: said.append(text.format(*values)))
    assert LicenseUses.of_folder(kept(address), writes=True).held == ()
    assert len(said) == 1
    assert "is damaged" in said[0]
    assert "it is now license_uses.json.damaged" in said[0]
    assert kept(address).read("license_uses.json.damaged") == damage


def test_uses_that_cannot_be_read_are_told(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    away, said = kept(f"postgresql://me@127.0.0.1:{postgres.port}/none"), list[str]()
    with pytest.raises(SettingsError, match=r"license_uses in postgresql://me@.* cannot be read"):
        LicenseUses.of_folder(away)
    monkeypatch.setattr(logger, "warning", lambda text, *values: said.append(text.format(*values)))
    assert LicenseUses.of_folder(away, writes=True).held == ()
    assert len(said) == 1


def test_without_the_database_each_call_is_a_sentence(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = kept(f"postgresql://me@127.0.0.1:{postgres.port}/none")
    with pytest.raises(LicenseError, match=r"licenses in postgresql://me@.*/none cannot be read \(.*does not exist"):
        LicenseBook(away).all()
    with pytest.raises(LicenseError, match=r"postgresql://me@.*/none cannot be written to"):
        LicenseBook(away).issue("client", "", 0.0)
    with pytest.raises(SettingsError, match="capability in postgresql://me@"):
        Signer.of_folder(away)
    address = postgres.database()
    monkeypatch.setattr("wakestream.adapters.disk.postgres_documents.LOCK_WITHIN", 0.1)
    assert documents.LOCK_WITHIN == 10.0
    with kept(address).locked("licenses.json"), pytest.raises(LicenseError, match="is held by another program"):
        LicenseBook(kept(address)).issue("client", "", 0.0)
