"""The address of a bucket, as people write it."""

import pytest

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.depot.bucket import PUT_KEY, Bucket, clients


def test_a_bucket_has_a_prefix_a_region_and_a_style() -> None:
    assert Bucket.parse("s3://films") == Bucket("films")
    assert Bucket.parse("s3://films/a/b/?region=auto&style=virtual") == Bucket("films", "a/b/", None, "auto", "virtual")
    assert Bucket.parse("s3://films").key("lic", "00ff") == "lic/files/00ff"


@pytest.mark.parametrize("url", ["films", "https://films", "s3:///a", "s3://films?style=other", "s3://films?x=1"])
def test_a_wrong_address_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(SettingsError, match="write s3://BUCKET/PREFIX"):
        Bucket.parse(url)


def test_an_endpoint_without_tls_is_refused_unless_it_is_here_or_named() -> None:
    for allowed in ("http://127.0.0.1:9000", "http://localhost:9000", "https://s3.example"):
        assert Bucket.parse("s3://films/a", allowed).endpoint == allowed
    with pytest.raises(SettingsError, match=r"plain=nas\.lan") as refused:
        Bucket.parse("s3://films/a", "http://nas.lan:9000")
    told = str(refused.value).split("--depot '")[1].rstrip("'")
    assert Bucket.parse(told, "http://nas.lan:9000").prefix == "a/"
    for wrong in ("nas.lan:9000", "ftp://nas.lan", "https://user:word@nas.lan"):
        with pytest.raises(SettingsError, match="--depot-endpoint"):
            Bucket.parse("s3://films", wrong)


def test_half_of_the_key_for_uploads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(SettingsError, match=f"{PUT_KEY[0]} and {PUT_KEY[1]}"):
        clients(Bucket("films"), {PUT_KEY[0]: "id"})
