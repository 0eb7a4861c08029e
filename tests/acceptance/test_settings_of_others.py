"""The commands of a user in a folder with the settings of another person."""

import asyncio

import pytest

from tests.support.programs import plain_server
from tests.support.programs.client_scene import User

KEY = "ws_client_0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize("file", [".env", "config.dat", "wakestream.toml"])
async def test_no_command_connects_with_the_users_key_to_a_hub_that_files_of_others_name(file: str, user: User) -> None:
    callers: list[object] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer)
        writer.close()

    own = user.folder.parent / "own"
    own.mkdir()
    (own / ".license").write_text(KEY)
    user.environment |= {"WAKESTREAM_CONFIG": str(own)}
    async with plain_server.talking(accept) as port:
        hub = f"http://127.0.0.1:{port}"
        (user.folder / file).write_text(f'hub = "{hub}"\n' if file.endswith(".toml") else f"API_SERVER_URL={hub}\n")
        for command in (("status",), ("doctor",), ("daemon",), user.command("--foreground")):
            ran = await user.run(*command)
            said = "".join((ran.out + ran.err).split())
            assert (ran.code == 0, str(own / ".license") in said, file in said) == (False, True, True), ran
    assert callers == []
