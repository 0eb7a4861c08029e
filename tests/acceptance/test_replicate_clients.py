"""Replicate's own clients, unmodified, use the daemon's API: real hub, monitor, worker and daemon, with the GPU off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.programs.any_kind_scene import CUT, KINDS, Scene
from tests.support.programs.certificates import Authority
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Place
from tests.support.programs.replicate_scene import Programs, asleep, no_node, no_python, programs
from tests.support.programs.webhook_scene import Shop
from wakestream.adapters.daemon.replicate import api as replicate
from wakestream.adapters.daemon.replicate.api import Api

pytestmark = pytest.mark.timeout(120)

LARGE = 9_000_000
"""Bytes of an output that a prediction does not hold itself."""


@pytest.fixture
def scene(tmp_path: Path, user: User) -> Scene:
    return Scene(tmp_path, Place(tmp_path, user))


@pytest.fixture
async def api(scene: Scene) -> AsyncIterator[Programs]:
    """The API of a daemon whose GPU is on."""
    async with scene.gpu(), programs(scene) as found:
        yield found


RUN = {
    "python": """
output = replicate.run("wakestream/join", input={"first": io.BytesIO(b"abc"), "second": None, "times": 2})
say([output["whole"].read().decode(), output["log"]])
""",
    "js": """
const output = await replicate.run('wakestream/join', { input: { first: Buffer.from('abc'), times: 2 } })
say([(await bytes(output.whole)).toString(), output.log])
""",
}
CLIENTS = (pytest.param("python", marks=no_python), pytest.param("js", marks=no_node))


@pytest.mark.parametrize("client", CLIENTS)
async def test_run_wakes_the_gpu_and_gives_files_and_texts(scene: Scene, client: str) -> None:
    async with scene.place.hub() as hub, asleep(scene, hub) as machine, programs(scene) as api:
        assert machine.starts == 0
        assert await getattr(api, client)(RUN[client]) == ["abcabc", "join of first"]
        assert machine.starts == 1


RUN_LONGER = {
    "python": "say(replicate.run('a/join', input={'first': io.BytesIO(b'abc')}, wait=1)['log'])",
    "js": """
const wait = { mode: 'block', timeout: 1 }
say((await replicate.run('a/join', { input: { first: Buffer.from('abc') }, wait })).log)
""",
}


@pytest.fixture
def held(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine works on when a client asks for its prediction: after its wait, if it has one."""
    get = Api.get

    async def look(api: Api, request: web.Request) -> web.Response:
        scene.engine.go_on.set()
        return await get(api, request)

    monkeypatch.setattr(Api, "get", look)
    scene.engine.go_on.clear()


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("client", CLIENTS)
async def test_run_goes_on_when_its_wait_has_run_out(api: Programs, client: str) -> None:
    assert await getattr(api, client)(RUN_LONGER[client]) == "join of first"


FOLLOW = {
    "python": """
model = replicate.models.get("wakestream/join")
one = replicate.predictions.create(version=model.latest_version, input={"first": "data:text/plain;base64,YWJj"})
first = one.status
one.wait()
other = replicate.predictions.get(one.id)
other.reload()
say([first, one.status, other.output == one.output, one.progress.percentage, sorted(one.metrics),
     [each.id == one.id for each in replicate.predictions.list()], model.versions.list()[0].id == one.version])
""",
    "js": """
const model = await replicate.models.get('wakestream', 'join')
const input = { first: 'data:text/plain;base64,YWJj' }
const one = await replicate.predictions.create({ version: model.latest_version.id, input })
const ended = await replicate.wait(one, { interval: 50 })
const other = await replicate.predictions.get(one.id)
const listed = (await replicate.predictions.list()).results.map((each) => each.id === one.id)
const versions = await replicate.models.versions.list('wakestream', 'join')
say([one.status, ended.status, JSON.stringify(other.output) === JSON.stringify(ended.output), 1.0,
     Object.keys(ended.metrics).sort(), listed, versions.results[0].id === ended.version])
""",
}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_prediction_is_created_followed_and_listed(scene: Scene, api: Programs, client: str) -> None:
    await api.create(input={"first": "data:,abc", "times": 2})
    await scene.engine.began.wait()  # the next one waits for the GPU
    said = await getattr(api, client)(FOLLOW[client])
    assert said == ["starting", "succeeded", True, 1.0, ["predict_time", "total_time"], [True, False], True]


