"""The license book on a real folder, and the command in front of it."""

import io
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wakestream.adapters.cli.main import main
from wakestream.adapters.disk import documents
from wakestream.adapters.hub import licenses
from wakestream.adapters.hub.licenses import LicenseBook, LicenseError


@pytest.fixture
def book(tmp_path: Path) -> LicenseBook:
    return LicenseBook(tmp_path / "state")


@pytest.mark.parametrize("role", ["client", "worker", "monitor", "admin"])
def test_an_issued_key_is_found_and_says_its_role(book: LicenseBook, role: str) -> None:
    license_, key = book.issue(role, "for Ada", 5.0)
    book.refresh()
    assert book.find(key) == license_
    assert (license_.role, license_.note, license_.issued, license_.revoked) == (role, "for Ada", 5.0, None)
    assert key.startswith(f"ws_{role}_")
    secret = key.removeprefix(f"ws_{role}_")
    assert len(secret) == 52
    assert secret not in book.path.read_text() + repr(book.all())


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1], lambda key: key + "a", str.upper, lambda _: "", lambda _: "\ud800"]
)
def test_a_key_that_is_almost_right_is_wrong(book: LicenseBook, change: object) -> None:
    _, key = book.issue("client", "", 0.0)
    book.refresh()
    assert callable(change)
    assert book.find(change(key)) is None


def test_refresh_finds_revoked_and_new_licenses(book: LicenseBook) -> None:
    old, key = book.issue("client", "", 0.0)
    assert book.refresh() == frozenset()
    other = LicenseBook(book.path.parent)
    other.revoke(old.id, 9.0)
    _, fresh = other.issue("worker", "", 9.0)
    assert book.refresh() == {old.id}
    assert book.refresh() == frozenset()
    revoked, new = book.find(key), book.find(fresh)
    assert revoked is not None
    assert revoked.revoked == 9.0
    assert new is not None


def test_a_license_that_was_taken_out_of_the_file_counts_as_revoked(book: LicenseBook) -> None:
    old, _ = book.issue("client", "", 0.0)
    book.refresh()
    book.path.write_text('{"v":1,"licenses":[]}')
    assert book.refresh() == {old.id}


def test_revoking_takes_the_beginning_of_an_id_and_keeps_the_first_date(book: LicenseBook) -> None:
    license_, key = book.issue("client", "", 0.0)
    assert book.revoke(license_.id[:6], 3.0).revoked == 3.0
    assert book.revoke(license_.id, 7.0).revoked == 3.0
    for wrong in ("", "zz", key):
        with pytest.raises(LicenseError) as caught:
            book.revoke(wrong, 8.0)
        assert key not in str(caught.value)
    with pytest.raises(LicenseError, match="at least 4 characters"):
        book.revoke(license_.id[:3], 8.0)
    assert book.revoke(license_.id[:4], 9.0).revoked == 3.0


@pytest.mark.skipif(os.name != "posix", reason="only there a folder can be synced")
def test_issue_and_revoke_sync_file_and_folder(book: LicenseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(old: Path, new: Path) -> Path:
        steps.append("name")
        return replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    license_, _ = book.issue("client", "", 0.0)
    book.revoke(license_.id, 1.0)
    assert steps == ["file", "name", "folder"] * 2


def test_an_id_that_fits_several_is_refused(book: LicenseBook) -> None:
    for _ in range(2):
        book.issue("client", "", 0.0)
    text = book.path.read_text()
    for one in book.all():
        text = text.replace(one.hash[:5], "abcde")
    book.path.write_text(text)
    with pytest.raises(LicenseError, match="2 licenses begin"):
        book.revoke("abcd", 1.0)
    assert all(one.revoked is None for one in book.all())


def test_concurrent_issues_lose_no_license(book: LicenseBook) -> None:
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(lambda _: LicenseBook(book.path.parent).issue("client", "", 0.0)[0].id, range(40)))
    assert sorted(one.id for one in book.all()) == sorted(issued)
    assert [path.name for path in book.path.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"v":2,"licenses":[]}',
        '{"v":1,"licenses":[{}]}',
        '{"v":1,"licenses":[{"id":"x","role":"king"}]}',
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(book: LicenseBook, text: str) -> None:
    book.path.parent.mkdir()
    book.path.write_text(text)
    for call in (book.refresh, book.all, lambda: book.issue("client", "", 0.0), lambda: book.revoke("a", 0.0)):
        with pytest.raises(LicenseError, match="damaged"):
            call()
    assert book.path.read_text() == text


