"""`wakestream top` at a real hub: once, in a pipe, and on a terminal."""

import sys
import time

import orjson
import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Joining, Place, gpu_online
from tests.support.programs.terminal_scene import terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")


async def test_once_with_a_key_of_role_admin(user: User, place: Place) -> None:
    _, admin = place.book.issue("admin", "", time.time())
    async with place.hub() as hub, place.worker(Joining()):
        await gpu_online(hub)
        ran = await user.does("top", "--once", API_SERVER_URL=place.hub_url, WAKESTREAM_KEY=admin)
        assert "connected: clients 1, workers 1, monitors 0" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80
        plain = await user.run("top", "--once", "--json", API_SERVER_URL=place.hub_url, WAKESTREAM_KEY=admin)
        [told] = map(orjson.loads, plain.out.splitlines())
        assert (told["connections"]["clients"], told["gpus"][0]["gpu"]) == (1, "gpu")


async def test_in_a_pipe_it_goes_on_and_on_a_terminal_q_leaves(user: User, place: Place) -> None:
    async with place.hub(), user.runs("top") as piped, terminal(user, "top", NO_COLOR="1") as screen:
        assert piped.process.stdout is not None
        heads = 0
        while heads < 2:
            heads += (await piped.process.stdout.readline()).startswith(b"wakestream top")
        await screen.shows("q or Ctrl-C leaves")
        screen.type("q")
        await screen.ended()
        assert screen.process.returncode == 0
