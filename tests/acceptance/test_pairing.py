"""Pairing with a real hub over real sockets: codes good once, and someone who stands between or listens."""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.ports import free_port
from wakestream.adapters.client.pair import pair
from wakestream.adapters.hub import pairing_desk
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.invites import LASTS, Invites
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.operator.actions import join_command
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.certificates import make_certificate
from wakestream.adapters.net.pairing import PLAIN, Code, Pairing, PairingError, code_from
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub.events import Fact


class Scene:
    """A hub's folder, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.now = 1_000_000.0
        self.invites = Invites(folder)
        self.book = LicenseBook(folder)

    def tls(self, name: str = "hub") -> ServerTls:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        make_certificate(cert, key, ["127.0.0.1", "localhost"])
        return ServerTls(cert, key)

    @asynccontextmanager
    async def hub(self, tls: ServerTls | None = None) -> AsyncIterator[HubServer]:
        async with open_hub(
            HubConfig(LicenseBook(self.folder), tls=tls, clock=lambda: self.now), FakeJournal[Fact]()
        ) as hub:
            yield hub

    def invite(self, role: str = "client") -> Code:
        return self.invites.create(role, self.now).code

    def licenses(self) -> list[tuple[str, str]]:
        return [(one.id, one.role) for one in self.book.all()]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "hub")


@pytest.mark.parametrize("secured", [True, False])
async def test_a_code_gives_the_key_of_its_role_and_the_hubs_certificate(scene: Scene, secured: bool) -> None:
    async with scene.hub(scene.tls() if secured else None) as hub:
        paired = await pair(f"127.0.0.1:{hub.port}", scene.invite("worker"))
        assert (paired.role, paired.hub_url) == ("worker", hub.url)
        assert scene.licenses() == [(paired.license, "worker")]
        scene.book.refresh()
        license_ = scene.book.find(paired.key)
        assert license_ is not None
        assert license_.role == "worker"
        pinned = (scene.folder / "hub.pem").read_text() if secured else ""
        assert paired.certificate.split() == pinned.split()
        assert paired.key not in repr(paired)


async def test_a_guest_learns_all_addresses_of_a_cluster_and_an_earlier_guest_one(scene: Scene) -> None:
    async with scene.hub() as hub:
        public = f"{hub.url},ws://other.example:1/dsp"
        invite = scene.invites.create("client", scene.now, public=public)
        assert join_command(invite) == f"wakestream join 127.0.0.1:{hub.port},other.example:1 {invite.code}"
        paired = await pair(f"127.0.0.1:{free_port()},{hub.url}", invite.code)
        assert paired.hub_url == public
        earlier = scene.invites.create("client", scene.now, public=public)
        given = await _granted(hub.url, earlier.code)
        assert (given["hub"], given["hubs"]) == (hub.url, public.split(","))


async def _granted(url: str, code: Code) -> dict[str, Any]:
    """What the hub gives, as a guest of any version reads it."""
    async with connect(url.replace("/dsp", "/pair")) as guest:
        await guest.send(orjson.dumps({"type": "pair.start", "name": code.name}).decode())
        shared = orjson.loads(await guest.recv())
        pairing = Pairing(code, PLAIN, is_hub=False)
        pairing.agree(b64decode(shared["share"]))
        mine = {"share": b64encode(pairing.share).decode(), "proof": b64encode(pairing.proof).decode()}
        await guest.send(orjson.dumps({"type": "pair.proof", **mine, "host": "pc"}).decode())
        return pairing.open(b64decode(orjson.loads(await guest.recv())["sealed"]))


async def test_a_code_is_good_once(scene: Scene) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        await pair(hub.url, code)
        with pytest.raises(PairingError, match="is unknown, used or too old"):
            await pair(hub.url, code)
    assert len(scene.licenses()) == 1


async def test_two_guests_with_one_code_at_the_same_time_get_one_license(scene: Scene) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        outcomes = await asyncio.gather(*(pair(hub.url, code) for _ in range(4)), return_exceptions=True)
    assert sorted(isinstance(one, PairingError) for one in outcomes) == [False, True, True, True]
    assert len(scene.licenses()) == 1


@pytest.mark.parametrize("passed", [LASTS + 1, -10.0])
async def test_a_code_ends_after_a_quarter_of_an_hour_also_if_the_clock_is_set_back(
    scene: Scene, passed: float
) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        scene.now += passed
        with pytest.raises(PairingError, match="is unknown, used or too old"):
            await pair(hub.url, code)


async def test_three_wrong_guesses_void_a_code(scene: Scene) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        wrong = Code(code.name, "0000" if code.secret != "0000" else "1111")
        for left in ("2 tries left", "1 try left", "no tries left; make a new one with wakestream invite"):
            wrongly = rf"wrong code \({left}\)\. If it is surely right, someone may be intercepting the connection"
            with pytest.raises(PairingError, match=wrongly):
                await pair(hub.url, wrong)
        with pytest.raises(PairingError, match="is unknown, used or too old"):
            await pair(hub.url, code)
    assert scene.licenses() == []


async def test_guesses_that_come_at_once_are_three_too(scene: Scene) -> None:
    async with asyncio.timeout(100), scene.hub() as hub, AsyncExitStack() as stack:
        code, guests = scene.invite(), []
        for _ in range(10):
            guest = await stack.enter_async_context(connect(hub.url.replace("/dsp", "/pair")))
            await guest.send(orjson.dumps({"type": "pair.start", "name": code.name}).decode())
            assert orjson.loads(await guest.recv())["type"] == "pair.share"
            guests.append(guest)
        share = b64encode(Pairing(Code(code.name, "ZZZZ"), PLAIN, is_hub=False).share).decode()
        for guest in guests:
            await guest.send(orjson.dumps({"type": "pair.proof", "share": share, "proof": "AAAA"}).decode())
        said = [orjson.loads(await guest.recv())["msg"].partition("(")[0].partition(",")[0] for guest in guests]
    assert Counter(said) == {"wrong code ": 3, f"the code {code.name}-… is unknown": 7}


async def test_the_third_guess_may_be_right(scene: Scene) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        for _ in range(2):
            with pytest.raises(PairingError, match="wrong code"):
                await pair(hub.url, Code(code.name, "ZZZZ"))
        assert (await pair(hub.url, code)).role == "client"


async def test_an_address_may_try_ten_codes_and_then_waits(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing_desk, "EVERY", 3600.0)  # no further try is free while the test lasts
    async with scene.hub() as hub:
        for _ in range(10):
            with pytest.raises(PairingError, match="is unknown"):
                await pair(hub.url, Code("ZZZZ", "ZZZZ"))
        with pytest.raises(PairingError, match=r"too many codes came from this address; try again in \d+ s"):
            await pair(hub.url, scene.invite())


@pytest.mark.parametrize("offset", [-400 * 86_400.0, 0.0, 400 * 86_400.0])
async def test_the_clocks_of_hub_and_guest_may_differ(scene: Scene, offset: float) -> None:
    scene.now = time.time() + offset
    async with scene.hub(scene.tls()) as hub:
        code = scene.invite()
        scene.now += LASTS - 1
        assert (await pair(f"127.0.0.1:{hub.port}", code)).role == "client"


async def test_the_key_of_a_code_has_its_role_and_no_other(scene: Scene) -> None:
    async with scene.hub() as hub:
        paired = await pair(hub.url, scene.invite("client"))
        async with connect(hub.url) as worker:
            await worker.send(orjson.dumps({"type": "register", "role": "worker", "token": paired.key}).decode())
            while (said := orjson.loads(await worker.recv()))["type"] != "error":
                assert said["type"] == "connected"
            assert said["code"] == "forbidden"
            assert "a client license does not give the role of a worker" in said["msg"]


async def test_a_certificate_that_was_replaced_counts_when_the_hub_has_read_it(scene: Scene) -> None:
    tls = scene.tls()
    async with scene.hub(tls) as hub:
        before = await pair(f"127.0.0.1:{hub.port}", scene.invite())
        scene.tls()  # other files of the same names, which the hub has not read yet
        assert (await pair(f"127.0.0.1:{hub.port}", scene.invite())).certificate == before.certificate
        assert tls.refresh()
        after = await pair(f"127.0.0.1:{hub.port}", scene.invite())
        assert after.certificate != before.certificate
        pinned = ssl.create_default_context(cadata=before.certificate)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(hub.url, ssl=pinned)


class Attacker:
    """Stands between the guest and the hub: ends TLS with a certificate of its own, passes all on, and records it."""

    def __init__(self, scene: Scene, hub: HubServer, *, lies: str | None = None, plain: bool = False) -> None:
        self.scene, self.hub, self.lies, self.plain = scene, hub, lies, plain
        self.recorded = b""
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Attacker]:
        context = None if self.plain else self.scene.tls("attacker").context
        async with serve(self._relay, "127.0.0.1", 0, ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _relay(self, guest: ServerConnection) -> None:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        url = self.hub.url.replace("/dsp", "/pair")
        secure = trusting if url.startswith("wss") else None
        async with connect(url, ssl=secure) as hub, asyncio.TaskGroup() as group:
            group.create_task(self._pass(guest, hub))
            group.create_task(self._pass(hub, guest))

    async def _pass(self, source: object, target: object) -> None:
        try:
            while True:
                frame = await source.recv()  # type: ignore[attr-defined]
                self.recorded += frame.encode()
                message = orjson.loads(frame)
                if self.lies is not None and message["type"] == "pair.share":
                    message["binding"] = self.lies
                await target.send(orjson.dumps(message).decode())  # type: ignore[attr-defined]
        except ConnectionClosed:
            await target.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("lies", [None, "plain", "authority"])
@pytest.mark.parametrize("plain", [True, False], ids=["without TLS", "with TLS of its own"])
async def test_someone_who_stands_in_between_gets_no_key_and_the_guest_notices(
    scene: Scene, lies: str | None, plain: bool
) -> None:
    async with scene.hub(scene.tls()) as hub:
        code = scene.invite()
        async with Attacker(scene, hub, lies=lies, plain=plain).listening() as attacker:
            with pytest.raises(PairingError, match=r"intercept|stand"):
                await pair(f"{'ws' if plain else 'wss'}://127.0.0.1:{attacker.port}", code)
        assert scene.licenses() == []
        assert code.secret.encode() not in attacker.recorded


async def test_what_a_listener_records_has_neither_the_key_nor_the_code(scene: Scene) -> None:
    async with scene.hub() as hub:
        code = scene.invite()
        async with Attacker(scene, hub, plain=True).listening() as listener:
            paired = await pair(f"ws://127.0.0.1:{listener.port}", code)
    assert b"pair.grant" in listener.recorded
    assert paired.key.encode() not in listener.recorded
    assert code.secret.encode() not in listener.recorded


GARBAGE: list[list[str]] = [
    ["nonsense"],
    ["{}"],
    ["[]"],
    ['{"type":"pair.proof"}'],
    ["x" * 10_000],
    ['{"type":"pair.start","name":{}}'],
    ['{"type":"pair.start","name":"{name}"}', '{"type":"pair.proof","share":"!","proof":""}'],
    ['{"type":"pair.start","name":"{name}"}', '{"type":"pair.proof","share":"AAAA","proof":"AAAA"}'],
    ['{"type":"pair.start","name":"{name}"}', '{"type":"pair.proof","share":"","proof":""}'],
]


async def test_garbage_is_refused_and_gives_no_license(scene: Scene) -> None:
    async with scene.hub() as hub:
        for sent in GARBAGE:
            name = scene.invite().name
            async with connect(hub.url.replace("/dsp", "/pair")) as guest:
                answers = []
                for frame in sent:
                    await guest.send(frame.replace("{name}", name))
                    answers.append(orjson.loads(await guest.recv()))
                assert answers[-1]["type"] == "pair.refused", sent
                assert answers[-1]["msg"], sent
            assert scene.licenses() == [], sent


async def test_a_query_in_the_address_changes_nothing(scene: Scene) -> None:
    async with scene.hub() as hub, connect(hub.url.replace("/dsp", "/pair?x=1")) as guest:
        await guest.send('{"type":"register","key":"a-key"}')
        assert orjson.loads(await guest.recv())["type"] == "pair.refused"


async def test_a_hub_with_tls_says_so_to_a_plain_address(scene: Scene) -> None:
    async with scene.hub(scene.tls()) as hub:
        for scheme in ("http", "ws"):
            with pytest.raises(PairingError, match="takes secure connections only; write https://"):
                await pair(f"{scheme}://127.0.0.1:{hub.port}", scene.invite())


async def test_no_hub_is_a_sentence() -> None:
    with pytest.raises(PairingError, match="no hub answers"):
        await pair(f"127.0.0.1:{free_port()}", Code("AAAA", "BBBB"))


@pytest.mark.parametrize("text", ["7f3k-92qd", " 7F3K 92QD ", "7F3K92QD", "7f3k - 92qd"])
def test_a_code_is_read_as_people_type_it(text: str) -> None:
    assert code_from(text) == Code("7F3K", "92QD")


def test_letters_that_look_like_digits_are_those() -> None:
    assert str(code_from("OIL0-1111")) == "0110-1111"


@pytest.mark.parametrize("text", ["", "7F3K", "7F3K-92Q", "7F3K-92QDX", "7F3K-92Q!", "7F3K-92QU"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(PairingError, match="is not a code; it has 8 letters and digits"):
        code_from(text)
