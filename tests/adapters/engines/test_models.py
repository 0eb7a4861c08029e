"""Models of a manifest against a server that redirects, wants tokens, breaks off, and changes its files."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.support.engines.pair import QuietEngine
from tests.support.engines.real_servers import until
from tests.support.engines.through_worker import worker_of
from tests.support.log_lines import logged
from tests.support.programs import plain_server
from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.disk.part_file import beside
from wakestream.adapters.engines import command
from wakestream.adapters.engines import models as m
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.model_files import Model, described, models_in
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.engine import Frame, Kind, Line, Made, Slot, Waits, Work
from wakestream.operators.model.errors import TaskFailed

TOKEN = Secret("hf_0123456789abcdef")
DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


class Hub:
    """A server of models as Hugging Face is: `/gated` wants a token and redirects to another server, `/NAME` is a file.

    Attributes:
        data: The file.
        status: Answers with it, if it is not 200.
        cut: So many bytes of an answer are sent before the connection breaks; None: all.
        asked: The paths, ranges and tokens of all requests.
        ranges: Whether it answers ranges.
    """

    def __init__(self) -> None:
        self.data, self.status, self.ranges = DATA, 200, True
        self.cut: list[int] = []
        self.asked: list[tuple[str, str, str]] = []
        self.url = self.elsewhere = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        head = request.headers
        self.asked.append((request.path_qs, head.get("Range", ""), head.get("Authorization", "")))
        if request.path == "/gated":
            known = head.get("Authorization") == f"Bearer {TOKEN}"
            where = {"Location": f"{self.elsewhere}/signed?Signature=a%2Bb%3D"}
            return web.Response(status=302, headers=where) if known else web.Response(status=401)
        if request.path == "/loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        if self.status != 200:
            return web.Response(status=self.status)
        await self.gate.wait()
        begin = int((re.findall(r"bytes=(\d+)-", head.get("Range", "")) or ["0"])[0]) if self.ranges else 0
        if begin >= len(self.data):
            return web.Response(status=416)
        part = self.data[begin:]
        answer = web.StreamResponse(status=206 if begin else 200)
        answer.content_length = len(part)
        if begin:
            answer.headers["Content-Range"] = f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}"
        await answer.prepare(request)
        end = self.cut.pop(0) if self.cut else len(part)
        await answer.write(part[:end])
        if end < len(part):
            assert request.transport is not None
            await asyncio.sleep(0)
            request.transport.close()
        return answer


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(m, "AGAIN", 0.001)
    monkeypatch.setattr(m, "LONGEST", 0.002)
    found = Hub()
    async with plain_server.answering(found.answer) as found.url, plain_server.answering(found.answer) as other:
        found.elsewhere = other
        yield found


def model(hub: Hub, path: str = "a.safetensors", file: str = "checkpoints/a.safetensors", **fields: object) -> Model:
    return Model(**{"file": file, "url": f"{hub.url}/{path}", "size": len(DATA), "sha256": SHA, **fields})  # type: ignore[arg-type]


def place(folder: Path) -> Path:
    """Where the model belongs, in a folder that is there."""
    path = folder / "checkpoints" / "a.safetensors"
    path.parent.mkdir()
    return path


@asynccontextmanager
async def fetching(models: m.Models) -> AsyncIterator[None]:
    task = asyncio.create_task(models.run())
    try:
        yield
    finally:
        await end(task)


async def settled(models: m.Models, kind: str = "k") -> str:
    """The fault of the kind's models; empty when all are there."""
    async with fetching(models):
        while models.missing(kind) and not models.fault(kind):
            await models.changed()
    return models.fault(kind)


async def test_a_model_is_fetched_and_verified_and_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    models = m.Models({"k": [model(hub)]}, tmp_path)
    assert models.text() == "fetching a.safetensors, 0.0 of 1.0 MB"
    assert await settled(models) == ""
    assert (tmp_path / "checkpoints" / "a.safetensors").read_bytes() == DATA
    assert [each.name for each in (tmp_path / "checkpoints").iterdir()] == ["a.safetensors"]
    assert models.text() == ""
    assert await settled(m.Models({"k": [model(hub)]}, tmp_path)) == ""
    assert len(hub.asked) == 1


