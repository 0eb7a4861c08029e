"""Set-up as users do it: three machines with codes, one machine with one command, again, and undone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.power.runpod_api import RunpodWorld
from tests.support.programs import networks
from tests.support.programs.client_scene import Ran, Running, User
from tests.support.programs.here import Here
from tests.support.programs.terminal_scene import plain, terminal
from wakestream.adapters.cli.setup.files import folder_of, recorded
from wakestream.adapters.cli.setup.service import service
from wakestream.adapters.config.settings import SettingsError, load
from wakestream.adapters.daemon.discovery import read
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.net.certificates import make_certificate
from wakestream.adapters.testing.http_stand_in import serving


class Machine(User):
    """A machine with an account of its own: its home, its settings, its data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        own = {"HOME": "home", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "WAKESTREAM_CONFIG": "config"}
        self.environment = {name: str(folder / path) for name, path in own.items()}
        self.environment["WAKESTREAM_DAEMON"] = str(folder / "daemon")

    def _secret(self) -> dict[str, str]:
        return {}

    @asynccontextmanager
    async def up(self, *flags: str, until: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """`wakestream up`, once it has printed this; yields a function that waits for another text: its next line.

        Programs that run side by side print in any order.
        """
        async with self.runs("up", *flags) as running:
            lines: asyncio.Queue[bytes] = asyncio.Queue()
            reading = asyncio.create_task(_read_lines(running, lines))
            passed: list[bytes] = []

            async def printed(text: str) -> str:
                while (line := next((line for line in passed if text.encode() in line), None)) is None:
                    passed.append(await lines.get())
                    assert passed[-1], await running.ended()
                passed.remove(line)
                return line.decode()

            await printed(until)
            try:
                yield printed
            finally:
                running.process.terminate()
                await running.process.wait()
                await reading

    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "config").rglob("*") if path.is_file()}


async def _read_lines(running: Running, lines: asyncio.Queue[bytes]) -> None:
    assert running.process.stdout is not None
    while line := await running.process.stdout.readline():
        lines.put_nowait(line)
    lines.put_nowait(b"")  # the end


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine, Machine]:
    server, gpu, pc = (Machine(tmp_path / name) for name in ("server", "gpu", "pc"))
    return server, gpu, pc


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "one")


def code_for(role: str, said: str) -> str:
    found = re.search(rf"code (\S+) for a {role}", said)
    assert found is not None, said
    return found.group(1)


def monitor_that_starts(gpu: Machine, *there: str) -> list[str]:
    """The GPU machine is switched on by a command, as a cloud's is: this one starts the worker `there`."""
    own = (f"{name}={value}" for name, value in gpu.surroundings().items())
    worker = [*there, "env", *own, sys.executable, "-m", "wakestream.adapters.cli", "worker", "--exit-with-stdin"]
    return ["init", "monitor", "--gpu", "studio", "--power", "process", "--program", json.dumps(worker)]