def test_known_licenses_stay_valid_while_the_file_is_unreadable(book: LicenseBook) -> None:
    _, key = book.issue("client", "", 0.0)
    book.refresh()
    book.path.write_text("{")
    with pytest.raises(LicenseError, match="damaged"):
        book.refresh()
    book.path.unlink()
    with pytest.raises(LicenseError, match="is gone"):
        book.refresh()
    assert book.find(key) is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LicenseError, match="choose --state"):
        LicenseBook(tmp_path / "file" / "state").issue("client", "", 0.0)


@pytest.mark.parametrize(("role", "note"), [("king", ""), ("client", "two\nlines"), ("client", "x" * 201)])
def test_an_unknown_role_or_an_unfit_note_is_refused(book: LicenseBook, role: str, note: str) -> None:
    with pytest.raises(LicenseError):
        book.issue(role, note, 0.0)
    assert not book.path.exists()


@pytest.mark.parametrize("role", ["worker", "monitor"])
@pytest.mark.parametrize("wanted", [(5, 1), (0, 2)])
def test_only_who_submits_jobs_has_a_highest_priority_or_a_weight(
    book: LicenseBook, role: str, wanted: tuple[int, int]
) -> None:
    with pytest.raises(LicenseError, match="submits no jobs; leave --max-priority and --weight out"):
        book.issue(role, "", 0.0, (), *wanted)
    one, _ = book.issue(role, "", 0.0)
    with pytest.raises(LicenseError, match="submits no jobs; leave --max-priority and --weight out"):
        book.change(one.id, *wanted)


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_1_is_refused_by_its_name_and_changes_nothing(book: LicenseBook, weight: int) -> None:
    one, _ = book.issue("client", "", 0.0)
    with pytest.raises(LicenseError, match="weight"):
        book.issue("client", "", 0.0, weight=weight)
    with pytest.raises(LicenseError, match="weight"):
        book.change(one.id, None, weight)
    assert book.all() == (one,)


def test_the_list_shows_the_highest_priority_and_the_weight_where_a_license_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path)]

    def table() -> list[list[str]]:
        capsys.readouterr()
        assert main(["license", "list", *state]) == 0
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    assert main(["license", "issue", "--role", "client", *state]) == 0
    assert table()[0] == ["ID", "ROLE", "GPU", "ISSUED", "REVOKED", "NOTE"]
    assert main(["license", "issue", "--role", "client", "--weight", "3", *state]) == 0
    assert (table()[0][2:4], table()[1][2], table()[2][2]) == (["GPU", "WEIGHT"], "1", "3")
    first = LicenseBook(tmp_path).all()[0]
    assert main(["license", "change", first.id, "--max-priority", "7", *state]) == 0
    assert (table()[1][2:4], table()[2][2]) == (["7", "1"], "0")
    assert main(["license", "change", first.id, "--weight", "2", *state]) == 0
    assert table()[1][2:4] == ["7", "2"]
    assert main(["license", "change", first.id, "--max-priority", "0", "--weight", "1", *state]) == 0
    assert LicenseBook(tmp_path).all()[0] == first
    assert "weight" not in json.loads((tmp_path / "licenses.json").read_text())["licenses"][0]


# The command


