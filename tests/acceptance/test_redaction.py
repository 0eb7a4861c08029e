"""Everything is run with marked secrets, talkative and recorded; then all that was left behind is searched for them."""

import contextlib
import json
import re
import secrets
import ssl
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.programs import fork_server
from tests.support.programs.certificates import Authority
from tests.support.programs.client_scene import QUICK, Ran, User
from tests.support.programs.our_peers import Place

SECRET = f"marked-secret-{secrets.token_hex(5)}"
"""Another one in each run: this test looks at the command lines of all programs, and one of them names it."""

WRONG_SECRET = "marked-wrong-secret-55aa10"
WRONG_KEY = "marked-wrong-key-5e1d0c77"
CAPABILITY = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}")

HOLDERS = frozenset({".env", ".license", "daemon.json"})
"""Files whose purpose it is to hold a secret; so are those that end in `.key`."""

ENGINE = """
import json, os, pathlib, shutil, sys
pathlib.Path("engine.environment").write_text(json.dumps(dict(os.environ)))
print(json.dumps(dict(os.environ)), file=sys.stderr)
shutil.copy(sys.argv[2], sys.argv[3])
"""


class House:
    """All programs with their marked secrets, and what they said."""

    def __init__(self, user: User, place: Place, authority: Authority) -> None:
        self.user, self.place, self.authority = user, place, authority
        self.said: dict[str, str] = {}
        self.hub = self.worker = ""
        cert, key = authority.issue()
        self.tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        self.lines = key.read_text().splitlines()[1:-1]
        user.environment |= {
            "WAKESTREAM_CA": str(authority.path),
            "HEYGEM_API_SECRET": "",
            "WAKESTREAM_DAEMON": str(user.folder / "outbox"),
        }
        (user.folder / ".env").write_text(f"HEYGEM_API_SECRET={SECRET}\n")
        (user.folder / ".license").touch(mode=0o600)
        (user.folder / ".license").write_text(json.dumps({"license_key": place.keys["client"]}))

    @property
    def marks(self) -> list[bytes]:
        told = self.user.folder / "outbox" / "daemon.json"
        tokens = [json.loads(told.read_bytes())["token"]] if told.exists() else []
        texts = (SECRET, WRONG_SECRET, WRONG_KEY, *self.place.keys.values(), *self.lines, *tokens)
        return [text.encode() for text in texts]

    @asynccontextmanager
    async def runs(self, name: str, *arguments: str, **environment: str) -> AsyncGenerator[str, None]:
        """A server while the block runs; what it said is kept."""
        talkative = ("--log-level", "DEBUG", "--record", str(self.user.folder / "recorded"))
        async with self.user.runs(name, *arguments, *talkative, **environment) as running:
            try:
                yield await running.address() if name != "monitor" else ""
            finally:
                early = running.process.returncode
                if early is None:
                    running.process.terminate()
                ran = await running.ended()
                self.keep(name, ran)
                assert early is None, (name, ran)  # else the signal finds no process, which hides what it said

    async def does(self, *command: str, code: int | None = 0, **environment: str) -> Ran:
        ran = await self.user.run(*command, **environment)
        assert code is None or ran.code == code, ran
        self.keep(" ".join(command[:2]), ran)
        return ran

    async def submits(self, *arguments: str, code: int = 0, **environment: str) -> Ran:
        files = ("clip.mp4", "speech.wav", "-o", f"out-{len(self.said)}.mp4", "--json", *QUICK)
        talkative = ("--log-level", "DEBUG", "--record", "recorded")
        return await self.does("submit", *files, *talkative, *arguments, code=code, **environment)

    def keep(self, name: str, ran: Ran) -> None:
        self.said[f"{name} ({len(self.said)})"] = ran.out + ran.err

    def left(self, root: Path) -> Iterator[tuple[str, bytes]]:
        for name, text in self.said.items():
            yield f"what {name} said", text.encode()
        for path in root.rglob("*"):
            if path.is_file() and path.name not in HOLDERS and path.suffix != ".key":
                with contextlib.suppress(FileNotFoundError):  # programs run, and one has replaced it
                    yield str(path), path.read_bytes()


@pytest.fixture
def house(user: User, place: Place, tmp_path: Path) -> House:
    return House(user, place, Authority(tmp_path / "tls"))


@asynccontextmanager
async def everything(house: House) -> AsyncGenerator[None, None]:
    """Hub, worker and monitor."""
    listen = ("--listen", "127.0.0.1:0")
    engine = json.dumps([sys.executable, "-c", ENGINE, "{audio}", "{video}", "{output}"])
    keys, state = house.place.keys, str(house.place.folder / "hub")
    async with contextlib.AsyncExitStack() as stack:
        house.hub = await stack.enter_async_context(house.runs("hub", *listen, "--state", state, *house.tls))
        at_hub = ("--hub", house.hub)
        house.worker = await stack.enter_async_context(
            house.runs(
                "worker", *listen, "--state", "worker", *house.tls, *at_hub, "--engine", "command", "--command", engine,
                WAKESTREAM_KEY=keys["worker"],
            )
        )  # fmt: skip
        power = (
            "import json, os, pathlib, sys; pathlib.Path('power.environment').write_text(json.dumps(dict(os.environ)))"
        )
        off, on = (json.dumps([sys.executable, "-c", f"{power}; print('{word}')"]) for word in ("stopped", "running"))
        commands = ("--power", "command", "--start", off, "--stop", off, "--inspect", on, "--worker-url", house.worker)
        env = {"WAKESTREAM_KEY": keys["monitor"]}
        await stack.enter_async_context(house.runs("monitor", *at_hub, *commands, **env))
        house.user.environment["API_SERVER_URL"] = house.hub
        yield


