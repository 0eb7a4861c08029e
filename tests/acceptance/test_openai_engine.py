"""The engine `openai` against a real llama.cpp server (`make engines`) with a model of random weights."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.support.engines.real_servers import Server, llama_server, needs, until
from tests.support.engines.through_worker import worker_of
from wakestream.adapters.engines import openai
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.testing.engine_run import run_engine
from wakestream.operators.model.engine import Made, Work
from wakestream.operators.model.errors import TaskFailed, WrongInput

pytestmark = [needs("llama"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of the file."""
    found = llama_server(tmp_path_factory.mktemp("llama"))
    asyncio.run(asyncio.wait_for(_loaded(found), 100))
    yield found
    found.kill()


async def _loaded(server: Server) -> None:
    await server.start()
    engine = at(server)

    async def ready() -> bool:
        return (await engine.ready()).ready

    await until(ready)
    await engine.close()


def at(server: Server, path: str = "/v1") -> openai.OpenAI:
    return openai.create(EngineConfig({"url": f"{server.url}{path}"}))


async def test_the_servers_model_is_a_kind_that_writes_texts(server: Server) -> None:
    engine = at(server)
    (kind,) = await engine.describe()
    await engine.close()
    assert (kind.name, kind.seed, [slot.name for slot in kind.outputs]) == ("complete", "seed", ["text"])
    assert kind.params["properties"]["model"]["enum"] == ["tiny.gguf"]


async def test_a_job_through_a_worker_gets_the_text_and_the_same_one_for_the_same_seed(
    server: Server, tmp_path: Path
) -> None:
    engine = at(server, "")
    async with worker_of(engine, tmp_path) as desk:
        texts = []
        for number, seed in enumerate((7, 7, 8)):
            made = await desk.run(
                "complete", {}, {"text": f"{number}.txt"}, prompt=f"hi{' ' * number}", seed=seed, max_tokens=40,
                temperature=1,
            )  # fmt: skip
            texts.append(made["text"].read_text())
    assert all(texts)
    assert texts[1] != texts[2]


async def test_progress_counts_the_tokens_of_the_stream(server: Server, tmp_path: Path) -> None:
    engine = at(server)
    params = {"prompt": "hi", "max_tokens": 60, "temperature": 0}
    run = await run_engine(engine, "complete", {}, params, folder=tmp_path)
    await engine.close()
    assert run.frames[0].frames == 60
    assert run.lines == [
        "the model stopped at its limit of tokens, so the text may be cut off; give a larger max_tokens"
    ]


@pytest.mark.parametrize(
    ("params", "inputs", "fault", "said"),
    [
        ({"prompt": "abc " * 200}, {}, WrongInput, r"HTTP 400: request \(\d+ tokens\) exceeds the available context"),
        ({"prompt": "hi"}, {"images": b"\x89PNG"}, TaskFailed, "HTTP 500: image input is not supported"),
        ({}, {}, WrongInput, "there is no text; give the parameter prompt, or the input text"),
        ({"prompt": "hi"}, {"text": b"\xff"}, WrongInput, "the file is not UTF-8"),
    ],
)  # fmt: skip
async def test_what_the_server_does_not_take_is_said_in_its_words(
    server: Server, tmp_path: Path, params: dict[str, str], inputs: dict[str, bytes], fault: type[Exception], said: str
) -> None:
    files = {}
    for name, content in inputs.items():
        files[name] = tmp_path / (f"{name}.png" if name == "images" else f"{name}.txt")
        files[name].write_bytes(content)
    engine = at(server)
    (tmp_path / "out").mkdir()
    with pytest.raises(fault, match=said):
        await run_engine(engine, "complete", files, params, folder=tmp_path / "out")
    await engine.close()


async def test_speech_is_refused_by_a_server_that_cannot_speak(server: Server, tmp_path: Path) -> None:
    manifest = tmp_path / "kinds.toml"
    manifest.write_text('[kinds.say]\ntask = "speak"\nmodel = "tiny.gguf"\nparams.voice = { enum = ["anna"] }\n')
    engine = openai.create(EngineConfig({"url": server.url, "manifest": str(manifest)}))
    with pytest.raises(TaskFailed, match=r"cannot do this \(HTTP 404: File Not Found for /v1/audio/speech\)"):
        await run_engine(engine, "say", {}, {"text": "hi", "voice": "anna"}, folder=tmp_path)
    await engine.close()


async def test_a_work_that_is_cancelled_ends_in_the_server_too(server: Server, tmp_path: Path) -> None:
    engine = at(server)
    (first,) = await engine.describe()
    work = Work("w", first.name, {}, {"prompt": "hi", "seed": 3}, ("text",), tmp_path)  # up to the end of the context
    async with aclosing(engine.render(work)) as items:
        await anext(items)
    await engine.cancel(work)
    after = Work("x", first.name, {}, {"prompt": "hi", "seed": 3, "max_tokens": 3}, ("text",), tmp_path)
    async with asyncio.timeout(100), aclosing(engine.render(after)) as items:
        assert isinstance([item async for item in items][-1], Made)  # the one slot is free
    await engine.close()
