"""What the answers of servers with OpenAI's interface mean: streams of text, images, and errors in many forms."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from wakestream.adapters.disk.media_types import ending_of_content
from wakestream.adapters.engines.http_engine import event_of, lines_of
from wakestream.operators.model.engine import Kind
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WrongInput
from wakestream.streams.protocol.printable import printable

AGAIN: Final = 1.0
"""Seconds until a busy server is asked again, if it does not say when."""

_MAX_MESSAGE: Final = 500
_FIELDS: Final = {"messages": "params.prompt", "input": "params.text", "file": "inputs.audio"}


class Busy(Exception):
    """The server takes no work now; ask again after `after` seconds."""

    def __init__(self, why: str, after: float) -> None:
        super().__init__(why)
        self.after = after


async def pieces_of(response: aiohttp.ClientResponse, kind: Kind) -> AsyncGenerator[tuple[str, str], None]:
    """The pieces of a streamed text, each with why it is the last one, if it is.

    Raises:
        Exception: The stream told an error, see `fault_of`.
    """
    async with aclosing(lines_of(response.content)) as lines:
        async for line in lines:
            if line.strip() == b"data: [DONE]":
                yield "", "done"
                return
            old = line.startswith(b"error:")  # llama.cpp before 2026
            event = event_of(b"data:" + line[6:] if old else line, "the model server")
            if isinstance(event, dict):
                if old or event.get("error") or event.get("object") == "error":
                    raise fault_of(_code(event), event, response.url.path, kind)
                yield piece_of(event)


def piece_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """The text of an event or of a whole answer, and why it ended there."""
    choices = event.get("choices")
    if isinstance(choices, list):
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        part = choice.get("delta") or choice.get("message") or choice
        text = part.get("content", part.get("text")) if isinstance(part, dict) else None
        return text if isinstance(text, str) else "", str(choice.get("finish_reason") or "")
    if event.get("type") == "transcript.text.done":  # the whole text again
        return "", "done"
    text = event.get("delta", event.get("text"))
    return text if isinstance(text, str) else "", ""


def _code(event: Mapping[str, Any]) -> int:
    """The HTTP status in an error of a stream."""
    of = event.get("error")
    code = of.get("code") if isinstance(of, dict) else event.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def told_of(said: Any) -> tuple[str, str]:
    """The message and the field of an error, in the forms of OpenAI, vLLM, llama.cpp, Ollama and FastAPI."""
    error = said.get("error") or said.get("detail") or said if isinstance(said, dict) else said
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, dict):
        return printable(str(error or ""))[:_MAX_MESSAGE], ""
    where = error.get("loc")
    field = where[-1] if isinstance(where, list) and where else error.get("param") or ""
    return printable(str(error.get("message") or error.get("msg") or error))[:_MAX_MESSAGE], str(field)


def fault_of(status: int, said: Any, path: str, kind: Kind | None, after: str = "") -> Exception:
    """What an answer of this status means. `kind`: that of the work; `after`: its header `Retry-After`."""
    told, field = told_of(said)
    why = f"HTTP {status}: {told}" if told else f"HTTP {status}"
    params = kind.params.get("properties", {}) if kind is not None else {}
    match status:
        case 401 | 403:
            return TaskFailed(f"the model server does not accept the key ({why}); give --engine-option key=FILE")
        case 404 if "model" in told.lower():
            fault = f"the model server does not have the model ({why}); load it there, or name another one"
            return WrongInput("params.model", fault) if "model" in params else TaskFailed(fault)
        case 404 | 405 | 501:
            return TaskFailed(f"the model server cannot do this ({why} for {path}); use a server or a model that can")
        case 429 | 503 if "quota" not in told.lower():
            seconds = float(after) if after.isdecimal() else AGAIN
            return Busy(f"the model server is busy ({why})", min(60.0, max(AGAIN, seconds)))
        case 408 | 502 | 504:
            return EngineUnreachable(f"the model server does not answer its proxy ({why})")
        case _ if 400 <= status < 500 and status != 429:
            place = f"params.{field}" if field in params else _FIELDS.get(field.partition("[")[0], "params")
            return WrongInput(place, f"the model server does not take {place} ({why}); correct it")
        case _:
            return TaskFailed(f"the model server failed ({why})")


def decoded_image(encoded: str, target: Path) -> Path:
    """Write an image of base64; its first bytes say which ending it has."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise TaskFailed("the model server sent an image that is not base64")
    path = target.with_name(target.name + (ending_of_content(data) or ".png"))
    path.write_bytes(data)
    return path


def json_of(raw: bytes) -> Any:
    """JSON, or the text that stands in its place."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw[:_MAX_MESSAGE].decode(errors="replace")
