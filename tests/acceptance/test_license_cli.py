"""`wakestream license` beside a running hub, as its operator uses it."""

import stat
import sys

from websockets.asyncio.client import connect

from tests.support.programs.client_scene import User
from tests.support.programs.hub_scene import Peer


async def test_a_running_hub_accepts_new_licenses_and_drops_revoked_ones(user: User) -> None:
    state = ("--state", "hub")
    async with user.runs("hub", "--listen", "127.0.0.1:0", *state) as hub:
        url = await hub.address()
        issued = await user.run("license", "issue", "--role", "client", "--note", "editing PC", *state)
        key = issued.out.strip()
        assert key.startswith("ws_client_")
        assert len(key.removeprefix("ws_client_")) * 5 >= 256
        listed = (await user.run("license", "list", "--json", *state)).events
        assert [(one["role"], one["note"], one["revoked"]) for one in listed] == [("client", "editing PC", None)]
        files = [path for path in (user.folder / "hub").iterdir() if path.is_file()]
        assert {"licenses.json", "capability.key"} <= {path.name for path in files}
        assert not [path for path in files if key.encode() in path.read_bytes()]
        if sys.platform != "win32":
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
            assert (modes["licenses.json"], modes["capability.key"]) == (0o600, 0o600)
        async with connect(url) as socket:
            peer = Peer(socket)
            await peer.send(type="register", key=key)
            await peer.first("registered")
            assert (await user.run("license", "revoke", listed[0]["id"], *state)).code == 0
            assert (await peer.closed(), socket.close_reason) == (4403, "this license was revoked")
        async with connect(url) as socket:
            peer = Peer(socket)
            await peer.send(type="register", key=key)
            await peer.first("error")


async def test_the_folder_that_the_keys_belong_to_is_named(user: User) -> None:
    issued = await user.run("license", "issue", "--role", "client", "--state", "hub")
    assert "(client) is saved in hub. Its key is shown only once" in issued.err
    none = await user.run("license", "list", "--state", "elsewhere")
    assert none.out.startswith("no licenses in elsewhere; ")


async def test_the_folder_of_a_hub_with_a_database_is_not_used_without_it(user: User) -> None:
    (user.folder / "hub").mkdir()
    (user.folder / "hub" / "hub.postgres-seq").touch()
    for command in (("license", "list"), ("license", "issue", "--role", "client"), ("hub", "--listen", "127.0.0.1:0")):
        ran = await user.run(*command, "--state", "hub")
        assert (ran.code, "hub is the folder of a hub with a database; give --journal" in ran.err) == (2, True), ran