PAGES = {
    "python": """
ids = [replicate.predictions.create(model="a/join", input={"first": "data:,a"}).id for _ in range(3)]
pages = list(replicate.paginate(replicate.predictions.list))
say([[ids.index(each.id) for each in page] for page in pages])
""",
    "js": """
const ids = [], pages = []
const asked = { model: 'a/join', input: { first: 'data:,a' } }
while (ids.length < 3) ids.push((await replicate.predictions.create(asked)).id)
for await (const page of replicate.paginate(replicate.predictions.list)) pages.push(page)
say(pages.map((page) => page.map(({ id }) => ids.indexOf(id))))
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_pages_of_a_list_follow_each_other(
    api: Programs, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicate, "PAGE", 2)
    assert await getattr(api, client)(PAGES[client]) == [[2, 1], [0]]


CANCEL = {
    "python": """
one = replicate.predictions.create(model="a/join", input={"first": "data:,abc"})
one.cancel()
say(one.status)
""",
    "js": """
const one = await replicate.predictions.create({ model: 'a/join', input: { first: 'data:,abc' } })
say((await replicate.predictions.cancel(one.id)).status)
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_prediction_is_cancelled(scene: Scene, api: Programs, client: str) -> None:
    scene.engine.go_on.clear()
    assert await getattr(api, client)(CANCEL[client]) == "canceled"


STREAM = {
    "python": """
events = [(each.event.value, str(each.data)) for each in replicate.stream("a/join", input={"first": "data:,abc"})]
say([[kind for kind, _ in events if kind != "logs"], [text[:5] for kind, text in events if kind == "output"],
     any(kind == "logs" for kind, _ in events)])
""",
    "js": """
const kinds = [], outputs = []
for await (const each of replicate.stream('a/join', { input: { first: 'data:,abc' } })) {
  kinds.push(each.event)
  if (each.event === 'output') outputs.push(String(each.data).slice(0, 5))
}
say([kinds.filter((kind) => kind !== 'logs'), outputs, kinds.includes('logs')])
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_log_and_the_output_of_a_prediction_are_streamed(api: Programs, client: str) -> None:
    said = await getattr(api, client)(STREAM[client])
    assert said == [["output", "output", "done"], ["data:", "join "], True]


FILES = {
    "python": """
with open(told["path"], "rb") as file:
    kept = replicate.files.create(file, metadata={"for": "test"})
with open(told["path"], "rb") as file:
    small = replicate.run("a/join", input={"first": kept.urls["get"], "second": file}, file_encoding_strategy="base64")
names = [each.name for each in replicate.files.list()]
say([kept.name, kept.size, kept.content_type, small["whole"].read().decode(), "clip.txt" in names,
     replicate.files.get(kept.id).checksums == kept.checksums])
""",
    "js": """
const file = new File([Buffer.from('hello')], 'clip.txt', { type: 'text/plain' })
const kept = await replicate.files.create(file, { for: 'test' })
const small = await replicate.run('a/join', { input: { first: kept.urls.get, second: Buffer.from('hello') } })
const names = (await replicate.files.list()).results.map((each) => each.name)
const again = await replicate.files.get(kept.id)
say([kept.name, kept.size, kept.content_type, (await bytes(small.whole)).toString(), names.includes('clip.txt'),
     again.checksums.sha256 === kept.checksums.sha256])
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_files_are_uploaded_and_used(api: Programs, client: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.txt"
    path.write_text("hello")
    said = await getattr(api, client)(FILES[client], path=str(path))
    assert said == ["clip.txt", 5, "text/plain", "hellohello", True, True]


LARGE_FILE = {
    "python": """
whole = replicate.run("a/reverse", input={"first": open(told["path"], "rb")})
say([whole.url.split(":")[0], len(whole.read()), sum(map(len, whole))])
""",
    "js": """
import { readFile } from 'node:fs/promises'
const whole = await replicate.run('a/reverse', { input: { first: await readFile(told.path) } })
say([whole.url().protocol.slice(0, -1), (await bytes(whole)).length, told.size])
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_large_output_comes_by_https_with_an_address_of_its_own(
    scene: Scene, client: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "tls")
    cert, key = authority.issue("api")
    both = tmp_path / "api.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(LARGE))
    async with scene.gpu(), programs(scene, tls=both) as api:
        api.environment = {"SSL_CERT_FILE": str(authority.path), "NODE_EXTRA_CA_CERTS": str(authority.path)}
        said = await getattr(api, client)(LARGE_FILE[client], path=str(path), size=LARGE)
    assert said == ["https", LARGE, LARGE]


LIST = {
    "python": """
parts = replicate.run("a/cut", input={"files": [io.BytesIO(b"1"), io.BytesIO(b"2")], "parts": 3})
say([part.read().decode() for part in parts["parts"]])
""",
    "js": """
const files = [Buffer.from('1'), Buffer.from('2')]
const output = await replicate.run('a/cut', { input: { files, parts: 3 } })
say(await Promise.all(output.parts.map(async (part) => (await bytes(part)).toString())))
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_lists_of_files_go_in_and_come_out(scene: Scene, client: str) -> None:
    scene.engine.kinds = [*KINDS, CUT]
    async with scene.gpu(), programs(scene) as api:
        said = await getattr(api, client)(LIST[client])
    assert said == ["1 of 2 files", "2 of 2 files", "3 of 2 files"]


FAILS = {
    "python": """
try:
    replicate.run("a/join", input={"first": "data:,abc"})
except replicate.exceptions.ModelError as error:
    say(str(error))
""",
    "js": """
try {
  await replicate.run('a/join', { input: { first: 'data:,abc' } })
} catch (error) {
  say(error.message.replace('Prediction failed: ', ''))
}
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_failure_is_an_error_with_its_reason(scene: Scene, api: Programs, client: str) -> None:
    scene.engine.failing = 1
    assert "this work fails" in await getattr(api, client)(FAILS[client])


@no_python
async def test_the_asynchronous_calls_of_the_python_client_work(api: Programs) -> None:
    said = await api.python("""
async def main():
    client = replicate.Client()
    output = await client.async_run("a/join", input={"first": io.BytesIO(b"abc")})
    one = await client.predictions.async_create(model="a/join", input={"first": "data:,xyz"})
    await one.async_wait()
    pages = [page async for page in replicate.pagination.async_paginate(client.predictions.async_list)]
    events = [each.event.value async for each in await client.async_stream("a/join", input={"first": "data:,z"})]
    say([(await output["whole"].aread()).decode(), one.status, len(pages[0]), events[-1]])
asyncio.run(main())
""")
    assert said == ["abc", "succeeded", 2, "done"]


WEBHOOK = {
    "python": """
from replicate.webhook import Webhooks
secret = replicate.webhooks.default.secret()
Webhooks.validate(headers=told["headers"], body=told["body"], secret=secret)
say(json.loads(told["body"])["status"])
""",
    "js": """
const { key } = await replicate.webhooks.default.secret.get()
const valid = await validateWebhook({ ...told.parts, body: told.body, secret: key })
say(valid ? JSON.parse(told.body).status : 'not valid')
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_webhook_is_signed_as_the_client_checks_it(scene: Scene, client: str) -> None:
    async with scene.gpu(), Shop().open() as shop, programs(scene, webhook_hosts=("127.0.0.1",)) as api:
        await api.create(input={"first": "data:,abc"}, webhook=shop.url, webhook_events_filter=["completed"])
        call = await shop.hears()
        headers = {name.lower(): value for name, value in call.headers.items()}
        parts = {name: headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")}
        said = await getattr(api, client)(WEBHOOK[client], headers=headers, parts=parts, body=call.body.decode())
    assert said == "succeeded"


OTHERS = {
    "python": """
kept = replicate.files.create(io.BytesIO(b"abc"), filename="a.png")
say([[each.name for each in replicate.models.list()], [each.name for each in replicate.models.search("REV")],
     replicate.Client().accounts.current().name, replicate.files.delete(kept.id), len(replicate.files.list())])
""",
    "js": """
const kept = await replicate.files.create(new Blob(['abc']))
const names = (page) => page.results.map((each) => each.name)
say([names(await replicate.models.list()), names(await replicate.models.search('REV')),
     (await replicate.accounts.current()).name, await replicate.files.delete(kept.id),
     (await replicate.files.list()).results.length])
""",
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_models_are_searched_and_files_are_removed(api: Programs, client: str) -> None:
    assert await getattr(api, client)(OTHERS[client]) == [["join", "reverse"], ["reverse"], "shop", True, 0]
