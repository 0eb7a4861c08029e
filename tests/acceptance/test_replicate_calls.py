"""The table of calls in docs/api-replicate.md is what Replicate's own clients, unmodified, find here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Place
from tests.support.programs.replicate_scene import Programs, no_node, no_python, no_python_2, programs

pytestmark = pytest.mark.timeout(120)

PAGE = Path(__file__).parents[2] / "docs" / "api-replicate.md"
NO_CALL = "\N{EN DASH}"
COLUMNS = ("python", "python_2", "js")

# Each call as an expression that is true if it works, or the word `differs`; empty if the client has no such call.
CALLS: dict[str, tuple[str, str, str]] = {
    "run": (
        "text(replicate.run(model, input=given)['whole']) == 'abc'",
        "text(replicate.run(model, input=given)['whole']) == 'abc'",
        "(await bytes((await replicate.run(model, { input: given })).whole)).toString() === 'abc'",
    ),
    "run with files": (
        "text(replicate.run(model, input={'first': io.BytesIO(b'abc')})['whole']) == 'abc'",
        "text(replicate.run(model, input={'first': io.BytesIO(b'abc')})['whole']) == 'abc'",
        "String(await bytes((await replicate.run(model, { input: { first: Buffer.from('abc') } })).whole)) === 'abc'",
    ),
    "run with an output as input": (
        "text(replicate.run(model, input={'first': one.output['whole']})['whole']) == 'abc'",
        "text(replicate.run(model, input={'first': one.output['whole']})['whole']) == 'abc'",
        "await refused((first) => replicate.run(model, { input: { first } }), given)",
    ),
    "use": ("", "replicate.use('wakestream/join')(**given)['log'] == 'join of first'", ""),
    "use with files": (
        "",
        "replicate.use('wakestream/join')(first=io.BytesIO(b'abc'))['log'] == 'join of first'",
        "",
    ),
    "use, its files": (
        "", "'differs' if isinstance(replicate.use('wakestream/join')(**given)['whole'], str) else True", "",
    ),
    "stream": (
        "[event.event.value for event in replicate.stream(model, input=given)][-1] == 'done'",
        "bool(list(replicate.stream('wakestream/reverse', input=given)))",
        "(await all(replicate.stream(model, { input: given }))).at(-1).event === 'done'",
    ),
    "predictions.create": (
        "replicate.predictions.create(version='join', input=given).id",
        "replicate.predictions.create(version='join', input=given).id",
        "(await replicate.predictions.create({ version: 'join', input: given })).id",
    ),
    "predictions.get": (
        "replicate.predictions.get(one.id).status == 'succeeded'",
        "replicate.predictions.get(prediction_id=one.id).status == 'succeeded'",
        "(await replicate.predictions.get(one.id)).status === 'succeeded'",
    ),
    "predictions.wait": (
        "waited(replicate.predictions.create(version='join', input=given)).status == 'succeeded'",
        "replicate.predictions.wait(one.id).status == 'succeeded'",
        "(await replicate.wait(one)).status === 'succeeded'",
    ),
    "predictions.cancel": (
        "replicate.predictions.cancel(one.id).id == one.id",
        "replicate.predictions.cancel(prediction_id=one.id).id == one.id",
        "(await replicate.predictions.cancel(one.id)).id === one.id",
    ),
    "predictions.list": (
        "replicate.predictions.list().results",
        "list(replicate.predictions.list())",
        "(await replicate.predictions.list()).results.length > 0",
    ),
    "models.list": (
        "replicate.models.list().results", "list(replicate.models.list())",
        "(await replicate.models.list()).results.length > 0",
    ),
    "models.search": (
        "replicate.models.search('join').results", "list(replicate.models.search(body='join'))",
        "(await replicate.models.search('join')).results.length > 0",
    ),
    "models.get": (
        "replicate.models.get(model).name == 'join'",
        "replicate.models.get(model_owner='wakestream', model_name='join').name == 'join'",
        "(await replicate.models.get('wakestream', 'join')).name === 'join'",
    ),
    "models.versions.list": (
        "replicate.models.get(model).versions.list().results",
        "list(replicate.models.versions.list(model_owner='wakestream', model_name='join'))",
        "(await replicate.models.versions.list('wakestream', 'join')).results.length > 0",
    ),
    "models.versions.get": (
        "replicate.models.get(model).versions.get(one.version).id",
        "replicate.models.versions.get(model_owner='wakestream', model_name='join', version_id=one.version).id",
        "(await replicate.models.versions.get('wakestream', 'join', one.version)).id",
    ),
    "models.predictions.create": (
        "replicate.models.predictions.create(model, input=given).id",
        "replicate.models.predictions.create(model_owner='wakestream', model_name='join', input=given).id",
        "",
    ),
    "models.examples.list": (
        "", "list(replicate.models.examples.list(model_owner='wakestream', model_name='join'))", "",
    ),
    "models.readme.get": ("", "replicate.models.readme.get(model_owner='wakestream', model_name='join')", ""),
    "models.create": (
        "replicate.models.create(owner='me', name='a', visibility='private', hardware='cpu')",
        "replicate.models.create(owner='me', name='a', visibility='private', hardware='cpu')",
        "await replicate.models.create('me', 'a', { visibility: 'private', hardware: 'cpu' })",
    ),
    "deployments.predictions.create": (
        "replicate.deployments.predictions.create('me/join', input=given).id",
        "replicate.deployments.predictions.create(deployment_owner='me', deployment_name='join', input=given).id",
        "(await replicate.deployments.predictions.create('me', 'join', { input: given })).id",
    ),
    "deployments.list": (
        "replicate.deployments.list()", "list(replicate.deployments.list())", "await replicate.deployments.list()",
    ),
    "deployments.get": (
        "replicate.deployments.get('me/join')",
        "replicate.deployments.get(deployment_owner='me', deployment_name='join')",
        "await replicate.deployments.get('me', 'join')",
    ),
    "files.create": (
        "replicate.files.create(io.BytesIO(b'abc'), filename='a.png').name == 'a.png'",
        "replicate.files.create(content=b'abc', filename='a.png', type='image/png').name == 'a.png'",
        "(await replicate.files.create(new File(['abc'], 'a.png'))).name === 'a.png'",
    ),
    "files.get": (
        "replicate.files.get(replicate.files.create(io.BytesIO(b'abc')).id).size == 3",
        "replicate.files.get(file_id=replicate.files.create(content=b'abc').id).size == 3",
        "(await replicate.files.get((await replicate.files.create(new Blob(['abc']))).id)).size === 3",
    ),
    "files.list": (
        "replicate.files.list()", "list(replicate.files.list())", "(await replicate.files.list()).results.length > 0",
    ),
    "files.download": (
        "",
        "'differs' if replicate.files.download(file_id=replicate.files.create(content=b'abc').id, expiry=1,"
        " owner='me', signature='any').read() == b'abc' else False",
        "",
    ),
    "files.delete": (
        "replicate.files.delete(replicate.files.create(io.BytesIO(b'abc')).id)",
        "replicate.files.delete(file_id=replicate.files.create(content=b'abc').id) is None",
        "await replicate.files.delete((await replicate.files.create(new Blob(['abc']))).id)",
    ),
    "webhooks.default.secret": (
        "replicate.webhooks.default.secret().key",
        "replicate.webhooks.default.secret.get().key",
        "(await replicate.webhooks.default.secret.get()).key",
    ),
    "accounts.current": (
        "replicate.Client().accounts.current().name == 'shop'",
        "replicate.account.get().name == 'shop'",
        "(await replicate.accounts.current()).name === 'shop'",
    ),
    "search": ("", "replicate.Replicate().search(query='join')", ""),
    "collections.list": (
        "replicate.collections.list()", "list(replicate.collections.list())", "await replicate.collections.list()",
    ),
    "hardware.list": ("replicate.hardware.list()", "replicate.hardware.list()", "await replicate.hardware.list()"),
    "trainings.list": (
        "replicate.trainings.list()", "list(replicate.trainings.list())", "await replicate.trainings.list()",
    ),
    "trainings.create": (
        "replicate.trainings.create(model='me/a', version='b', input={}, destination='me/c')",
        "replicate.trainings.create(model_owner='me', model_name='a', version_id='b', destination='me/c', input={})",
        "await replicate.trainings.create('me', 'a', 'b', { destination: 'me/c', input: {} })",
    ),
}  # fmt: skip

_GIVEN = "data:text/plain;base64,YWJj"
_PYTHON = f"""
model, given = "wakestream/join", {{"first": "{_GIVEN}"}}
def text(file): return (file if hasattr(file, "read") else None).read().decode()
def waited(prediction):
    prediction.wait()
    return prediction