async def test_three_machines_from_nothing_to_a_video_in_six_commands(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    server, gpu, pc = machines
    hub_port, worker_port = free_port(), free_port()
    await make_video(pc.video, 1, size="160x120")
    await make_speech(pc.audio, 1)
    commands = 0

    async def run(machine: Machine, *command: str) -> str:
        nonlocal commands
        commands += 1
        ran = await machine.does(*command)
        return ran.out

    said = await run(server, "init", "hub", "--public", f"https://127.0.0.1:{hub_port}")
    await run(server, *monitor_that_starts(gpu))
    commands += 1
    async with server.up(until="connected to wss://"):
        listen = ("--listen", f"127.0.0.1:{worker_port}", "--gpu", "studio")
        joined = await run(gpu, "join", f"127.0.0.1:{hub_port}", code_for("worker", said), *listen, "--tls")
        assert f"with TLS; others use 127.0.0.1:{worker_port}" in joined
        await run(pc, "join", f"127.0.0.1:{hub_port}", code_for("client", said))
        await run(pc, "submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--plain")
    assert (pc.folder / "out.mp4").stat().st_size > 0
    assert commands == 6
    assert {"wakestream.key", "hub.pem", "wakestream.toml", "setup.json"} == pc.files()
    left = await pc.run("leave")
    assert "revoke it there: wakestream license revoke" in left.out
    assert pc.files() == set()


async def test_three_machines_on_a_network_know_each_other_by_their_addresses(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    server, gpu, pc = machines
    hub_at, gpu_at = f"{networks.address(1)}:8765", f"{networks.address(2)}:8383"
    await make_video(pc.video, 1, size="160x120")
    await make_speech(pc.audio, 1)
    with networks.machines(3) as (server.prefix, gpu.prefix, pc.prefix):
        said = await server.does("init", "hub", "--public", f"https://{hub_at}")
        await server.does(*monitor_that_starts(gpu, *networks.from_another(gpu.prefix)))
        async with server.up(until="connected to wss://"):
            for machine, role, flags in ((gpu, "worker", ("--gpu", "studio", "--listen", gpu_at)), (pc, "client", ())):
                await machine.does("join", hub_at, code_for(role, said.out), *flags)
            ran = await pc.does("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--json")
            assert [each["branch"] for each in ran.all("granted")] == ["offline"]
            assert [each["url"] for each in ran.all("online")] == [f"http://{gpu_at}"]
            ran = await pc.run("submit", "clip.mp4", "speech.wav", "-o", "again.mp4", "--json")
            assert [each["branch"] for each in ran.all("granted")] == ["online"]
    assert (pc.folder / "again.mp4").stat().st_size > 0


async def test_one_machine_in_one_command_and_a_killed_program_comes_back(machine: Machine) -> None:
    await make_video(machine.video, 1, size="160x120")
    await make_speech(machine.audio, 1)
    async with machine.up("--gpu", "studio", until="is a monitor") as printed:
        hub = (await printed("hub: ws://")).split("hub: ")[1].split(";")[0]
        await printed("ready: ")
        for command in ("status", "doctor", "top --once", "cost", "why gpu"):  # without a hub and a key
            (await machine.run(*command.split())).says("studio")
        ran = await machine.does("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--json")
        # The way is the depot's, or on a busy machine, where the GPU may be on by then, the direct one.
        assert {event["gpu"] for event in ran.events if event["event"] in ("granted", "delivered")} == {"studio"}
        address = read(machine.folder / "daemon")
        assert address is not None
        os.kill(address.pid, signal.SIGTERM)  # on Windows that kills it
        assert f"hub: {hub};" in await printed("hub: ws://")  # the same port
        await printed("ready: ")
        await machine.does("submit", "clip.mp4", "speech.wav", "-o", "again.mp4", "--json")


async def test_a_hub_with_a_depot_in_one_command_is_run_by_up_and_by_a_service(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    server, other, pc = machines
    port, at = free_port(), f"127.0.0.1:{free_port()}"
    public = f"https://127.0.0.1:{port}"
    beside = ("--depot", "files", "--depot-size", "100MB")
    said = await server.does("init", "hub", "--public", public, "--listen", f"127.0.0.1:{port}", *beside)
    assert [line for line in said.out.splitlines() if "start it" in line] == ["start it: wakestream up"]
    larger = ("--public", public, "--listen", f"127.0.0.1:{port}", "--depot", "files", "--depot-size", "200MB")
    resized = await server.run("init", "hub", *larger)
    assert f"so restart it: wakestream depot run --state {server.folder / 'files'} --size 200000000" in resized.out
    assert "so restart it" not in (await server.run("init", "hub", *larger)).out
    assert (await server.run("init", "hub", *larger[:4], *beside)).code == 0
    found = load({}, folder=server.folder / "config" / "depot")
    assert (found.public_url, found.listen) == ("https://127.0.0.1:8385", ("127.0.0.1", 8385))
    assert found.tls_cert is not None
    setup = recorded(server.folder / "config" / "depot")
    assert setup is not None
    assert setup.arguments == ["run", "--state", str(server.folder / "files"), "--size", "100000000"]
    own = ("--listen", at, *beside, "--tls-cert", str(found.tls_cert), "--tls-key", str(found.tls_key), "--service")
    again = await server.run("init", "depot", *own)  # at a port that is free here
    assert again.code == 0, again.err
    unit = next((server.folder / "home").rglob("wakestream-depot*"))
    assert " depot run --state " in unit.read_text()
    async with server.up(until="is a depot"):
        await pc.does("join", f"127.0.0.1:{port}", code_for("client", said.out))
        listed = await pc.run("depot", "ls")
        assert (listed.code, listed.out) == (0, "depot: files 0, 0 B\n"), listed
        code = await invited(server, "depot")
        given = ("--listen", "127.0.0.1:0", "--depot", "other")
        (await other.run("join", f"127.0.0.1:{port}", code, *given)).refuses(
            "another license runs the depot of this hub", "the code was not used"
        )
    left = await server.run("leave", "depot")
    assert (left.code, unit.exists()) == (0, False)


def test_the_certificate_of_another_name_is_not_used(machine: Machine, here: Here) -> None:
    assert here(machine, "init", "hub", "--public", "https://old.example:8765").code == 0
    ran = here(machine, "init", "hub", "--public", "https://new.example:8765")
    assert (ran.code, "is for old.example, localhost, 127.0.0.1 and not for new.example" in ran.err) == (2, True)


def test_relative_paths_of_a_hub_are_those_of_the_command(machine: Machine, here: Here) -> None:
    make_certificate(machine.folder / "tls.pem", machine.folder / "tls.key", ["127.0.0.1"])
    given = ("--tls-cert", "tls.pem", "--tls-key", "tls.key", "--state", "hub state", "--folder", "conf")
    ran = here(machine, "init", "hub", "--public", "https://127.0.0.1:8765", *given)
    assert ran.code == 0, ran
    found = load({}, folder=machine.folder / "conf" / "hub")
    assert (found.tls_cert, found.tls_key) == (machine.folder / "tls.pem", machine.folder / "tls.key")
    setup = recorded(machine.folder / "conf" / "hub")
    assert setup is not None
    assert str(machine.folder / "hub state") in setup.arguments
    assert "start it: wakestream up --folder conf" in ran.out


def test_init_again_changes_nothing_and_the_files_of_others_stay(machine: Machine, here: Here) -> None:
    first = here(machine, "init", "hub", "--public", "https://hub.example:8765")
    settings = machine.folder / "config" / "hub" / "wakestream.toml"
    before = settings.read_bytes()
    again = here(machine, "init", "hub", "--public", "https://hub.example:8765")
    assert (first.code, again.code) == (0, 0), again.err
    assert f"kept {settings}, nothing changed" in again.out
    assert settings.read_bytes() == before
    assert code_for("worker", first.out) != code_for("worker", again.out)
    for _ in range(2):
        assert here(machine, "init", "client").code == 0
    licenses = here(machine, "license", "list", "--json")
    assert [one["role"] for one in map(json.loads, licenses.out.splitlines())] == ["client"]
    (machine.folder / "config" / "wakestream.toml").write_text('hub = "wss://mine.example"\n')
    here(machine, "init", "client").refuses("is there already, and set-up did not write it")
    left = here(machine, "leave", "client")
    assert "it was changed since" in left.out
    assert (machine.folder / "config" / "wakestream.toml").exists()


@asynccontextmanager
async def hub_of(server: Machine) -> AsyncIterator[str]:
    """A hub of `init hub`, while it runs; the address for `join`."""
    port = free_port()
    assert (await server.run("init", "hub", "--public", f"https://127.0.0.1:{port}")).code == 0
    found = recorded(folder_of("hub", server.folder / "config"))
    assert found is not None
    async with server.runs("hub", *found.arguments) as hub:
        await hub.address()
        yield f"127.0.0.1:{port}"


async def invited(server: Machine, role: str, *flags: str) -> str:
    return str(json.loads((await server.run("invite", role, *flags, "--json")).out)["code"])


async def test_a_monitor_joins_with_a_code_and_looks_at_its_machine(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    server, other, _ = machines
    power = ("--power", "command", "--start", "true", "--stop", "true", "--inspect", "echo stopped")
    async with hub_of(server) as hub:
        ran = await other.does("join", hub, await invited(server, "monitor", "--gpu", "studio"), *power)
    found = load({}, folder=other.folder / "config" / "monitor")
    assert (found.gpu, found.power, "stopped" in ran.out) == ("studio", "command", True), ran


async def test_a_join_that_cannot_be_is_refused_before_its_code_is_used_up(
    machines: tuple[Machine, Machine, Machine], here: Here
) -> None:
    server, gpu, pc = machines
    mine = pc.folder / "config" / "wakestream.toml"
    mine.parent.mkdir()
    mine.write_text('hub = "wss://mine.example"\n')
    async with hub_of(server) as hub:

        async def join(machine: Machine, code: str, *flags: str) -> Ran:
            return await asyncio.to_thread(here, machine, "join", hub, code, *flags)

        code = await invited(server, "client")
        (await join(pc, code)).refuses(f"{mine} is there already")
        mine.unlink()
        (await join(gpu, code, "--gpu", "studio")).says("a client has no --gpu", code=2)
        assert gpu.files() == set()
        assert (await join(pc, code)).code == 0
        code = await invited(server, "worker", "--gpu", "studio")
        (await join(gpu, code, "--gpu", "attic")).says("this code is for the GPU studio, not attic", code=2)
        assert gpu.files() == set()
        assert (await join(gpu, code)).code == 0
        assert load({}, folder=gpu.folder / "config" / "worker").gpu == "studio"
        (await join(gpu, code)).refuses("has used this code before, as a worker; nothing was changed")


async def test_an_admin_code_sets_a_pc_up_and_leave_keeps_secrets_that_set_up_did_not_write(
    machines: tuple[Machine, Machine, Machine],
) -> None:
    server, gpu, pc = machines
    own = gpu.folder / "config" / "worker" / ".env"
    own.parent.mkdir(parents=True)
    own.write_text("HEYGEM_API_SECRET=my-own-secret-0123456789\n")
    async with hub_of(server) as hub:
        assert (await gpu.run("join", hub, await invited(server, "worker"), "--gpu", "studio")).code == 0
        ran = await pc.run("join", hub, await invited(server, "admin"))
        key = (pc.folder / "config" / "wakestream.key").read_text().strip()
        assert (ran.code, key in ran.out + ran.err) == (0, False), ran.err
        asked = await pc.run("top", "--once")
        assert "connected: clients 1" in asked.out, asked  # only admins get this
    assert (await gpu.run("leave", "worker")).code == 0
    assert own.read_text() == "HEYGEM_API_SECRET=my-own-secret-0123456789\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")
@pytest.mark.parametrize(("typed", "wanted"), [("y\n", True), ("\n", False)])
async def test_join_offers_the_daemon_as_a_service_and_an_entry_of_the_start_menu(
    machines: tuple[Machine, Machine, Machine], typed: str, wanted: bool
) -> None:
    server, _, pc = machines
    async with hub_of(server) as hub:
        async with terminal(pc, "join", hub, await invited(server, "client")) as screen:
            await screen.shows("start wakestream with this computer")
            screen.type(typed)
            said = await screen.ended()
        assert screen.process.returncode == 0, said
    unit = pc.folder / "home" / ".config" / "systemd" / "user" / "wakestream-client.service"
    entry = pc.folder / "data" / "applications" / "wakestream.desktop"
    assert (unit.exists(), entry.exists()) == (wanted, wanted), said
    if wanted:
        assert "systemctl --user enable --now wakestream-client" in plain(said)
        assert '"console" "--open"' in entry.read_text()


@pytest.mark.parametrize("open_", [True, False])
async def test_a_worker_gets_the_address_that_the_hub_sees_and_the_hub_tries_to_connect(
    machines: tuple[Machine, Machine, Machine], open_: bool
) -> None:
    server, gpu, _ = machines
    port = free_port()
    host = "0.0.0.0" if open_ else "127.0.0.2"  # noqa: S104 - the hub sees 127.0.0.1, where the latter is closed
    async with hub_of(server) as hub:
        ran = await gpu.does("join", hub, await invited(server, "worker"), "--listen", f"{host}:{port}")
    found = load({}, folder=gpu.folder / "config" / "worker")
    assert found.gpu == "gpu"  # as a monitor's without --gpu
    assert found.public_url == (f"http://127.0.0.1:{port}" if open_ else None)
    assert ("with plain HTTP" in ran.out, "--tls-cert" in ran.out) == (True, open_)
    assert (f"can connect to port {port}" in ran.out, "cannot connect" in ran.out) == (open_, not open_), ran.out


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")
async def test_init_monitor_asks_for_provider_key_and_machine_and_looks_at_it(machine: Machine) -> None:
    async with serving(RunpodWorld()) as cloud:
        key, at = cloud.keys["RUNPOD_API_KEY"], ("--gpu", "studio", "--power-option", f"base_url={cloud.url}")
        assert (await machine.run("init", "hub", "--public", "http://127.0.0.1:8765")).code == 0
        before = machine.files()
        async with terminal(machine, "init", "monitor", *at) as wrong:
            await wrong.shows("--power:")
            wrong.type("runpod\n")
            await wrong.shows("RUNPOD_API_KEY:")
            wrong.type("rpa_wrong_key_0123456789\n")
            await wrong.ended()
            assert (wrong.process.returncode, machine.files()) == (2, before), wrong.text
        async with terminal(machine, "init", "monitor", *at) as screen:
            await screen.shows("--power:")
            number = re.search(r"(\d+)\) *runpod", plain(screen.text))
            assert number is not None
            screen.type(f"{number[1]}\n")
            await screen.shows("RUNPOD_API_KEY:")
            screen.type(f"{key}\n")
            await screen.shows("--machine:")
            row = re.search(r"(\d+)\) *(\S+) +studio gpu +stopped", plain(screen.text))
            assert row is not None
            screen.type(f"{row[1]}\n")
            await screen.shows("--price-per-hour")
            screen.type("1.20\n")
            await screen.shows("--budget-per-day")
            screen.type("20\n")
            said = await screen.ended()
    assert (screen.process.returncode, key in said, "stopped" in said) == (0, False, True), said
    found = load({}, folder=machine.folder / "config" / "monitor")
    assert (found.power, found.power_machine, found.gpu) == ("runpod", row[2], "studio")
    hub = recorded(folder_of("hub", machine.folder / "config"))
    assert hub is not None
    assert hub.arguments == ["--price-per-hour", "studio=1.20", "--gpu-budget", "studio=20/"]
    env = machine.folder / "config" / "monitor" / ".env"
    assert (env.read_text(), env.stat().st_mode & 0o77) == (f"RUNPOD_API_KEY={key}\n", 0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--power", "?"), "--power is '?'; installed are autodl"),
        (("--power", "runpod"), "needs --machine ID"),
        (("--power", "runpod", "--machine", "a"), "RUNPOD_API_KEY is not set"),
        ((), "--power is missing"),
        (("--power", "command", "--start", "true", "--stop", "true"), "--inspect is missing"),
        (("--power", "command", "--start", "true", "--stop", "true", "--inspect", "echo unknown"), "unknown ("),
        (("--power", "process", "--program", "no-such-program"), "is not a program here"),
        (("--power", "process", "--program", "true", "--gpu", "a", "--price-per-hour", "x"), ": 'x' is no price"),
    ],
)
def test_a_monitor_that_cannot_work_is_refused_and_nothing_is_written(
    machine: Machine, here: Here, flags: tuple[str, ...], words: str
) -> None:
    assert here(machine, "init", "hub", "--public", "http://127.0.0.1:8765").code == 0
    before = machine.files()
    ran = here(machine, "init", "monitor", *flags)
    assert (ran.code, words in ran.err, machine.files()) == (2, True, before), ran
    assert here(machine, "license", "list", "--json").out == ""


def test_a_second_gpu_does_not_replace_the_monitor_of_the_first_one(machine: Machine, here: Here) -> None:
    power = ("--power", "process", "--program", "true")
    assert here(machine, "init", "hub", "--public", "http://127.0.0.1:8765").code == 0
    assert here(machine, "init", "monitor", *power, "--gpu", "a", "--price-per-hour", "1").code == 0
    before = machine.files()
    ran = here(machine, "init", "monitor", *power, "--gpu", "b", "--price-per-hour", "2")
    assert (ran.code, "has the monitor of the GPU a; for b too" in ran.err, machine.files()) == (2, True, before), ran
    assert here(machine, "init", "monitor", *power, "--gpu", "a", "--idle-after", "5min").code == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("init", "client"), "no hub was set up here; get a code there with `wakestream invite client`"),
        (("init", "hub"), "--public is missing"),
        (("init", "hub", "--public", "ftp://hub.example"), "write https://"),
        (("init", "hub", "--public", "https://hub.example", "--depot-size", "2GB"), "give --depot DIR, too"),
        (("init", "hub", "--public", "https://hub.example", "--depot", "s3://b/p"), "is no folder"),
        (("init", "hub", "--public", "https://hub.example", "--gpu", "a"), "a hub has no --gpu; leave it out"),
        (("join", "127.0.0.1:9", "ABCD"), "is not a code; it has 8 letters and digits"),
        (("join", "127.0.0.1:9", "ABCD-EFGH"), "no hub answers (wss://127.0.0.1:9/dsp: nothing listens"),
        (("leave",), "nothing was set up here"),
        (("invite", "boss"), "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    machine: Machine, here: Here, command: tuple[str, ...], words: str
) -> None:
    here(machine, *command).refuses(words)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_a_service_has_the_program_its_settings_and_a_way_to_start_it(platform: str, tmp_path: Path) -> None:
    file, start = service("client", tmp_path / "my config", ("--state", "a b"), platform, tmp_path)
    for word in ("daemon", "--state", "a b", str(tmp_path / "my config")):
        assert word in file.content
    quoted = {
        "linux": f'Environment="WAKESTREAM_CONFIG={tmp_path / "my config"}"\n',
        "darwin": f"<string>{tmp_path / 'my config'}</string>",
        "win32": f'set "WAKESTREAM_CONFIG={tmp_path / "my config"}"\r\n',
    }
    assert quoted[platform] in file.content
    assert platform != "win32" or f'/TR "\\"{file.path}\\""' in start
    assert "wakestream-client" in start
    assert file.path.is_relative_to(tmp_path)


ODD = "a $HOME ${HOME} 50% %h %PATH% it's &b"
"""A folder with what systemd or cmd.exe could take for variables, and quotation marks."""


def test_variables_in_names_are_only_text_for_cmd(tmp_path: Path) -> None:
    file, _ = service("client", tmp_path / "50%PATH%", ("--state", "C:\\a&b%TEMP%"), "win32", tmp_path)
    lines = file.content.split("\r\n")
    assert lines[3] == f'set "WAKESTREAM_CONFIG={tmp_path}/50%%PATH%%"'
    assert lines[5].endswith('daemon --state "C:\\a&b%%TEMP%%"')


def test_variables_in_names_are_only_text_for_systemd(tmp_path: Path) -> None:
    base = tmp_path / ODD
    file, _ = service("client", base, ("--state", str(base)), "linux", tmp_path)
    quoted = str(base).replace("%", "%%")
    (line,) = [line for line in file.content.splitlines() if line.startswith("ExecStart=")]
    assert line.endswith('daemon --state "' + quoted.replace("$", "$$") + '"')
    assert f'Environment="WAKESTREAM_CONFIG={quoted}"\n' in file.content  # where `$` is a plain letter


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("word", ["a\nExecStartPre=/bin/x", "a\r\ncalc", "a\x1b[2J", "a\x85b", "a\u2028b"])
def test_a_word_with_a_control_character_is_no_part_of_a_service(platform: str, word: str, tmp_path: Path) -> None:
    for base, state in ((tmp_path / word, "a"), (tmp_path, word)):
        with pytest.raises(SettingsError, match="cannot have"):
            service("hub", base, ("--state", state), platform, tmp_path)
    with pytest.raises(SettingsError, match="cannot have"):
        folder_of("worker", tmp_path / word)


def test_a_quotation_mark_begins_no_command_in_a_script_of_windows(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot have"):
        service("hub", tmp_path, ("--state", 'a" & calc & "'), "win32", tmp_path)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    base = tmp_path / ODD
    file, _ = service("client", base, ("--state", str(base)), "linux", tmp_path)
    file.path.parent.mkdir(parents=True)
    file.path.write_text(file.content)
    command = ["systemd-analyze", "verify", "--user", str(file.path)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=50)
    assert (ran.returncode, file.path.name in ran.stderr) == (0, False), ran.stderr


def test_the_command_for_launchd_names_any_path(tmp_path: Path) -> None:
    _, start = service("client", tmp_path, (), "darwin", tmp_path / "it's")
    assert shlex.split(start)[-1].endswith("/it's/Library/LaunchAgents/wakestream-client.plist")
