"""Real servers of Cog, Gradio and llama.cpp on loopback (`make engines`), with models that need no GPU."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def python_of(engine: str) -> Path:
    """The Python that has this engine."""
    return ROOT / ".venv" / "engines" / engine / "bin" / "python"


def needs(engine: str) -> pytest.MarkDecorator:
    """Skips the tests of a file where the engine is not installed."""
    here = python_of(engine).parents[1].joinpath(".ready").exists()
    return pytest.mark.skipif(not here, reason=f"no {engine} server here (make engines)")


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Returns when it is true; the caller limits the time."""
    while not await check():  # noqa: ASYNC110 - the servers do not tell
        await asyncio.sleep(0.01)


@dataclass
class Server:
    """One server: a folder, a command and a port, whatever happens to the process."""

    folder: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it accepts connections."""
        self._launch()
        await until(self._accepts)

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send a signal to all its processes; after the usual one, they are gone."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            if how == signal.SIGKILL:
                self.process.wait()

    def _launch(self) -> None:
        path = f"{Path(self.command[0]).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PATH": path, "NO_PROXY": "127.0.0.1", **self.environment},
            )  # fmt: skip

    async def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """It runs when the block begins, and is killed at its end."""
    await server.start()
    try:
        yield server
    finally:
        server.kill()


def cog_server(
    folder: Path, model: str, schema: Mapping[str, Any] | None = None, upload: str = "", **env: str
) -> Server:
    """A Cog server with a class of cog_models.py.

    Args:
        folder: An empty folder in which it runs.
        model: The class.
        schema: What `cog build` would write for it, made by `openapi`; None: there is no schema.
        upload: The value of `--upload-url`.
        env: Variables for the model.
    """
    folder.mkdir(exist_ok=True)
    if schema is not None:
        (folder / ".cog").mkdir()
        (folder / ".cog" / "openapi_schema.json").write_bytes(orjson.dumps(schema))
    more = ("--upload-url", upload) if upload else ()
    command = (str(python_of("cog")), "-m", "cog.server.http", "--host", "127.0.0.1", *more)
    server = Server(folder, command, {})
    server.environment = {"PORT": str(server.port), "COG_PREDICT_TYPE_STUB": f"{HERE / 'cog_models.py'}:{model}", **env}
    return server


FILE = {"type": "string", "format": "uri"}


def openapi(output: Mapping[str, Any], **inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as `cog build` writes it (pkg/schema/openapi_spec.go of Cog): fields without a default are required."""
    ordered = {name: {**each, "x-order": n, "title": name.title()} for n, (name, each) in enumerate(inputs.items())}
    needed = [name for name, each in inputs.items() if "default" not in each and not each.get("nullable")]
    asked = {"type": "object", "title": "Input", "properties": ordered, **({"required": needed} if needed else {})}
    schemas = {"Input": asked, "Output": {"title": "Output", **output}}
    request = {"properties": {"input": {"$ref": "#/components/schemas/Input"}}, "type": "object"}
    return {
        "openapi": "3.0.2", "info": {"title": "Cog", "version": "0.23.1"},
        "paths": {"/predictions": {"post": {"requestBody": {"content": {"application/json": {"schema": {
            "$ref": "#/components/schemas/PredictionRequest"}}}}}}},
        "components": {"schemas": {**schemas, "PredictionRequest": request}},
    }  # fmt: skip


def gradio_server(folder: Path, app: str = "gradio_app.py", **env: str) -> Server:
    """A Gradio app of this folder."""
    folder.mkdir(exist_ok=True)
    server = Server(folder, (str(python_of("gradio")), str(HERE / app)), {})
    server.environment = {
        "GRADIO_SERVER_PORT": str(server.port), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(folder / "temp"), **env,
    }  # fmt: skip
    return server


def llama_server(folder: Path) -> Server:
    """A llama.cpp server whose model it writes itself."""
    folder.mkdir(exist_ok=True)
    server = Server(folder, (), {})
    server.command = (str(python_of("llama")), str(HERE / "llama_server.py"), "tiny.gguf", str(server.port))
    return server