def test_issue_prints_the_key_list_the_rest_and_revoke_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path)]
    issue = ["license", "issue", "--role", "client", "--note", "for Ada", "--max-priority", "5"]
    assert main([*issue, *state]) == 0
    key = capsys.readouterr().out.strip()
    book = LicenseBook(tmp_path)
    book.refresh()
    found = book.find(key)
    assert found is not None
    assert main(["license", "list", "--json", *state]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["role"], listed["note"], listed["revoked"]) == (found.id, "client", "for Ada", None)
    assert listed["max_priority"] == found.max_priority == 5
    assert "hash" not in listed
    assert main(["license", "revoke", found.id[:8], *state]) == 0
    assert found.id in capsys.readouterr().out
    assert main(["license", "list", *state]) == 0
    assert "for Ada" in capsys.readouterr().out
    assert LicenseBook(tmp_path).all()[0].revoked is not None


def test_list_without_licenses_prints_how_to_create_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["license", "list", "--state", str(tmp_path)]) == 0
    assert "license issue" in capsys.readouterr().out
    assert main(["license", "list", "--json", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "command", [["list"], ["issue", "--role", "client"], ["revoke", "abc"]], ids=["list", "issue", "revoke"]
)
def test_a_damaged_file_ends_each_command_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "licenses.json").write_text("rubbish")
    assert main(["license", *command, "--state", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert (tmp_path / "licenses.json").read_text() == "rubbish"


def test_revoking_an_unknown_id_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["license", "revoke", "nobody", "--state", str(tmp_path)]) == 2
    assert "license list" in capsys.readouterr().err


def test_a_locked_file_is_reported_after_a_timeout(book: LicenseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LOCK_WITHIN", 0.05)
    with book.documents.locked("licenses.json"), pytest.raises(LicenseError, match="held by another program"):
        LicenseBook(book.path.parent).issue("client", "", 0.0)
    assert book.issue("client", "", 0.0)[0].role == "client"


# Keys that users have already


OLD_KEYS = ("gradio_client", "VIP-2024-0007", "一个旧的许可证密钥", "a key of several words", "12345678")


def test_existing_keys_are_imported_as_hashes(book: LicenseBook) -> None:
    taken = book.admit(OLD_KEYS, "client", "old desktops", 5.0)
    book.refresh()
    assert [book.find(key) for key in OLD_KEYS] == list(taken)
    assert {(one.role, one.note, one.issued, one.revoked) for one in taken} == {("client", "old desktops", 5.0, None)}
    assert not [key for key in OLD_KEYS if key in book.path.read_text()]


@pytest.mark.parametrize("key", ["1234567", "", "x" * 513, "two\nlines of text", "a\0b567890", "\ud800 is no text"])
def test_an_invalid_key_is_refused_unprinted_and_imports_nothing(book: LicenseBook, key: str) -> None:
    with pytest.raises(LicenseError, match="8 to 512 printable characters") as caught:
        book.admit(["a good key", key], "client", "", 0.0)
    assert not key or key not in str(caught.value)
    assert not book.path.exists()


def test_a_key_taken_twice_stays_the_license_that_it_is(book: LicenseBook) -> None:
    (first,) = book.admit(["old-key-1"], "client", "first", 1.0)
    first_again, second = book.admit(["old-key-1", "old-key-2"], "client", "second", 2.0)
    assert first_again == first
    assert second.note == "second"
    assert len(book.all()) == 2


def test_a_key_of_another_role_and_a_revoked_one_are_refused(book: LicenseBook) -> None:
    (one,) = book.admit(["old-key-1"], "client", "", 1.0)
    with pytest.raises(LicenseError, match=f"license {one.id} has this key already, with the role client"):
        book.admit(["old-key-1"], "worker", "", 2.0)
    book.revoke(one.id, 3.0)
    with pytest.raises(LicenseError, match=f"license {one.id} has this key, and was revoked"):
        book.admit(["old-key-1"], "client", "", 4.0)


def taken(tmp_path: Path, *arguments: str) -> int:
    return main(["license", "import", "--role", "client", *arguments, "--state", str(tmp_path / "hub")])


def test_import_reads_a_license_file_or_one_key_per_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".license").write_bytes(b'\xef\xbb\xbf{"license_key": "VIP-2024-0007"}\r\n')
    (tmp_path / "keys.txt").write_text("old-key-1\n\n  old-key-2  \n")
    for name in (".license", "keys.txt"):
        assert taken(tmp_path, "--key-file", str(tmp_path / name)) == 0
    book = LicenseBook(tmp_path / "hub")
    book.refresh()
    found = [book.find(key) for key in ("VIP-2024-0007", "old-key-1", "old-key-2")]
    said = capsys.readouterr()
    assert said.out.split() == [one.id for one in found if one is not None]
    assert "old-key" not in said.out + said.err


def test_import_reads_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("一个旧的许可证密钥\n".encode())))
    assert taken(tmp_path) == 0
    book = LicenseBook(tmp_path / "hub")
    book.refresh()
    assert book.find("一个旧的许可证密钥") is not None


