"""The rows of a table that was dropped on the page, each checked against the kind of its job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

import msgspec
from aiohttp import web

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.results import plain_answer
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.daemon.rows import PAIR, Fault, Row, Uses, path_of, table_of, uses, value_of
from wakestream.adapters.runtime.known_secrets import secret_names
from wakestream.operators.model.engine import Kind
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.kinds import drawn, fitting

BYTES_MOST: Final = 16 * 1024 * 1024
"""Of a table."""

FAULTS_MOST: Final = 20
"""Faults that a page shows."""


async def read_rows(kinds: DaemonKinds, chinese: Callable[[str], str | None], request: web.Request) -> web.Response:
    """Read and check a table, the body, for jobs of the kind `?kind=`; `?params=` are those of the form.

    With `?lang=zh`, its faults are in Chinese.
    """
    query, content = request.query, bytearray()
    async for piece in request.content.iter_any():
        content += piece
        if len(content) > BYTES_MOST:
            raise ApiError(413, "too_long", f"a table has at most {BYTES_MOST} bytes; split it")
    named = (await kinds.present()).named(query.get("kind", ""))
    kind, params = next(iter(named), PAIR), msgspec.json.decode(query.get("params") or "{}", type=dict[str, Any])
    answer = await asyncio.to_thread(checked_rows, bytes(content), query.get("name", ""), kind, params)
    for fault in answer.get("faults", ()) if query.get("lang") == "zh" else ():
        fault["why"] = chinese(fault["why"]) or fault["why"]
    return plain_answer(answer)


def checked_rows(content: bytes, name: str, kind: Kind, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of a table, or what is wrong in it.

    Args:
        content: The table.
        name: The name of its file.
        kind: The kind of its jobs.
        params: The parameters that all rows have in common.

    Returns:
        `rows`, each with its `line`, the names of the files of its `inputs`, and its own `params`, and which of these
        are `secret`; or `faults`, each with its `line`, the `column`, and `why`; and how many `more` there are.
    """
    table = table_of(content, lines=PurePath(name).suffix.lower() in (".jsonl", ".ndjson"))
    shared = {slot.name for slot in kind.inputs} | kind.params.get("properties", {}).keys()
    free = [f"{{{column}}}" for column in table.columns if column == "name" and column not in shared]
    use = uses(table, kind, Uses([], [], []), free)
    rows = [_checked(row, use, kind, params, table.faults) for row in (table.rows if not table.faults else ())]
    if not table.faults:
        return {"rows": rows, "secret": sorted(secret_names([kind], dict.fromkeys(use.params, name)))}
    faults = [{"line": fault.line, "column": fault.column, "why": fault.why} for fault in table.faults]
    return {"faults": faults[:FAULTS_MOST], "more": max(0, len(faults) - FAULTS_MOST)}


def _checked(row: Row, use: Uses, kind: Kind, params: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any] | None:
    files = {name: row.values[name] for name in use.inputs if name in row.values}
    names = {name: path_of(text).name for name, text in files.items()}
    try:
        own = {name: value_of(row.values[name], kind, name) for name in use.params if name in row.values}
        exts = {name: PurePath(file).suffix.lower() for name, file in names.items()}
        fitting(kind, exts, drawn(kind, {**params, **own}, ""), [slot.name for slot in kind.outputs])
    except WrongInput as error:
        faults.append(Fault(row.line, error.field.partition(".")[2], str(error)))
        return None
    return {"line": row.line, "inputs": names, "params": own}
