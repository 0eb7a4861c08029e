"""The engine `cog`: one model behind Cog's HTTP server (https://cog.run/http/).

Files go in by URL, and come out by the server's `--upload-url` (or as data URLs in the JSON, which suits small files
only). This engine serves both, on an address that the server can reach.

Options: `url` (default http://127.0.0.1:5000), `listen` (HOST:PORT on which this engine serves files; default
127.0.0.1:8394), `address` (how the Cog server reaches that, if it is not http://HOST:PORT), `kind` (the kind's name,
default `predict`), `manifest` (a description of the kind, for a model without an OpenAPI schema).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.cog_files import CogFiles, Prediction, ending_of
from wakestream.adapters.engines.cog_schema import CogModel, model_of_schema
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.http_engine import HttpEngine, NotMade, Waiting, fetch_url, outputs_of
from wakestream.adapters.engines.manifest import Keys, read_manifest
from wakestream.adapters.engines.program_output import percent_in
from wakestream.operators.model.engine import (
    TEXT,
    Engine,
    Frame,
    Kind,
    Line,
    Made,
    Preview,
    Readiness,
    Slot,
    Work,
    numbered,
)
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WakestreamError, WrongInput

DEFAULT_URL: Final = "http://127.0.0.1:5000"
DEFAULT_LISTEN: Final = "127.0.0.1:8394"

AGAIN: Final = 1.0
"""Seconds until a server whose slots are all busy is asked again, and between two looks at a server that is silent."""

LOST_AFTER: Final = 5
"""So many looks may find a free slot before the prediction is sent again.