def test_a_short_key_is_taken_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("gradio_client")
    assert taken(tmp_path, "--key-file", str(tmp_path / "key")) == 0
    assert "can be guessed" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "\n \n", '{"other": 1}', "short"])
def test_import_without_a_key_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    assert taken(tmp_path, "--key-file", str(tmp_path / "key")) == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "hub" / "licenses.json").exists()


def test_a_key_may_be_for_gpus_and_only_valid_licenses_keep_them(book: LicenseBook) -> None:
    one, _ = book.issue("worker", "", 0.0, ("studio", "attic"))
    two, _ = book.issue("monitor", "", 0.0, ("studio",))
    book.issue("worker", "", 0.0)
    book.refresh()
    assert book.tied == ((one.id, "worker", ("studio", "attic")), (two.id, "monitor", ("studio",)))
    book.revoke(one.id, 1.0)
    book.refresh()
    assert book.tied == ((two.id, "monitor", ("studio",)),)


@pytest.mark.parametrize(
    ("role", "gpu"),
    [("client", "studio"), ("worker", ""), ("worker", "x" * 101), ("worker", "a\x1b[2J"), ("monitor", "\u202e")],
)
def test_a_gpu_that_no_key_can_be_for_is_refused(book: LicenseBook, role: str, gpu: str) -> None:
    with pytest.raises(LicenseError):
        book.issue(role, "", 0.0, (gpu,))
    assert book.all() == ()


def test_a_license_without_new_fields_keeps_the_old_format(book: LicenseBook) -> None:
    book.issue("client", "", 0.0)
    (entry,) = json.loads(book.path.read_text())["licenses"]
    assert set(entry) == {"id", "role", "note", "issued", "hash", "revoked"}


def test_a_replaced_key_works_until_its_time_is_over_and_the_license_is_the_same(book: LicenseBook) -> None:
    license_, first = book.issue("worker", "for Ada", 0.0, ("studio",))
    _, second = book.rotate(license_.id[:4], 100.0, 50.0)
    _, third = book.rotate(license_.id, 120.0, 50.0)
    book.refresh()

    def state(key: str, now: float) -> tuple[str, float | None]:
        found = book.find(key, now)
        assert found is not None
        return found.id, found.revoked

    assert [state(key, 149.0) for key in (first, second, third)] == [(license_.id, None)] * 3
    assert [state(key, 160.0) for key in (first, second, third)] == [
        (license_.id, 150.0), (license_.id, None), (license_.id, None),
    ]  # fmt: skip
    assert [len(book.replaced(now)) for now in (149.0, 150.0, 170.0, 1e9)] == [0, 1, 2, 2]
    assert licenses.key_mark(third) not in book.replaced(1e9)
    assert not [key for key in (first, second, third) if key in book.path.read_text()]
    with pytest.raises(LicenseError, match="was replaced"):
        book.admit([first], "worker", "", 0.0, ("studio",))
    book.revoke(license_.id, 200.0)
    with pytest.raises(LicenseError, match="was revoked"):
        book.rotate(license_.id, 201.0)
    book.refresh()
    assert [state(key, 149.0)[1] for key in (first, second, third)] == [200.0] * 3
