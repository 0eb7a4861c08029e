"""TLS between all our programs, with an authority of our own; and what is said when something about it is wrong."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.programs import plain_server
from tests.support.programs.certificates import Authority
from tests.support.programs.client_scene import User, clean_environment
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import ServerTls, client_context, explained, server_tls
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http import server as worker_server
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.errors import WorkerRefused, WorkerUnreachable
from wakestream.operators.model.ports import LinkDown
from wakestream.streams.hub.events import Fact
from wakestream.streams.protocol import messages as m

PLACES = ("{audio}", "{video}", "{output}")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@asynccontextmanager
async def hub_with(place: Place, tls: ServerTls | None) -> AsyncGenerator[HubServer, None]:
    async with open_hub(HubConfig(LicenseBook(place.folder / "hub"), tls=tls), FakeJournal[Fact]()) as hub:
        place.hub_url = hub.url
        yield hub


async def complaint(url: str, ca: Path | None) -> str:
    """What the link says of its first attempt."""
    link = Link(url, lambda: m.Register(key="any"), ca=client_context(ca))
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    link.events.subscribe(lambda event: said.done() or not isinstance(event, LinkDown) or said.set_result(event.reason))
    try:
        async with asyncio.timeout(100):
            return await said
    finally:
        await link.close()


async def test_a_job_goes_through_hub_and_worker_over_tls(user: User, place: Place, authority: Authority) -> None:
    tls = ServerTls(*authority.issue())
    ca = client_context(authority.path)
    user.video.write_bytes(bytes(range(256)) * 40_000)  # large enough for whatever large bodies are given besides
    async with hub_with(place, tls) as hub:
        assert hub.url.startswith("wss://127.0.0.1:")
        config = WorkerConfig(
            place.folder / "worker", Joining(), SECRET, port=0, gpu="gpu", key=place.keys["worker"], tls=tls
        )
        async with running_worker(config, lambda register: Link(hub.url, register, ca=ca)) as worker:
            assert worker.address.startswith("https://127.0.0.1:")
            await gpu_online(hub)
            user.environment |= place.client_settings() | {"WAKESTREAM_CA": str(authority.path)}
            ran = await user.submit()
            assert (ran.code, ran.last["event"]) == (0, "done"), ran
            assert ran.all("online")[0]["url"] == worker.address
            assert user.out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()
            # The files of one folder are one source: what is sent, to whom, and whom to trust.
            (user.folder / "wakestream.toml").write_text(f"ca = {str(authority.path)!r}\n")
            del user.environment["WAKESTREAM_CA"]
            settings = {name: user.environment.pop(name) for name in place.client_settings()}
            (user.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            assert (await user.submit()).code == 0
            flagged = await user.submit("--ca", str(authority.path))
            assert flagged.code == 0


def programs(place: Place, authority: Authority) -> tuple[list[str], dict[str, str]]:
    cert, key = authority.issue()
    files = ["--tls-cert", str(cert), "--tls-key", str(key)]
    return files, {"HEYGEM_API_SECRET": SECRET, "WAKESTREAM_CA": str(authority.path)}


async def test_hub_worker_and_monitor_are_set_up_by_their_flags(user: User, place: Place, authority: Authority) -> None:
    files, environment = programs(place, authority)
    state = str(place.folder / "hub")
    async with user.runs("hub", "--listen", "127.0.0.1:0", "--state", state, *files) as hub:
        url = await hub.address()
        assert url.startswith("wss://")
        keys = {role: {"WAKESTREAM_KEY": key} | environment for role, key in place.keys.items()}
        copy = "import shutil, sys; shutil.copy(*sys.argv[2:])"
        engine = ("--engine", "command", "--command", json.dumps([sys.executable, "-c", copy, *PLACES]))
        listen = ("--listen", "127.0.0.1:0", "--state", "worker", "--hub", url, *engine)
        async with user.runs("worker", *listen, *files, **keys["worker"]) as worker:
            address = await worker.address()
            assert address.startswith("https://")
            off = f"{sys.executable} -c pass"
            on = f"{sys.executable} -c print('running')"
            power = ("--power", "command", "--start", off, "--stop", off, "--inspect", on, "--worker-url", address)
            async with user.runs("monitor", "--hub", url, *power, **keys["monitor"]):
                ran = await user.submit("--hub", url, **keys["client"])
                assert (ran.code, ran.last["event"]) == (0, "done"), ran


async def test_a_renewed_certificate_is_used_without_a_restart(place: Place, authority: Authority) -> None:
    cert, key = authority.issue()
    tls = ServerTls(cert, key)

    def served(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=100)

    async with hub_with(place, tls) as hub:
        first = await asyncio.to_thread(served, hub.port)
        assert not tls.refresh()
        stays = Link(hub.url, lambda: m.Register(key=place.keys["client"]), ca=client_context(authority.path))
        authority.issue(days=200)
        assert tls.refresh()
        second = await asyncio.to_thread(served, hub.port)
        assert first != second
        key.write_text("no key at all")
        assert not tls.refresh()
        assert await asyncio.to_thread(served, hub.port) == second
        await stays.close()


class Attentive(ServerTls):
    """Looks at its files all the time, and tells when it took new ones."""

    def __init__(self, cert: Path, key: Path) -> None:
        super().__init__(cert, key)
        self.renewed = asyncio.Event()

    def refresh(self) -> bool:
        fresh = super().refresh()
        if fresh:
            self.renewed.set()
        return fresh

    async def watch(self, every: float = 0.01) -> None:
        await super().watch(every)


@pytest.mark.parametrize("program", ["hub", "worker"])
async def test_hub_and_worker_check_for_renewed_certificates(place: Place, authority: Authority, program: str) -> None:
    tls = Attentive(*authority.issue())
    running = hub_with(place, tls) if program == "hub" else place.worker(Joining(), tls=tls)
    async with running as server:
        port = int((server.url if isinstance(server, HubServer) else server.address).split(":")[2].split("/")[0])
        before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=100)
        authority.issue(days=200)
        await tls.renewed.wait()
        assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=100) != before


@pytest.mark.parametrize(
    ("hosts", "days", "own_ca", "says"),
    [
        ((), 90, False, r"is not trusted .*give its authority with --ca FILE \(WAKESTREAM_CA\)"),
        ((), -1, True, r"has expired; renew it there"),
        (("hub.example",), 90, True, r"is for another name .*use that name"),
        (("10.9.8.7",), 90, True, r"is for another name"),
    ],
)
async def test_certificate_errors_are_explained_by_link_and_worker_calls(
    authority: Authority, hosts: tuple[str, ...], days: int, own_ca: bool, says: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", *hosts, days=days))
    ca = authority.path if own_ca else None
    async with tls_port(context) as port:
        said = await complaint(f"wss://127.0.0.1:{port}/dsp", ca)
        refused = str(await refused_call(f"https://127.0.0.1:{port}", ca, WorkerRefused))
        assert [text for text in (said, refused) if not re.search(says, text)] == []


async def refused_call(url: str, ca: Path | None, kind: type[Exception]) -> Exception:
    workers = HttpWorkers(url, "secret", ca=client_context(ca))
    try:
        async with asyncio.timeout(100):
            with pytest.raises(kind) as refused:
                await workers.at(None).health()
        return refused.value
    finally:
        await workers.close()


@asynccontextmanager
async def tls_port(context: ssl.SSLContext | None) -> AsyncGenerator[int, None]:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with plain_server.talking(hang_up, context) as port:
        yield port


async def test_http_to_a_tls_port_is_answered_with_advice(place: Place, authority: Authority) -> None:
    tls = ServerTls(*authority.issue())
    async with hub_with(place, tls) as hub:
        assert "write https:// or wss://" in await complaint(hub.url.replace("wss:", "ws:"), None)
        config = WorkerConfig(place.folder / "worker", Joining(), SECRET, port=0, tls=tls)
        async with running_worker(config) as worker:
            url = worker.address.replace("https:", "http:")
            assert "write https://" in str(await refused_call(url, None, WorkerUnreachable))


async def test_a_hub_that_may_be_dead_behind_a_proxy_is_not_taken_for_one_with_tls() -> None:
    async with tls_port(None) as port:
        said = await complaint(f"ws://127.0.0.1:{port}/dsp", None)
    assert (
        "it closed the connection without an answer; start the hub there, or, if it needs TLS, write https://" in said
    )


async def test_tls_to_a_plain_port_is_answered_with_advice(place: Place) -> None:
    async with hub_with(place, None) as hub:
        assert "does not speak TLS, write http:// or ws://" in await complaint(hub.url.replace("ws:", "wss:"), None)
        config = WorkerConfig(place.folder / "worker", Joining(), SECRET, port=0)
        async with running_worker(config) as worker:
            url = worker.address.replace("http:", "https:")
            assert "does not speak TLS" in str(await refused_call(url, None, WorkerRefused))


async def test_a_missing_handshake_times_out(
    place: Place, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wakestream.adapters.hub.admission._OPEN_WITHIN", 0.2)
    monkeypatch.setattr(worker_server, "TLS_WITHIN", 0.2)
    tls = ServerTls(*authority.issue())
    config = WorkerConfig(place.folder / "worker", Joining(), SECRET, port=0, tls=tls)
    async with hub_with(place, tls) as hub, running_worker(config) as worker:
        for port in (hub.port, int(worker.address.rpartition(":")[2])):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()


Make = Callable[[Authority, Path], tuple[Path | None, Path | None]]


def no_file(_: Authority, folder: Path) -> tuple[Path, Path]:
    return folder / "none.crt", folder / "none.key"


def another_key(authority: Authority, _: Path) -> tuple[Path, Path]:
    return authority.issue("one")[0], authority.issue("two")[1]


def nonsense(_: Authority, folder: Path) -> tuple[Path, Path]:
    for name in ("n.crt", "n.key"):
        (folder / name).write_text("nonsense")
    return folder / "n.crt", folder / "n.key"


def encrypted(authority: Authority, folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization as s

    cert, key = authority.issue()
    loaded = s.load_pem_private_key(key.read_bytes(), None)
    locked = s.BestAvailableEncryption(b"password")
    (folder / "locked.key").write_bytes(loaded.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked))
    return cert, folder / "locked.key"


def ended(authority: Authority, _: Path) -> tuple[Path, Path]:
    return authority.issue(days=-2)


def half(authority: Authority, _: Path) -> tuple[Path, None]:
    return authority.issue()[0], None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_file, r"--tls-cert: .*none\.crt cannot be read \(No such file"),
        (another_key, r"--tls-key: the key in .*two\.key does not belong to the certificate in .*one\.crt"),
        (nonsense, r"both in PEM form"),
        (encrypted, r"--tls-key: the key in .* is encrypted; decrypt it"),
        (ended, r"--tls-cert: the certificate in .* expired on .*; renew it"),
        (half, r"--tls-cert also needs --tls-key"),
    ],
)
def test_bad_certificate_files_are_explained(tmp_path: Path, authority: Authority, make: Make, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        server_tls(*make(authority, tmp_path))


def test_an_authority_that_does_not_serve_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--ca: .*none\.pem cannot be read"):
        client_context(tmp_path / "none.pem")
    (tmp_path / "text.pem").write_text("nonsense")
    with pytest.raises(SettingsError, match=r"--ca: .*text\.pem contains no certificate in PEM format"):
        client_context(tmp_path / "text.pem")
    assert explained(ValueError("something else")) is None


@pytest.mark.parametrize(("listen", "warned"), [("0.0.0.0:0", True), ("127.0.0.1:0", False)])
def test_listening_on_the_network_without_tls_warns(tmp_path: Path, listen: str, warned: bool) -> None:
    argv = [sys.executable, "-m", "wakestream.adapters.cli", "hub", "--listen", listen, "--state", str(tmp_path)]
    ran = subprocess.run(
        [*argv, "--exit-with-stdin"], env=dict(clean_environment()), input="", capture_output=True, text=True,
        timeout=40, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran
    assert ("without TLS" in ran.stderr and "reverse proxy" in ran.stderr) is warned


def test_a_failed_tls_start_does_not_print_the_key(tmp_path: Path, authority: Authority) -> None:
    cert, _ = authority.issue("one")
    _, key = authority.issue("two")
    argv = [sys.executable, "-m", "wakestream.adapters.cli", "hub", "--listen", "127.0.0.1:0", "--state", str(tmp_path)]
    ran = subprocess.run(
        [*argv, "--tls-cert", str(cert), "--tls-key", str(key)], env=dict(clean_environment()), capture_output=True,
        text=True, timeout=40, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "does not belong to" in ran.stderr
    assert "PRIVATE KEY" not in ran.stderr