While it runs, that only asks how far it is. After its end it runs again: the server has forgotten the result."""

MAX_RUNS: Final = 2
"""So often a prediction runs whose webhooks do not arrive."""

_STATES: Final = {
    "STARTING": "its model is being set up (STARTING)",
    "SETUP_FAILED": "the set-up of its model failed (SETUP_FAILED)",
    "UNHEALTHY": "the model's own check fails (UNHEALTHY)",
}
_CRASHED: Final = "channel closed"
"""What the check of a model says whose process has ended."""

_PREFIXES: Final = re.compile("^(Prediction failed: )*")
_DATA: Final = re.compile(r"data:[^,]{0,200};base64,")
_NUMBER: Final = re.compile(r"\d+")


def create(config: EngineConfig) -> Cog:
    """The engine for a worker. Raises `SettingsError`."""
    options = config.known("cog", ("url", "listen", "address", "kind", "manifest"))
    host, _, port = (options.get("listen") or DEFAULT_LISTEN).rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(
            f"--engine-option listen={options.get('listen')}: write HOST:PORT, such as {DEFAULT_LISTEN}"
        )
    name, model = options.get("kind") or "predict", None
    if manifest := options.get("manifest"):
        entries = read_manifest(Path(manifest).expanduser(), Keys())
        if len(entries) != 1:
            raise SettingsError(f"the manifest {manifest} describes {len(entries)} kinds; a Cog model is one kind")
        model = CogModel(entries[0].kind)
    files = CogFiles(host, int(port), options.get("address", ""), config.folder)
    return Cog(options.get("url") or DEFAULT_URL, name, model, files)


class Cog(Engine):
    """One model behind Cog.

    Args:
        url: The server's address.
        name: The name of the kind.
        model: The model, for a server without an OpenAPI schema.
        files: The server of files for Cog.
    """

    def __init__(self, url: str, name: str, model: CogModel | None, files: CogFiles) -> None:
        self._http = HttpEngine(url, "Cog")
        self._name, self._manifest, self._model = name, model, model
        self._files = files

    async def describe(self) -> Sequence[Kind]:
        """The model, by its OpenAPI schema or by the manifest."""
        self._model = self._manifest or await self._asked_model()
        return [self._model.kind]

    async def _asked_model(self) -> CogModel:
        _check_ready(await self._health())  # before, the schema is not there either
        _, said = await self._http.json("GET", "/openapi.json")
        model = model_of_schema(self._name, said if isinstance(said, dict) else {})
        if model is None:
            raise TaskFailed(
                "the Cog model has no OpenAPI schema; describe its inputs and outputs in a manifest: "
                "--engine-option manifest=kind.toml"
            )
        return model

    async def ready(self) -> Readiness:
        """Whether the model's set-up is complete; the HTTP status is always 200."""
        health: Mapping[str, Any] = {}
        try:
            await self._files.listen()
            health = await self._health()
            _check_ready(health)
        except WakestreamError as error:
            return Readiness(False, str(error), crashed=_has_crashed(health))
        except OSError as error:
            return Readiness(False, f"--engine-option listen: {error.strerror or error}; choose another port")
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Run a prediction, and wait for its webhook."""
        model = self._model = self._model or await self._asked_model()
        prediction = Prediction(work, prediction_id(work))
        await self._files.listen()
        with self._files.serving(prediction):
            async with aclosing(self._followed(model, prediction)) as items:
                async for item in items:
                    yield item
            output = _output(prediction, self._files.upload_url)
            uploads = _uploads_of(output, prediction)
            if len(uploads) > 1 and (output := _in_order(uploads)) is None:
                output = [*uploads]
                yield Line("Cog uploads a list of files in any order; number their names, such as out-1.png, out-2.png")
            made = model.made(output)

            async def stored(slot: Slot) -> AsyncGenerator[Made, None]:
                if not (values := made.get(slot.name)):
                    raise _missing(prediction, slot.name)
                for number, value in enumerate(values, 1):
                    name = numbered(slot.name, number)
                    yield Made(slot.name, await self._stored(model, prediction, slot, name, value), number)

            async for result in outputs_of(work, model.kind, stored):
                yield result

    async def cancel(self, work: Work) -> None:
        """Cancel the prediction; one that the server does not know has ended."""
        try:
            await self._http.json("POST", f"/predictions/{prediction_id(work)}/cancel")
        except WakestreamError:
            return

    async def close(self) -> None:
        """Close the connections and the file server."""
        await self._http.close()
        await self._files.close()

    async def _followed(self, model: CogModel, prediction: Prediction) -> AsyncGenerator[Frame | Line | Preview, None]:
        """Start the prediction and follow it to its end."""
        prediction.health = asyncio.create_task(self._health())
        runs, looks = 1, 0
        try:
            async with aclosing(self._begun(model, prediction)) as lines:
                async for line in lines:
                    yield line
            while prediction.end is None:
                news = await _next(prediction)
                if prediction.fault is not None:
                    await self.cancel(prediction.work)
                    raise prediction.fault
                for item in _progress(prediction, news or {}):
                    yield item
                pieces = (news or {}).get("output")
                if model.shape == "text" and isinstance(pieces, list) and len(pieces) > prediction.pieces:
                    prediction.pieces = len(pieces)
                    yield Preview(TEXT, "".join(map(str, pieces)).encode(errors="replace"))
                looks = 0 if news or await self._is_busy(prediction) else looks + 1
                if looks >= LOST_AFTER:
                    looks, runs = 0, runs + await self._again(model, prediction)
                if runs > MAX_RUNS:
                    await self.cancel(prediction.work)
                    raise TaskFailed(
                        f"Cog ran the model {MAX_RUNS} times and its webhook did not arrive at {self._files.address}; "
                        "let the Cog server reach this address: --engine-option listen=HOST:PORT, address=URL"
                    )
        finally:
            prediction.health.cancel()
            await asyncio.gather(prediction.health, return_exceptions=True)

    async def _begun(self, model: CogModel, prediction: Prediction) -> AsyncGenerator[Line, None]:
        """Start the prediction as soon as a slot is free."""
        waiting = Waiting()
        while (said := await self._put(model, prediction)) is None:
            if (line := waiting.line("all slots of the Cog server are busy")) is not None:
                yield line
            await asyncio.sleep(AGAIN)
        prediction.ran_already = said.get("status") == "processing"
        if (over := waiting.over()) is not None:
            yield over

    async def _put(self, model: CogModel, prediction: Prediction) -> Mapping[str, Any] | None:
        """Start the prediction, or see how far it is; None if all slots are busy."""
        work = prediction.work
        asked = {
            "input": model.asked(work.params, self._files.inputs(work)),
            "webhook": self._files.hook(prediction),
            "webhook_events_filter": ["logs", "completed", *(["output"] if model.shape == "text" else [])],
        }
        path, headers = f"/predictions/{prediction.id}", {"Prefer": "respond-async"}
        status, said = await self._http.json("PUT", path, json=asked, headers=headers)
        if status == 409:
            health = await self._health()
            if health.get("status") != "UNHEALTHY" or _has_crashed(health):
                _check_ready(health)
            return None
        if status == 503:
            raise EngineUnreachable(f"the Cog model is not ready: {_detail(said)}")
        if status == 422:
            # The error for an input that Cog refuses, as `{"detail": [{"loc": ["body", "input", FIELD], "msg"}]}`.
            details = said.get("detail") if isinstance(said, dict) else None
            first = details[0] if isinstance(details, list) and details and isinstance(details[0], dict) else {}
            location = first.get("loc") or ("",)
            field = model.name_of(str(location[-1]))
            raise WrongInput(field, f"{field}: Cog refuses it: {str(first.get('msg') or said)[:300]}")
        if status not in (200, 201, 202) or not isinstance(said, dict):
            raise TaskFailed(f"Cog refused the prediction: HTTP {status} {_detail(said)}")
        return said

    async def _again(self, model: CogModel, prediction: Prediction) -> int:
        """Ask for the prediction again; returns 1 if it had ended without a webhook, and runs again."""
        said = await self._put(model, prediction)
        if said is None or said.get("status") == "starting":
            return int(said is not None)
        prediction.news.put_nowait(said)
        return 0

    async def _health(self) -> Mapping[str, Any]:
        _, said = await self._http.json("GET", "/health-check")
        return said if isinstance(said, dict) else {}

    async def _is_busy(self, prediction: Prediction) -> bool:
        """Whether the server has no free slot. Raises `EngineUnreachable` if it was restarted."""
        before, said = await asyncio.gather(prediction.health, self._health())
        if said.get("status") == "UNHEALTHY":  # a webhook reports a crash, too
            return not _has_crashed(said)
        if _since(_check_ready(said)) != _since(before):
            raise EngineUnreachable("the Cog server was restarted while the work ran")
        return said.get("status") == "BUSY"

    async def _stored(self, model: CogModel, prediction: Prediction, slot: Slot, name: str, value: Any) -> Path:
        folder, text = prediction.work.folder, isinstance(value, str)
        if text and (upload := prediction.uploads.get(value.rpartition("/")[2])) is not None:
            return upload.path.rename(folder / f"{name}{upload.path.suffix}")
        if text and slot.name not in model.texts and _DATA.match(value):
            return await asyncio.to_thread(_from_data_url, value, folder, name)
        if text and slot.accepts[:1] not in ((".txt",), (".json",)) and value.startswith(("http://", "https://")):
            # A file that Cog uploaded to another place than here: to itself, or to a server on the internet.
            own = (self._http.url, self._files.address)
            return await fetch_url(value, folder / name, "the model's file store", own)
        target = folder / (f"{name}.txt" if text else f"{name}.json")
        target.write_bytes(value.encode() if text else orjson.dumps(value))
        return target


def prediction_id(work: Work) -> str:
    """The prediction's id, which depends on the work and the attempt."""
    return f"{work.id}-{work.attempt}"


