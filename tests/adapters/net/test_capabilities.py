"""Signed capabilities: minted by the hub, judged by the worker, kept by the client."""

import stat
import sys
from email.utils import formatdate
from pathlib import Path

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wakestream.adapters.client.worker_calls import Wallet
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.net import capability_keys
from wakestream.adapters.net.capabilities import Claims, lifetime, to_base64
from wakestream.adapters.net.capability_keys import Signer, Verifier
from wakestream.operators.model.errors import WorkerRefused
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m

SIGNER = Signer.fresh()


class Clock:
    """A clock to set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Verifier:
    made = Verifier("gpu", clock)
    assert made.pin(SIGNER.public)
    return made


def token(job: str = "j1", owner: str = "lic", gpu: str = "gpu", now: float = 1000.0, life: float = 900.0) -> str:
    return SIGNER.mint(job, owner, gpu, now, now + life)


def refusal(verifier: Verifier, text: str) -> str:
    with pytest.raises(WorkerRefused) as refused:
        verifier.claims(text)
    assert text not in str(refused.value)
    return refused.value.code


def test_the_word_capability_announces_the_form_of_version_0_1_0() -> None:
    # A token of another form needs another word, such as `capability.2`: hub, client and worker may differ in version.
    minted_by_0_1_0 = (
        "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJqb2IiOiJqb2ItMSIsImxpYyI6ImxpYy0xIiwiZ3B1IjoiZ3B1IiwiaWF0IjoxNzk1NTcw"
        "OTUwLCJleHAiOjE3OTU1NzE4NTB9.W_4lUDdECboxeRTczwhvRIwPURL_b3tFucxD0TAGnLZHu49iKGLDB-nDS8WxmVxyxezzWjwyWVcIOODGto"
        "yTCg"
    )
    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    assert signer.mint("job-1", "lic-1", "gpu", 1795570950.0, 1795571850.0) == minted_by_0_1_0
    worker, wallet = Verifier("gpu", lambda: 1795571000.0), Wallet()
    assert worker.pin(signer.public)
    assert worker.claims(minted_by_0_1_0) == Claims("job-1", "lic-1", "gpu", 1795570950, 1795571850)
    wallet.feed(m.Ack(request_id="job-1", capability=minted_by_0_1_0, capability_expires=1795571850))
    assert wallet.of("job-1") == minted_by_0_1_0


def test_it_ends_with_a_leeway_for_clocks_that_differ(verifier: Verifier, clock: Clock) -> None:
    clock.now = 1959.0
    assert verifier.claims(token()).job == "j1"
    clock.now = 1961.0
    assert refusal(verifier, token()) == "expired"
    assert verifier.claims(token(now=2020.0)).job == "j1"
    assert refusal(verifier, token(now=2022.0)) == "not_yet"


def test_a_capability_for_another_gpu_or_hub_or_for_more_than_a_day_is_refused(verifier: Verifier) -> None:
    assert refusal(verifier, token(gpu="other")) == refusal(verifier, token(life=25 * 3600.0)) == "forbidden"
    assert refusal(verifier, Signer.fresh().mint("j1", "lic", "gpu", 1000, 1900)) == "unauthorized"


def test_a_modified_capability_is_refused(verifier: Verifier) -> None:
    good = token()
    head, claims, signature = good.split(".")
    other = token("j2").split(".")[1]
    unsigned = jwt.encode({"job": "j1"}, None, "none").split(".")[0]
    forged = [
        f"{head}.{other}.{signature}", f"{head}.{claims}.{signature[:-1]}", f"{head}.{claims}.{'A' * 86}", good + ".",
        good[:-1], f"{head}..{signature}", f"{head}.", f"{unsigned}.{claims}.{signature}", f"{unsigned}.{claims}.",
        f"{head}.{claims}%00.{signature}", f"{head}.{'A' * 100_000}.{'A' * 86}",
        jwt.encode({"job": "j1"}, SIGNER.public + "0" * 32, "HS256"),
    ]  # fmt: skip
    assert {refusal(verifier, one) for one in forged} == {"unauthorized"}


@pytest.mark.parametrize("claims", [[], {}, {"job": 1, "lic": "", "gpu": "gpu", "iat": 1, "exp": 2}, "text", None])
def test_a_signed_token_without_claims_is_refused(verifier: Verifier, claims: object) -> None:
    nonsense = jwt.PyJWS(algorithms=["EdDSA"]).encode(orjson.dumps(claims), SIGNER._key, "EdDSA")
    assert refusal(verifier, nonsense) == "unauthorized"


def test_without_the_hub_s_key_none_is_taken_and_the_caller_may_come_again() -> None:
    fresh = Verifier("gpu")
    assert fresh.ready
    assert refusal(fresh, token()) == "not_ready"
    assert fresh.pin(None)
    assert not fresh.pin("no key")
    assert not fresh.ready


def test_the_first_key_is_pinned_and_others_are_refused(verifier: Verifier) -> None:
    other = Signer.fresh()
    assert verifier.ready
    assert not verifier.pin(other.public)
    assert not verifier.ready
    assert refusal(verifier, other.mint("j1", "lic", "gpu", 1000, 1900)) == "unauthorized"
    assert verifier.claims(token()).job == "j1"
    assert verifier.pin(SIGNER.public)
    assert verifier.ready


def test_a_revoked_license_opens_nothing(verifier: Verifier) -> None:
    verifier.claims(token("j1", "gone"))
    verifier.claims(token("j2", "stays"))
    verifier.revoke("gone")
    assert refusal(verifier, token("j3", "gone")) == "forbidden"
    assert verifier.claims(token("j2", "stays")).job == "j2"


def test_a_workers_memory_of_capabilities_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability_keys, "REMEMBERED", 3)
    verifier = Verifier("gpu-1")
    for number in range(9):
        verifier.revoke(f"gone-{number}")
    assert len(verifier._revoked) == 3


def test_the_hub_s_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = Signer.of_folder(tmp_path / "hub")
    path = tmp_path / "hub" / "capability.key"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["capability.key"]
    assert Signer.of_folder(tmp_path / "hub").public == first.public


def test_a_damaged_key_file_is_reported_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "capability.key"
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match=r"capability\.key is damaged; restore it"):
        Signer.of_folder(tmp_path)
    assert path.read_bytes() == b"short"


def test_a_message_is_filled_in_as_it_goes_out(verifier: Verifier) -> None:
    seal = f.Seal("gpu", "lic")
    ack = SIGNER.sealed(m.Ack(request_id="j1", capability="?", capability_expires=1900), seal, 1000.0)
    renewal = SIGNER.sealed(m.Capability(request_id="j1", capability="?", expires=1900), seal, 1000.0)
    assert isinstance(ack, m.Ack)
    assert isinstance(renewal, m.Capability)
    assert verifier.claims(ack.capability or "") == verifier.claims(renewal.capability)
    registered = SIGNER.sealed(m.Registered(), f.Seal(), 1000.0)
    assert isinstance(registered, m.Registered)
    assert registered.capability_key == SIGNER.public


def test_printed_messages_and_wallets_hide_capabilities() -> None:
    wallet = Wallet()
    ack = m.Ack(request_id="j1", capability=token(), capability_expires=1900)
    wallet.feed(ack)
    shown = repr((ack, m.Capability(request_id="j1", capability=token(), expires=1900), wallet._held))
    assert "eyJ" not in shown


def test_a_client_uses_the_latest_capability_of_the_job_until_it_ends(clock: Clock) -> None:
    wallet = Wallet(clock)
    assert wallet.of("j1") is None
    first, second = token(), token(now=1600.0)
    wallet.feed(m.Ack(request_id="j1", capability=first, capability_expires=1900))
    assert (wallet.of("j1"), wallet.of("j2")) == (first, None)
    wallet.feed(m.Capability(request_id="j1", capability=second, expires=2500))
    wallet.feed(m.Ack(request_id="j1"))
    assert wallet.of("j1") == second
    clock.now = 2561.0
    assert (wallet.of("j1"), wallet.knows("j1"), wallet.knows("j2")) == (None, True, False)


@pytest.mark.parametrize("off", [-86_400.0, 86_400.0])
def test_a_client_with_a_wrong_clock_uses_it_until_it_expires(clock: Clock, off: float) -> None:
    wallet = Wallet(clock)
    clock.now = 1000.0 + off
    wallet.feed(m.Ack(request_id="j1", capability=token(), capability_expires=1900))
    clock.now += 959.0
    assert wallet.of("j1") is not None
    assert wallet.ahead_of_hub(formatdate(1959.0 + 3600, usegmt=True)) == 3600.0
    assert wallet.ahead_of_hub(formatdate(1959.0 - 90, usegmt=True)) == -90.0
    clock.now += 2.0
    assert wallet.of("j1") is None


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Jan 1970 00:00:00 GMT"])
def test_a_peer_without_a_date_header_has_no_wrong_clock(clock: Clock, date: str | None) -> None:
    wallet = Wallet(clock)
    assert wallet.ahead_of_hub(formatdate(1000.0 + 3600, usegmt=True)) == 0.0, "nothing is known of the hub's clock"
    wallet.feed(m.Ack(request_id="j1", capability=token(), capability_expires=1900))
    assert wallet.ahead_of_hub(date) == 0.0


def test_an_invalid_capability_is_not_put_into_a_header() -> None:
    wallet = Wallet()
    wallet.feed(m.Ack(request_id="j1", capability="x\r\nHost: elsewhere", capability_expires=1900))
    assert not wallet.knows("j1")


def test_a_token_that_is_nested_too_deeply_has_no_lifetime() -> None:
    deep = to_base64(b'{"more":' + b"[" * 3000)
    assert lifetime(f"eyJ.{deep}.x") is None