async def test_a_transfer_that_breaks_off_is_continued_also_by_the_next_run(hub: Hub, tmp_path: Path) -> None:
    path = place(tmp_path)
    beside(path, SHA).write_bytes(DATA[:1000])
    hub.cut = [300_000, 200_000]
    assert await settled(m.Models({"k": [model(hub)]}, tmp_path)) == ""
    assert path.read_bytes() == DATA
    begins = [int(range_[6:-1]) for _, range_, _ in hub.asked]
    assert begins[0] == 1000
    assert begins == sorted(begins)
    assert len(begins) == 3


async def test_a_token_is_sent_to_one_host_only(hub: Hub, tmp_path: Path) -> None:
    other = model(hub, "b.pt", "loras/b.pt", url=f"{hub.url}/b.pt".replace("127.0.0.1", "localhost"))
    needs = {"k": [model(hub, "gated"), other]}
    for host in ("", "huggingface.co"):
        with pytest.raises(SettingsError, match=r"127\.0\.0\.1, localhost; .* HOST=FILE"):
            m.Models(needs, tmp_path, token=TOKEN, host=host)
    assert await settled(m.Models(needs, tmp_path, token=TOKEN, host="127.0.0.1")) == ""
    asked = {path.partition("?")[0]: bool(token) for path, _, token in hub.asked}
    assert asked == {"/gated": True, "/signed": False, "/b.pt": False}


async def test_a_token_is_sent_to_its_own_server_only_and_is_in_no_line(hub: Hub, tmp_path: Path) -> None:
    refused = await settled(m.Models({"k": [model(hub, "gated")]}, tmp_path))
    assert refused == "127.0.0.1 wants a token for a.safetensors (HTTP 401); give --models-token FILE"
    wrong = await settled(m.Models({"k": [model(hub, "gated")]}, tmp_path, token=Secret("hf_wrong-0123456789")))
    assert "does not accept the token for a.safetensors (HTTP 401); accept the model's conditions" in wrong
    hub.asked.clear()
    hub.cut = [300_000]
    models = m.Models({"k": [model(hub, "gated")]}, tmp_path, token=TOKEN)
    with logged("DEBUG") as lines:
        assert await settled(models) == ""
    assert {(path, token) for path, _, token in hub.asked} == {
        ("/gated", f"Bearer {TOKEN}"), ("/signed?Signature=a%2Bb%3D", "")
    }  # fmt: skip
    said = "\n".join([*lines, refused, wrong, repr(vars(models))])
    assert "checkpoints/a.safetensors is there" in said
    for secret in (TOKEN, "hf_wrong", "Signature"):
        assert secret not in said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "wants a token for a.safetensors (HTTP 403)"),
        (404, "does not hand out a.safetensors (HTTP 404); correct its url"),
        (416, "the file has changed there: correct size and sha256"),
    ],
)
async def test_a_refusal_is_a_sentence_that_says_what_to_do(hub: Hub, tmp_path: Path, status: int, said: str) -> None:
    hub.status = status
    assert said in await settled(m.Models({"k": [model(hub)]}, tmp_path))


async def test_a_server_that_redirects_for_ever_or_away_from_https_is_refused(hub: Hub, tmp_path: Path) -> None:
    assert "more than 5 times" in await settled(m.Models({"k": [model(hub, "loop")]}, tmp_path))
    with pytest.raises(m._Fault, match="to an address that is not https"):
        m._redirected(model(hub), m.URL("https://a.example/x"), "http://b.example/y")


async def test_a_file_that_changed_at_the_server_is_never_put_in_place(hub: Hub, tmp_path: Path) -> None:
    hub.data = DATA[:-1]
    said = await settled(m.Models({"k": [model(hub)]}, tmp_path))
    assert said.startswith("127.0.0.1 has 1023999 bytes of a.safetensors, the manifest says 1024000")
    hub.data = DATA[:-1] + b"x"
    assert "has the SHA-256" in await settled(m.Models({"k": [model(hub)]}, tmp_path))
    path = tmp_path / "checkpoints" / "a.safetensors"
    assert not path.exists()
    hub.data = DATA
    beside(path, SHA).write_bytes(b"old" * 1000)  # the part of an earlier file
    assert await settled(m.Models({"k": [model(hub)]}, tmp_path)) == ""
    assert path.read_bytes() == DATA