async def use(house: House) -> None:
    """What people do, and what they do wrong."""
    await house.submits()
    await house.submits("--foreground", code=2, WAKESTREAM_KEY=WRONG_KEY)
    await house.submits("--hub", "https://127.0.0.1:9", "--hub-timeout", "0.2", code=4)
    await house.submits("--hub", f"https://user:{SECRET}@127.0.0.1", code=2)
    await house.does("status", "--json")
    await house.does("cost", "--json")
    await house.does("doctor", "--json", "--worker-url", house.worker, code=None, HEYGEM_API_SECRET=WRONG_SECRET)
    await house.does("license", "list", "--json", "--state", str(house.place.folder / "hub"))
    await house.does("license", "revoke", WRONG_KEY, "--state", str(house.place.folder / "hub"), code=2)
    async with house.runs("daemon"):
        await house.submits("--job-id", "by-daemon")
        await house.does("jobs", "--all", "--json")
        await house.does("cancel", "by-daemon", code=None)
        assert not seen_by_others(house)
        searched(house, house.user.folder.parent)  # now, as long as its token is known


async def abuse(house: House) -> None:
    """What strangers do, and people who got something wrong."""
    trust = ssl.create_default_context(cafile=house.authority.path)
    async with connect(f"{house.hub}?key={SECRET}", ssl=trust) as socket:
        key = house.place.keys["client"]
        await socket.send(f'{{"type":"register","key":"{key}"')
        await socket.send(f'["{key}"]')
        await socket.send(f'{{"type":"news","deep":[{{"token":"{key}","key":"{SECRET}"}}]}}')
        await socket.send(f'{{"type":"register","key":"{WRONG_KEY}","role":"client"}}')
        with contextlib.suppress(ConnectionClosed):
            while True:
                house.said[f"the hub {len(house.said)}"] = str(await socket.recv()).replace(key, "(sent it)")
    form = aiohttp.FormData({"hash": "0" * 64, "ext": ".mp4"})
    form.add_field("file", b"not what the hash says", filename="clip.mp4")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        for token in (WRONG_SECRET, f"eyJ{'A' * 40}.{'A' * 40}.{'B' * 86}", SECRET):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.ws_connect(f"{house.worker}/ws/progress/{token}?token={token}") as watched:
                house.said[f"progress {len(house.said)}"] = str((await watched.receive()).data)
            calls: Any = (("POST", "upload_file", {"data": form}), ("GET", f"progress?task_id={token}", {}))
            for method, name, options in calls if token == SECRET else calls[1:]:
                at = f"{house.worker}/api/heygem/{name}"
                async with session.request(method, at, headers=headers, **options) as response:
                    house.said[f"{name} {len(house.said)}"] = (await response.text()).replace(token, "(sent it)")


def seen_by_others(house: House) -> list[str]:
    """Command lines of running programs in which a secret stands."""
    shown = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes()
            shown += [line.decode(errors="replace")] if any(mark in line for mark in house.marks) else []
    return shown


def searched(house: House, root: Path) -> None:
    marks = house.marks
    found = [(where, mark) for where, content in house.left(root) for mark in marks if mark in content]
    found += [(where, b"a capability") for where, content in house.left(root) if CAPABILITY.search(content)]
    assert found == []


@pytest.fixture(autouse=True)
def _with_command_lines() -> Iterator[None]:
    with fork_server.without():
        yield


async def test_no_secret_is_left_anywhere(house: House, tmp_path: Path) -> None:
    async with everything(house):
        await use(house)
        await abuse(house)
        searched(house, tmp_path)  # with all journals open, and what is written ahead of them
    logs = sorted((house.user.folder / "recorded").glob("*.jsonl"))
    assert {path.name.partition("-")[0] for path in logs} >= {"hub", "worker", "monitor", "daemon"}
    assert b"[redacted]" in b"".join(path.read_bytes() for path in logs)
    for log in logs:
        if not log.name.startswith("worker"):
            await house.does("replay", str(log), code=None)
    kept = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert {".sqlite3", ".jsonl", ".environment"} <= kept
    said = "".join(house.said.values())
    assert "connection" in said
    assert "DEBUG" in said
    searched(house, tmp_path)


def test_the_search_finds_what_it_looks_for(house: House, tmp_path: Path) -> None:
    searched(house, tmp_path)
    for number, mark in enumerate((*house.marks, b"x eyJhbGciOiJFZERTQSJ9.eyJqb2IiOiJqMSIsImxpYyI6.abc")):
        planted = tmp_path / f"planted-{number}.sqlite3-wal"
        planted.write_bytes(b"\0" + mark + b"\0")
        with pytest.raises(AssertionError):
            searched(house, tmp_path)
        planted.unlink()
