"""The address of a bucket, as people write it."""

import pytest

from tests.support.depot.stores import CLOSED
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.depot.bucket import PUT_KEY, Bucket, clients
from wakestream.adapters.depot.s3 import S3Depot
from wakestream.operators.model.engine import MAX_FILES
from wakestream.streams.hub.depot_files import frame
from wakestream.streams.hub.state import HubState, Limits
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CLOSED, "AWS_ACCESS_KEY_ID": "i" * 32, "AWS_SECRET_ACCESS_KEY": "s" * 64}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_bucket_has_a_prefix_a_region_and_a_style() -> None:
    assert Bucket.parse("s3://films") == Bucket("films")
    assert Bucket.parse("s3://films/a/b/?region=auto&style=virtual") == Bucket("films", "a/b/", None, "auto", "virtual")
    assert Bucket.parse("s3://films").key("lic", "00ff") == "lic/files/00ff"


@pytest.mark.parametrize("url", ["films", "https://films", "s3:///a", "s3://films?style=other", "s3://films?x=1"])
def test_a_wrong_address_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(SettingsError, match="write s3://BUCKET/PREFIX"):
        Bucket.parse(url)


def test_who_gives_a_folder_is_told_where_a_folder_is_given() -> None:
    with pytest.raises(SettingsError, match="a folder is for `wakestream init hub --depot`"):
        Bucket.parse("/srv/depot")


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


@pytest.mark.parametrize(
    ("url", "endpoint", "begins", "region"),
    [
        ("s3://films/a?region=eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/films/a/lic/", "eu-west-1"),
        ("s3://films?region=eu-west-1&style=virtual", None, "https://films.s3.eu-west-1.amazonaws.com/", "eu-west-1"),
        ("s3://films", "https://x.r2.cloudflarestorage.com", "https://x.r2.cloudflarestorage.com/films/", "auto"),
    ],
)
@pytest.mark.usefixtures("keys")
def test_links_have_the_form_and_the_region_of_their_store(
    url: str, endpoint: str | None, begins: str, region: str
) -> None:
    [place] = S3Depot(Bucket.parse(url, endpoint), {}).sign(
        [d.DepotFile(name="video", blake3="0" * 64, size=3)], (), "lic", "put", 0.0
    )
    assert place.url.startswith(begins)
    assert f"%2F{region}%2Fs3%2Faws4_request" in place.url
    assert "X-Amz-SignedHeaders=content-length%3Bhost&" in place.url


@pytest.mark.usefixtures("keys")
def test_a_job_with_the_most_files_goes_through_a_bucket() -> None:
    depot = S3Depot(Bucket.parse("s3://films/wakestream", f"https://{'0' * 32}.r2.cloudflarestorage.com"), {})
    named = [f"{'images':x<28}_{number}" for number in range(MAX_FILES)]
    files = [d.DepotFile(name=name, blake3=f"{n:064x}", ext=".jpeg", size=1 << 40) for n, name in enumerate(named)]
    inputs = {file.name: {"hash": file.blake3, "ext": file.ext} for file in files}
    submit = m.Submit(request_id="j" * 64, task_type="k" * 32, payload={"kind": "k" * 32, "inputs": inputs})
    signed = depot.sign(files, [file.blake3 for file in files], "0" * 12, "get", 0.0)
    fetch = d.DepotFetch(request_id="j" * 64, task_type="k" * 32, payload=submit.payload, files=signed)
    state = HubState(Limits(depot=True, depot_link=depot.link_size()))
    plain = m.Submit(request_id="j" * 64, task_type="k" * 32, payload={"kind": "k" * 32, "inputs": {}})
    assert len(wire.octets(fetch)) <= frame(state, plain, files) <= wire.MAX_FRAME


def test_half_of_the_key_for_uploads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(SettingsError, match=f"{PUT_KEY[0]} and {PUT_KEY[1]}"):
        clients(Bucket("films"), {PUT_KEY[0]: "id"})