async def test_a_server_without_ranges_begins_anew(hub: Hub, tmp_path: Path) -> None:
    hub.ranges, hub.cut = False, [300_000]
    assert await settled(m.Models({"k": [model(hub)]}, tmp_path)) == ""
    assert (tmp_path / "checkpoints" / "a.safetensors").read_bytes() == DATA


async def test_another_file_of_the_user_is_left_as_it_is(hub: Hub, tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_bytes(b"mine")
    said = await settled(m.Models({"k": [model(hub)]}, tmp_path))
    assert said == f"{path} has 4 bytes, the manifest says 1024000; remove it, or correct the manifest"
    assert path.read_bytes() == b"mine"


async def test_a_full_disk_is_told_before_anything_is_written(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m, "disk_usage", lambda _: SimpleNamespace(free=m.KEPT_FREE + 1000))
    said = await settled(m.Models({"k": [model(hub)]}, tmp_path))
    assert said == f"a.safetensors needs 1024000 bytes more, {tmp_path} has room for 1000; free some"


async def test_a_server_that_stays_away_is_a_fault_at_last(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 503
    models = m.Models({"k": [model(hub)]}, tmp_path)
    async with fetching(models):
        await models.changed()
        assert models.text().endswith("0.0 of 1.0 MB; 127.0.0.1 answers HTTP 503, it is tried again in 0 s")
    monkeypatch.setattr(m, "PATIENCE", -1.0)
    assert await settled(models) == "a.safetensors cannot be fetched: 127.0.0.1 answers HTTP 503"


class Engine(QuietEngine):
    kinds = (Kind("k", (), (Slot("text"),)), Kind("other", (), (Slot("text"),)))

    async def render(self, work: Work) -> AsyncIterator[Frame | Line | Made]:  # type: ignore[override]
        yield Frame(1, 1, 100.0)


async def test_a_work_waits_until_the_models_of_its_kind_are_there(hub: Hub, tmp_path: Path) -> None:
    models = m.Models({"k": [model(hub), model(hub, "b.pt", "loras/b.pt")]}, tmp_path)
    engine = m.WithModels(Engine(), models)
    hub.gate.clear()
    async with fetching(models):
        state = await engine.ready()
        assert (state.ready, state.reason) == (True, "fetching a.safetensors and 1 more, 0.0 of 2.0 MB")
        async with aclosing(engine.render(Work("w", "other", {}, {}, ("text",), tmp_path))) as items:
            assert [item async for item in items] == [Frame(1, 1, 100.0)]
        async with aclosing(engine.render(Work("w", "k", {}, {}, ("text",), tmp_path))) as items:
            first = await anext(items)
            hub.gate.set()
            rest = [item async for item in items if not isinstance(item, Waits)]
    assert first == Waits("the work waits for 0 s: fetching a.safetensors and 1 more, 0.0 of 2.0 MB")
    assert rest == [Line("the wait is over; the engine works on it"), Frame(1, 1, 100.0)]


async def test_a_kind_whose_model_cannot_be_fetched_is_not_offered(hub: Hub, tmp_path: Path) -> None:
    hub.status = 404
    models = m.Models({"k": [model(hub)]}, tmp_path)
    engine = m.WithModels(Engine(), models)
    await settled(models)
    assert [kind.name for kind in await engine.describe()] == ["other"]
    state = await engine.ready()
    assert state.ready
    assert "does not hand out a.safetensors" in state.reason
    with pytest.raises(TaskFailed, match="does not hand out"):
        await anext(engine.render(Work("w", "k", {}, {}, ("text",), tmp_path)))


MANIFEST = """
[kinds.copy]
command = ["cp", "{in:text}", "{out:text}"]
inputs.text = { accepts = ["text"] }
outputs.text = { accepts = [".txt"] }
"""


async def test_a_job_says_what_is_fetched_while_it_waits_for_it(hub: Hub, tmp_path: Path) -> None:
    wanted = model(hub)
    table = f'[kinds.copy.models."{wanted.file}"]\nurl = "{wanted.url}"\nsize = {wanted.size}\nsha256 = "{SHA}"\n'
    (tmp_path / "kinds.toml").write_text(MANIFEST + table)
    (tmp_path / "in.txt").write_text("hello")
    engine = command.create(EngineConfig({"manifest": str(tmp_path / "kinds.toml")}))
    models = m.Models(models_in(tmp_path / "kinds.toml"), tmp_path / "models")
    hub.gate.clear()

    async def waits() -> bool:
        return bool(desk.waits)

    async with worker_of(engine, tmp_path / "w", models=models) as desk:
        health = await desk.workers.at(None).health()
        assert (health.msg, health.busy) == ("fetching a.safetensors, 0.0 of 1.0 MB", 1), "so its machine stays on"
        job = asyncio.create_task(desk.run("copy", {"text": tmp_path / "in.txt"}, {"text": "out.txt"}))
        await until(waits)
        assert desk.waits == ["fetching a.safetensors, 0.0 of 1.0 MB"]
        hub.gate.set()
        assert (await job)["text"].read_text() == "hello"
        assert (await desk.workers.at(None).health()).msg == "ok"
    assert (tmp_path / "models" / wanted.file).read_bytes() == DATA


async def test_sizes_and_hashes_are_asked_of_the_server_as_hugging_face_tells_them(hub: Hub) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/a":
            told = {"X-Linked-Size": "7", "X-Linked-ETag": f'"{SHA}"', "Location": "/signed"}
            return web.Response(status=302, headers=told)
        return web.Response(status=403 if request.path == "/signed" else 200, body=b"123")

    async with plain_server.answering(answer) as url:
        assert await described({"x/a": f"{url}/a"}) == [Model("x/a", f"{url}/a", 7, SHA)]
        assert await described({"b": f"{url}/b#sha256={SHA}"}) == [Model("b", f"{url}/b", 3, SHA)]
        with pytest.raises(SettingsError, match=r"does not tell the SHA-256; give it: .*/b#sha256=HEX"):
            await described({"b": f"{url}/b"})
        with pytest.raises(SettingsError, match=r"does not tell the size \(HTTP 403\)"):
            await described({"b": f"{url}/signed"})


TABLE = f'url = "https://a.example/m"\nsize = 5\nsha256 = "{SHA}"\n'


@pytest.mark.parametrize(
    ("file", "table", "said"),
    [
        ("../a.pt", TABLE, "must be a path in the folder of models"),
        ("/etc/passwd", TABLE, "must be a path"),
        ("a\\\\..\\\\b", TABLE, "must be a path"),
        (".ssh/a", TABLE, "must be a path"),
        ("C:a", TABLE, "must be a path"),
        ("a.pt", TABLE.replace("https", "http"), "begins with https://"),
        ("a.pt", TABLE.replace("//", "//me:pw@"), "without a user"),
        ("a.pt", TABLE.replace("= 5", "= 0"), "the number of bytes"),
        ("a.pt", TABLE.replace(SHA, "abc"), "64 hexadecimal"),
        ("a.pt", 'url = "https://a.example/m"\n', 'needs "url", "size" and "sha256"'),
    ],
)
def test_a_model_that_leaves_the_folder_or_cannot_be_verified_is_refused(
    tmp_path: Path, file: str, table: str, said: str
) -> None:
    (tmp_path / "kinds.toml").write_text(f'[kinds.k.models."{file}"]\n{table}')
    with pytest.raises(SettingsError, match=re.escape(said)):
        models_in(tmp_path / "kinds.toml")


def test_all_models_together_keep_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "kinds.toml").write_text(f'[kinds.k.models."a.pt"]\n{TABLE}[kinds.l.models."a.pt"]\n{TABLE}')
    needs = models_in(tmp_path / "kinds.toml")
    m.Models(needs, tmp_path, 5)
    with pytest.raises(SettingsError, match="the models of the manifest have 5 bytes, and --models-max allows 4"):
        m.Models(needs, tmp_path, 4)