async def _next(prediction: Prediction) -> Mapping[str, Any] | None:
    """The next webhook; None if none comes for a while."""
    try:
        async with asyncio.timeout(AGAIN):
            news = await prediction.news.get()
    except TimeoutError:
        return None
    if news.get("status") in ("succeeded", "failed", "canceled"):
        prediction.end = news
    return news


def _progress(prediction: Prediction, news: Mapping[str, Any]) -> list[Frame | Line]:
    """The lines of the log that are new; each webhook has the whole log so far, and one may overtake another."""
    logs = str(news.get("logs") or "")
    if prediction.end is None:  # the last line may not be whole yet
        logs = logs[: max(logs.rfind("\n"), logs.rfind("\r")) + 1]
    fresh, prediction.logs = logs[prediction.logs :], max(prediction.logs, len(logs))
    items: list[Frame | Line] = []
    for line in fresh.splitlines():
        percent = percent_in(line)
        items.append(Line(line) if percent is None else Frame(0, 0, percent))
    return items


def _output(prediction: Prediction, upload_url: str) -> Any:
    """The output of a prediction that ended."""
    end = prediction.end or {}
    if end.get("status") == "canceled":
        raise TaskFailed("the prediction was cancelled at the Cog server")
    if end.get("status") == "failed":
        said = _PREFIXES.sub("", str(end.get("error") or "without a reason"))
        if said.startswith("Failed to upload output"):
            said += f"; Cog's --upload-url must be {upload_url}"
            if prediction.ran_already:
                raise EngineUnreachable(f"an output came while no worker was here; the model runs again ({said})")
        raise TaskFailed(f"the model failed: {said[:500]}")
    return end.get("output")