def tried(code):
    try:
        value = eval(code)
    except Exception as error:
        status = getattr(error, "status", None) or getattr(error, "status_code", None)
        status = status or getattr(getattr(error, "response", None), "status_code", None)
        return "not here" if status in (404, 405) else f"fails: {{error!r}}"
    return value if value == "differs" else "works" if value else "fails"
"""
_TRIED = """
say({name: tried(code) for name, code in told["calls"].items()})
"""
PROGRAMS = {
    "python": _PYTHON
    + "one = replicate.predictions.create(version='join', input=given)\none.wait()" + _TRIED,
    "python_2": _PYTHON
    + "one = replicate.predictions.wait(replicate.predictions.create(version='join', input=given).id)" + _TRIED,
    "js": f"""
const model = 'wakestream/join', given = {{ first: '{_GIVEN}' }}
const all = async (stream) => {{ const seen = []; for await (const each of stream) seen.push(each); return seen }}
const refused = async (call, given) => {{
  const first = (await replicate.run(model, {{ input: given }})).whole
  return call(first).then(() => true, (error) => error.response?.status === 422 ? 'differs' : false)
}}
const one = await replicate.wait(await replicate.predictions.create({{ version: 'join', input: given }}))
const tried = async (code) => {{
  try {{
    const value = await eval(`(async () => ${{code}})()`)
    return value === 'differs' ? value : value ? 'works' : 'fails'
  }} catch (error) {{
    return [404, 405].includes(error.response?.status) ? 'not here' : `fails: ${{error}}`
  }}
}}
const said = {{}}
for (const [name, code] of Object.entries(told.calls)) said[name] = await tried(code)
say(said)
""",
}  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path, user: User) -> AsyncIterator[Programs]:
    scene = Scene(tmp_path, Place(tmp_path, user))
    async with scene.gpu(), programs(scene) as found:
        yield found


def documented() -> dict[str, list[str]]:
    """The cells of the table, by call."""
    rows = PAGE.read_text("utf-8").partition("| call |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name: cells for name, *cells in ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)}


@pytest.mark.parametrize(
    "client",
    [
        pytest.param("python", marks=no_python),
        pytest.param("python_2", marks=no_python_2),
        pytest.param("js", marks=no_node),
    ],
)
async def test_the_table_says_what_each_call_of_a_client_does(api: Programs, client: str) -> None:
    column = COLUMNS.index(client)
    calls = {name: codes[column] for name, codes in CALLS.items() if codes[column]}
    said = await getattr(api, client)(PROGRAMS[client], calls=calls)
    assert said == {name: cells[column] for name, cells in documented().items() if cells[column] != NO_CALL}


def test_the_table_has_each_call() -> None:
    assert [*documented()] == [*CALLS]
