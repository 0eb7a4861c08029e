"""The cloud of these tests, and the credentials for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from tests.support.power.ec2_world import KEY, SECRET, account
from tests.support.power.stand_ins import moto


@pytest.fixture(scope="package", autouse=True)
def _models_are_read_once() -> Iterator[None]:
    """A new session of boto3 reads megabytes of JSON; here hundreds are made."""
    with pytest.MonkeyPatch.context() as patch:
        read: dict[str, Any] = {}
        load = JSONFileLoader.load_file

        def load_once(self: JSONFileLoader, path: str) -> Any:
            if path not in read:
                read[path] = load(self, path)
            return read[path]

        patch.setattr(JSONFileLoader, "load_file", load_once)
        yield


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(scope="module")
def client(moto_url: str) -> Iterator[Any]:
    """Calls moto itself."""
    client = account(moto_url)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only these, whatever the user's own are."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
