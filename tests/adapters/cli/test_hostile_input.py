"""What people and files of others give the command line is refused in a sentence, never by a traceback."""

import json
from pathlib import Path

import pytest

from wakestream.adapters.cli import main
from wakestream.adapters.config.addresses import listen_address
from wakestream.adapters.engines.manifest import Keys, read_manifest
from wakestream.operators.model.errors import WakestreamError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and an empty one for the user's own settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAKESTREAM_CONFIG", str(tmp_path / "own"))
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What a command says that does not do it; an unexpected error ends the test."""
    assert main.main([*command]) not in (0, None)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("address", ["file:///x", "http://[", "//x", "", "http://x:99999", "a" * 300, "http://a..b"])
def test_an_address_to_join_that_is_none_is_refused(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "7F3K" not in refused(capsys, "join", address, "7F3K-92QD")


def test_an_option_without_a_value_is_refused_with_its_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = refused(capsys, "worker", "--no-secret", "--engine-option", "region")
    assert "--engine-option is 'region'; write NAME=VALUE, such as region=" in wrong


HOSTILE = ["x=" + "[" * 5000, "secret_hosts=[1]", 'record="a\\u0000b"', 'log_file="a\\nb"', "hub=nan"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_settings_file_is_refused_by_its_name(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wakestream.toml").write_text(text)
    assert "wakestream.toml" in refused(capsys, "status")


def test_a_code_is_not_made_for_an_address_that_fits_into_no_qr_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"https://hub.example/{'x' * 4000}"
    said = refused(capsys, "invite", "client", "--state", "hub", "--public", address, "--qr")
    assert "does not fit" in said
    assert not (folder / "hub").exists()


@pytest.mark.parametrize("text", [f"{'a' * 300}:1", "xn--\udcff:1"])
def test_a_host_that_no_name_has_cannot_be_listened_on(text: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        listen_address(text)


def test_a_manifest_that_is_nested_too_deeply_is_refused(folder: Path) -> None:
    Path("kinds.toml").write_text("x=" + "[" * 5000)
    with pytest.raises(WakestreamError, match="nested too deeply"):
        read_manifest(Path("kinds.toml"), Keys())


def test_a_log_that_is_nested_deeply_is_redacted(folder: Path) -> None:
    header = {"v": 1, "program": "daemon", "epoch": 1, "seed": 1, "config": {}}
    deep = json.dumps(header).replace("{}", '{"a":' + "[" * 900 + '"token=S3CR3T"' + "]" * 900 + "}")
    Path("log.jsonl").write_text(deep + "\n")
    assert main.main(["redact", "log.jsonl"]) == 0
    assert "S3CR3T" not in Path("log.redacted.jsonl").read_text()
