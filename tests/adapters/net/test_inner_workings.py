"""The places that use inner workings of aiohttp and websockets are those that are listed."""

import ast
import re
from pathlib import Path

import wakestream.adapters.net as listed

ADAPTERS = Path(listed.__file__).parents[1]

NAMES = {
    "transport", "connection_made", "connection_lost", "data_received", "eof_received", "set_protocol", "total_bytes",
    "request_handler", "http_exceptions", "AbstractStreamWriter", "process_redirect", "broadcast", "handshake_exc",
    "close_sent", "close_rcvd_then_sent",
}  # fmt: skip


def uses(code: str) -> bool:
    """Whether one of the names is read, defined or imported."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
                names = {name}
            case ast.ImportFrom(module=str(module), names=imported):
                names = {module.rpartition(".")[2], *(alias.name for alias in imported)}
            case _:
                continue
        if names & NAMES:
            return True
    return False


def test_the_list_of_places_that_depend_on_inner_workings_is_complete() -> None:
    places = {path.relative_to(ADAPTERS): path.read_text("utf-8") for path in ADAPTERS.rglob("*.py")}
    used = {".".join(path.with_suffix("").parts) for path, code in places.items() if uses(code)}
    told = set(re.findall(r"`((?:client|daemon|engines|hub|net|runtime|worker)\.[a-z_.]+)`", str(listed.__doc__)))
    by_asyncio = {"net.acceptor", "runtime.windows_loop"}
    assert {place for place in used if not place.startswith("testing.")} == told - by_asyncio
    assert uses("request.transport.abort()")
    assert uses("def connection_made(self): ...")
    assert uses("from aiohttp.http_exceptions import HttpProcessingError")
    assert not uses("transport = open_transport()")