def _uploads_of(output: Any, prediction: Prediction) -> dict[str, str]:
    """The model's names of the files of a list, if all of them were uploaded here."""
    listed = output if isinstance(output, list) else []
    uploads = {str(item): prediction.uploads.get(str(item).rpartition("/")[2]) for item in listed}
    if not all(uploads.values()):
        return {}
    return {name: upload.name for name, upload in uploads.items() if upload is not None}


def _in_order(names: Mapping[str, str]) -> list[str] | None:
    """Files by the numbers in their names, which must differ in nothing else; None if they tell no order."""
    numbers = {file: tuple(map(int, _NUMBER.findall(name))) for file, name in names.items()}
    alike = {_NUMBER.sub("0", name) for name in names.values()}
    if len(alike) > 1 or len({*numbers.values()}) < len(names):
        return None
    return sorted(names, key=numbers.__getitem__)


def _missing(prediction: Prediction, name: str) -> WakestreamError:
    """The error for an output that is not there."""
    if prediction.fault is not None:
        return prediction.fault
    if prediction.ran_already:
        return EngineUnreachable(f"the output {name} was lost while no worker was here; the model runs again")
    return NotMade(f"the model made no output {name!r}")


def _check_ready(health: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raise `EngineUnreachable` unless the model is set up."""
    status = health.get("status") or "this is no Cog server"
    if status in ("READY", "BUSY"):
        return health
    logs = str((health.get("setup") or {}).get("logs") or "").strip()[-300:]
    why = health.get("user_healthcheck_error") or logs
    if _has_crashed(health):
        raise EngineUnreachable("Cog is not ready: its model has crashed (UNHEALTHY); restart the Cog server")
    raise EngineUnreachable(f"Cog is not ready: {_STATES.get(status, status)}{why and ': '}{why}")


def _has_crashed(health: Mapping[str, Any]) -> bool:
    """Whether the model's process has ended. Otherwise its own check fails, often as it waits for a prediction."""
    why = str(health.get("user_healthcheck_error") or _CRASHED)
    return health.get("status") == "UNHEALTHY" and _CRASHED in why


def _since(health: Mapping[str, Any]) -> object:
    return (health.get("setup") or {}).get("started_at")


def _from_data_url(url: str, folder: Path, name: str) -> Path:
    head, _, data = url.partition(",")
    media = head.removeprefix("data:").partition(";")[0]
    target = folder / f"{name}{ending_of(media)}"
    try:
        target.write_bytes(base64.b64decode(data, validate=True) if ";base64" in head else unquote_to_bytes(data))
    except binascii.Error:
        raise TaskFailed(f"the model's output {name!r} is not a valid data URL") from None
    return target


def _detail(said: object) -> str:
    detail = (said.get("detail") or said.get("error")) if isinstance(said, dict) else said
    return str(detail or "")[:300]
