"""Only `wakestream upgrade-check` asks the package index."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.programs.client_scene import User


class Index:
    """A package index that counts its callers."""

    def __init__(self) -> None:
        self.newest = "9.9.9"
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        """A page with one wheel; 404 without a version."""
        self.asked.append(request.path)
        if not self.newest:
            raise web.HTTPNotFound
        name = f"wakestream-{self.newest}-py3-none-any.whl"
        return web.Response(text=f'<html><body><a href="/{name}">{name}</a></body></html>', content_type="text/html")


@pytest.fixture
async def index() -> AsyncIterator[Index]:
    found = Index()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/simple/"))
        yield found


@pytest.mark.parametrize(
    ("newest", "code", "words"),
    [
        ("9.9.9", 0, "the index of pip has 9.9.9; pip install --upgrade wakestream"),
        ("0.0.1", 0, "the newest version in the index of pip is 0.0.1: nothing to do"),
        ("", 1, "cannot say whether there is a newer one: "),
    ],
)
async def test_it_says_what_the_index_has(user: User, index: Index, newest: str, code: int, words: str) -> None:
    index.newest = newest
    ran = await user.run("upgrade-check", PIP_INDEX_URL=index.url, PIP_CONFIG_FILE="/dev/null")
    assert (ran.code, words in ran.out, " is installed" in ran.out) == (code, True, True), ran
    assert index.asked


async def test_no_other_command_asks_it(user: User, index: Index) -> None:
    for command in ("--version", "jobs", "doctor", "submit clip.mp4 speech.wav", "daemon"):
        own = {"PIP_INDEX_URL": index.url, "PIP_EXTRA_INDEX_URL": index.url, "PIP_CONFIG_FILE": "/dev/null"}
        await user.run(*command.split(), **own)
        assert index.asked == [], command
