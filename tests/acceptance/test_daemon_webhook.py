"""The daemon tells a webhook of each end: signed, at least once, whatever is killed or down meanwhile."""

import ast
import base64
import hashlib
import hmac
import re
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.programs.certificates import Authority
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.here import Here
from tests.support.programs.metrics_scene import QUICK
from tests.support.programs.our_peers import Joining, Place, until
from tests.support.programs.webhook_scene import Call, Shop
from tests.support.streams.submitting import submitting
from wakestream.adapters.config import settings
from wakestream.adapters.daemon.program import DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.net.webhooks import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    WebhookDown,
    WebhookGone,
    post_json,
    receiver,
    signed,
)
from wakestream.operators.model.backoff import Backoff
from wakestream.streams import webhooks
from wakestream.streams.outbox import facts as f

SECRET = "marked-whsec-4711"
SOON = Backoff(initial=0.02, max_delay=0.1)
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def genuine() -> Callable[[Mapping[str, str], bytes, bytes, float], bool]:
    """The function that docs/webhooks.md prints."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "def genuine" in block]
    assert len(ast.parse(block).body[0].body) <= 5  # type: ignore[attr-defined]
    names = {"base64": base64, "hmac": hmac, "hashlib": hashlib, "Mapping": Mapping}
    exec(block, names)  # noqa: S102 - it is what readers do
    found: Callable[[Mapping[str, str], bytes, bytes, float], bool] = names["genuine"]  # type: ignore[assignment]
    return found


def told(user: User, shop: Shop) -> None:
    user.environment |= {"WAKESTREAM_WEBHOOK_URL": shop.url, "WAKESTREAM_WEBHOOK_SECRET": SECRET}


def check(call: Call) -> None:
    assert genuine()(call.headers, call.body, SECRET.encode(), time.time())
    assert Webhook(SECRET.encode()).verify(call.body, call.headers) == call.news


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_killed_between_done_and_delivery_it_is_delivered_by_the_next_run(user: User, place: Place) -> None:
    async with place.hub(), place.worker(Joining()), Shop(status=None).open() as shop:
        told(user, shop)
        async with daemon(user) as api:
            await api.submit(user)
            first = await shop.hears()
            await api.kill()
        shop.status = 200
        async with daemon(user) as api:
            again = await shop.hears(2)
            assert (await api.job())["state"] == "done"
            for call in (first, again):
                check(call)
            assert again.body == first.body
            assert again.headers[ID] == first.headers[ID]
            assert again.news["bytes"] == {"video": 5000, "audio": 2500, "sent": 7500, "result": 7500}
            assert (again.news["id"], again.news["event"]) == ("job-1", "job.done")
            assert again.news["files"]["output"] == str(user.out)
            api.running.process.terminate()
            said = await api.running.ended()
    assert "marked-" not in said.err + said.out


async def here(user: User, place: Place) -> settings.Settings:
    environment = place.client_settings() | user.environment
    return settings.load({}, environment=environment, folder=user.folder)


def config(user: User) -> DaemonConfig:
    return DaemonConfig(user.folder.parent / "daemon")


async def submit(made: RunningDaemon, user: User, *, gone: bool = False) -> None:
    video, audio = (f.FileStat(str(at), at.stat().st_size, at.stat().st_mtime_ns) for at in (user.video, user.audio))
    if gone:
        user.video.unlink()
    assert (
        await made.outbox.submit(submitting(0, "job-1", {"video": video, "audio": audio}, {"video": str(user.out)}))
    ).status == 201


async def test_a_webhook_is_delivered_once_the_receiver_is_up_and_accepts_it(
    user: User, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "AGAIN", SOON)
    shop = Shop()
    async with place.hub(), place.worker(Joining()):
        async with shop.open():
            told(user, shop)
        async with running_daemon(config(user), await here(user, place), QUICK) as made:
            assert made.webhooks is not None
            await submit(made, user)
            counted = made.webhooks.counted
            await until(lambda: counted["failed"] >= 3)
            assert shop.calls == []
            shop.status, shop.headers = 302, {"Location": f"http://127.0.0.1:{shop.port}/elsewhere"}
            async with shop.open():
                check(await shop.hears(2))
                assert (len(made.outbox.state.pending), shop.elsewhere) == (1, 0)
                shop.status = 204
                await until(lambda: not made.outbox.state.pending)
            assert counted["delivered"] == 1
        assert len({call.headers[ID] for call in shop.calls}) == 1


async def test_a_failed_job_is_reported_with_its_reason(user: User, place: Place) -> None:
    async with place.hub(), Shop().open() as shop:
        told(user, shop)
        async with running_daemon(config(user), await here(user, place), QUICK) as made:
            await submit(made, user, gone=True)
            news = (await shop.hears()).news
        assert (news["event"], news["outcome"], news["code"]) == ("job.failed", "failed", "file_unusable")
        assert news["why"]


async def test_an_answer_without_end_is_not_read(user: User) -> None:
    async with Shop(body=b"x" * 50_000_000).open() as shop:
        await post_json(shop.url, {"id": "a"}, secret=SECRET, at=int(time.time()))
        check(shop.calls[0])


@pytest.mark.parametrize("status", [410, 301, 404, 503])
async def test_errors_contain_neither_address_nor_secret(status: int) -> None:
    async with Shop(status=status, headers={"Location": "/x"}).open() as shop:
        with pytest.raises(WebhookGone if status == 410 else WebhookDown) as said:
            await post_json(shop.url, {}, secret=SECRET)
    assert not any(text in str(said.value) for text in ("marked", "127.0.0.1"))


def test_the_check_of_the_page_finds_forgeries_and_old_copies() -> None:
    body, now = b'{"id":"a"}', 1_795_570_950.0
    headers, key = signed(SECRET, body, "d1", int(now)), SECRET.encode()
    check_it = genuine()
    assert check_it(headers, body, key, now)
    assert not check_it(headers, body + b" ", key, now)
    assert not check_it(headers, body, b"another", now)
    assert not check_it(headers, body, key, now + 301)
    assert not check_it(headers | {TIMESTAMP: "2795570950"}, body, key, 2_795_570_950.0)
    assert not check_it(headers | {ID: "d2"}, body, key, now)


async def test_a_secret_as_the_standard_has_it_is_verified_by_its_library() -> None:
    secret = "whsec_bWFya2VkLXNlY3JldC00NzEx"
    async with Shop().open() as shop:
        await post_json(shop.url, {"id": "a"}, secret=secret)
    (call,) = shop.calls
    assert Webhook(secret).verify(call.body, call.headers) == {"id": "a"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(call.body, call.headers | {SIGNATURE: "v1,AAAA"})


def test_a_secret_of_the_standard_that_is_not_base64_is_refused_at_the_start() -> None:
    with pytest.raises(settings.SettingsError, match="must go on in base64"):
        receiver("webhook_url", settings.Settings(webhook_url="https://shop.example", webhook_secret="whsec_%"))


def test_without_its_secret_the_daemon_names_the_missing_setting(user: User, here: Here) -> None:
    settings_ = {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    ran = here(user, "daemon", "--webhook", "https://shop.example/done", **settings_)
    assert (ran.code, "set WAKESTREAM_WEBHOOK_SECRET" in ran.err) == (2, True)
    ran = here(user, "daemon", "--webhook", "ftp://shop.example/done", **settings_)
    assert (ran.code, "http:// or https://" in ran.err) == (2, True)


async def test_a_receiver_with_tls_must_be_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    async with Shop(tls=tls).open() as shop:
        with pytest.raises(WebhookDown) as said:
            await post_json(shop.url, {"id": "a"})
        assert "127.0.0.1" not in str(said.value)
        await post_json(shop.url, {"id": "a"}, ca=client_context(authority.path))
        assert len(shop.calls) == 1
