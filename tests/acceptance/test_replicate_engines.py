"""A kind of each engine is run by Replicate's client: real Cog and Gradio servers, a fake ComfyUI, and a program."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cog_engine import COPY, SAYS
from tests.acceptance.test_comfyui_engine import INVERT
from tests.support.browser.studio import png
from tests.support.engines.comfyui_place import Place as ComfyPlace
from tests.support.engines.comfyui_place import place_of
from tests.support.engines.comfyui_server import FakeComfyUi
from tests.support.engines.real_servers import cog_server, gradio_server, needs, running
from tests.support.ports import free_port
from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Place, gpu_online
from tests.support.programs.replicate_scene import no_python, programs
from wakestream.adapters.engines import cog, gradio
from wakestream.adapters.engines.config import EngineConfig, make_engine
from wakestream.operators.model.engine import Engine

pytestmark = [no_python, pytest.mark.timeout(180)]

TOOL = Path(__file__).parents[1] / "support" / "engines" / "tool.py"
REVERSE = f"""
[kinds.turn]
command = [{json.dumps(sys.executable)}, "tool.py", "reverse", "{{in:file}}", "{{out:result}}"]
[kinds.turn.inputs.file]
[kinds.turn.outputs.result]
accepts = [".bin"]
"""
PAINT = """
[kinds.paint]
workflow = "invert.json"
[kinds.paint.inputs.image]
node = "1.inputs.image"
accepts = ["image"]
[kinds.paint.outputs.image]
node = "3"
"""


@asynccontextmanager
async def program(folder: Path) -> AsyncIterator[Engine]:
    (folder / "tool.py").write_bytes(TOOL.read_bytes())
    (folder / "kinds.toml").write_text(REVERSE)
    yield make_engine("command", EngineConfig({"manifest": str(folder / "kinds.toml")}))


def of_cog(model: str, schema: dict[str, Any]) -> Callable[[Path], AbstractAsyncContextManager[Engine]]:
    @asynccontextmanager
    async def engine(folder: Path) -> AsyncIterator[Engine]:
        port = free_port()
        async with running(cog_server(folder / "cog", model, schema, f"http://127.0.0.1:{port}/out/")) as server:
            options = {"url": server.url, "listen": f"127.0.0.1:{port}"}
            yield cog.create(EngineConfig(options, folder=folder / "engine"))

    return engine


@asynccontextmanager
async def of_gradio(folder: Path) -> AsyncIterator[Engine]:
    async with running(gradio_server(folder / "gradio")) as server:
        yield gradio.create(EngineConfig({"url": server.url}))


@asynccontextmanager
async def of_comfyui(folder: Path) -> AsyncIterator[Engine]:
    async with place_of(ComfyPlace, FakeComfyUi(folder / "comfyui"), folder) as place:
        place.workflow("invert.json", INVERT)
        yield place.engine(PAINT)


SAID = """
def said(value):
    if isinstance(value, dict):
        return {name: said(each) for name, each in value.items()}
    if isinstance(value, list):
        return [said(each) for each in value]
    return [value.url.split(",")[0], len(value.read()) > 0] if hasattr(value, "read") else value
say(said(replicate.run(told["model"], input=told["input"])))
"""
PICTURE = f"data:image/png;base64,{b64encode(png(4, 4)).decode()}"


@pytest.mark.parametrize(
    ("engine", "model", "given", "output"),
    [
        pytest.param(
            program, "a/turn", {"file": "data:,abc"}, ["data:application/octet-stream;base64", True], id="command",
        ),
        pytest.param(
            of_cog("Copy", COPY), "a/predict", {"image": PICTURE}, ["data:image/png;base64", True], id="cog",
            marks=needs("cog"),
        ),
        pytest.param(
            of_cog("Says", SAYS), "a/predict", {"text": "hello", "seed": 7}, "hello 7", id="cog-text",
            marks=needs("cog"),
        ),
        pytest.param(
            of_gradio, "a/copy", {"image": PICTURE, "seed": 7},
            {"bild_gr_e": ["data:image/png;base64", True], "said": "seed 7"}, id="gradio", marks=needs("gradio"),
        ),
        pytest.param(of_comfyui, "a/paint", {"image": PICTURE}, [["data:image/png;base64", True]], id="comfyui"),
    ],
)  # fmt: skip
async def test_a_kind_of_each_engine_is_run(
    tmp_path: Path, user: User, engine: Any, model: str, given: dict[str, Any], output: object
) -> None:
    scene = Scene(tmp_path, Place(tmp_path, user))
    async with scene.place.hub() as hub, engine(tmp_path) as made, scene.worker(engine=made):
        await gpu_online(hub)
        async with programs(scene) as api:
            assert await api.python(SAID, model=model, input=given) == output
