"""The first start on a machine where nothing is set up: what is offered on a terminal, and what is said elsewhere."""

import io
import re
import sys
from pathlib import Path

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.here import Here
from tests.support.programs.terminal_scene import plain, terminal
from wakestream.adapters.cli import first_start
from wakestream.adapters.cli.first_start import hub_and_code
from wakestream.adapters.net.pairing import PairingError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")

OFFER = "1, 2, 3, or Enter to leave:"


@pytest.fixture
def newcomer(tmp_path: Path) -> User:
    """A user without settings."""
    (tmp_path / "pc").mkdir()
    user = User(tmp_path / "pc")
    user.environment |= {"WAKESTREAM_CONFIG": str(tmp_path / "conf"), "HOME": str(tmp_path)}
    return user


@pytest.mark.parametrize("command", [("submit", "clip.mp4", "speech.wav"), ("daemon", "--open")])
def test_without_a_terminal_the_three_commands_are_named(newcomer: User, here: Here, command: tuple[str, ...]) -> None:
    ran = here(newcomer, *command)
    assert ran.code == 2
    for named in ("wakestream join HOST CODE", "wakestream demo", "wakestream help"):
        assert named in ran.err


async def test_on_a_terminal_submit_tells_how_it_is_set_up(newcomer: User) -> None:
    async with terminal(newcomer, "submit", "clip.mp4", "speech.wav") as screen:
        await screen.shows(OFFER)
        screen.type("3\r")
        said = plain(await screen.ended())
        assert "wakestream init hub --public" in said
        assert max(map(len, said.splitlines())) <= 80
        assert screen.process.returncode == 0


@pytest.mark.parametrize("line", ["203.0.113.7:8765 4MXD-81WA", "34.1.2.3:8765 4MXD-81WA", "10.0.0.2:8765 4MXD-81WA"])
def test_a_pasted_address_that_begins_with_a_digit_is_no_choice(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
    monkeypatch.setattr(first_start, "load", lambda name: pytest.fail(f"it starts {name}"))
    joined: list[str] = []
    monkeypatch.setattr(first_start, "_joined", joined.append)
    first_start.offer()
    assert joined == [line.lower()]


async def test_enter_leaves(newcomer: User) -> None:
    async with terminal(newcomer, "submit", "clip.mp4", "speech.wav") as screen:
        await screen.shows(OFFER)
        screen.type("\r")
        await screen.ended()
        assert screen.process.returncode == 2


async def test_a_pasted_code_joins_and_the_submit_goes_on(newcomer: User, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    keeper = User(tmp_path / "server")
    keeper.environment |= {"WAKESTREAM_CONFIG": str(tmp_path / "hubs"), "HOME": str(tmp_path)}
    async with keeper.runs("hub", "--listen", "127.0.0.1:0", "--state", "state") as hub:
        url = await hub.address()
        ran = await keeper.run("invite", "client", "--state", "state", "--public", url)
        code = re.search(r"\b([0-9A-Z]{4}-[0-9A-Z]{4})\b", ran.out)
        assert code is not None, ran
        async with terminal(newcomer, "submit", "clip.mp4", "speech.wav", NO_COLOR="1") as screen:
            await screen.shows(OFFER)
            screen.type(f"wakestream join {url} {code[1]}\r")
            await screen.shows("This PC can now send jobs to")
            await screen.shows("wake")  # the job waits for a GPU
        assert url in (tmp_path / "conf" / "wakestream.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "hub.example:8765 4MXD-81WA", "wakestream join hub.example:8765 4MXD-81WA", "join hub.example:8765 4MXD-81WA",
        "  hub.example:8765   4MXD 81WA ",
    ],
)  # fmt: skip
def test_a_code_is_read_as_it_is_pasted(line: str) -> None:
    assert hub_and_code(line) == ("hub.example:8765", "4MXD-81WA")


@pytest.mark.parametrize("line", ["", "4MXD-81WA", "wakestream join", "a b c d"])
def test_another_line_says_what_to_paste(line: str) -> None:
    with pytest.raises(PairingError, match="paste the hub's address and the code"):
        hub_and_code(line)
