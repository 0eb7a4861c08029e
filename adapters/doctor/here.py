"""What can be seen on this machine alone: settings, key, folder, disk, ffmpeg, and the programs that settings name."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from wakestream.adapters.doctor.findings import Finding, fault, ok, skipped, warning
from wakestream.adapters.settings import Settings
from wakestream.operators.errors import WakestreamError

LITTLE_SPACE = 2 * 1000**3
"""Bytes below which a disk is said to be nearly full."""


async def seen(found: Settings, folder: Path) -> AsyncIterator[Finding]:
    """All of it."""
    for finding in (*settings_found(found), *folder_usable(folder), *recordings(found), *engine_there(found)):
        yield finding
    for more in (ffmpeg_works(), power_answers(found)):
        async for finding in more:
            yield finding


def settings_found(found: Settings) -> Iterator[Finding]:
    """What is set, and what a client needs besides."""
    for text in found.warnings:
        yield warning("settings", text)
    if found.hub_url is None:
        yield fault("settings", "no hub is set", "give --hub URL, or put API_SERVER_URL=… into .env")
    else:
        yield ok("settings", f"the hub is {found.hub_url}")
    if found.key is None:
        todo = "put the key into .license, or set WAKESTREAM_KEY; `wakestream license issue` on the hub makes one"
        yield fault("license", "no license key is set", todo)
    else:
        yield ok("license", f"a key of {len(found.key)} characters is set; whether it is good, the hub says")


def folder_usable(folder: Path) -> Iterator[Finding]:
    """Results are written here."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".wakestream-") as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        todo = "go to a folder that is yours, or name the output with -o"
        yield fault("disk", f"{folder} cannot be written to ({error.strerror or error})", todo)
        return
    if free < LITTLE_SPACE:
        yield warning("disk", f"{folder} has {free / 1e9:.1f} GB left", "make room: results are written here")
    else:
        yield ok("disk", f"{folder} can be written to and has {free / 1e9:.0f} GB left")


async def ffmpeg_works() -> AsyncIterator[Finding]:
    """The engine `ffmpeg` and the demo need it; a client does not."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

        program = await asyncio.to_thread(get_ffmpeg_exe)
        first = await _first_line(program, "-version")
    except (ImportError, OSError, RuntimeError, TimeoutError) as error:
        yield warning("ffmpeg", f"it does not run ({error})", "needed by `worker --engine ffmpeg` and `demo` only")
        return
    yield ok("ffmpeg", first or program)


async def _first_line(program: str, argument: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, argument, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace").partition("\n")[0].partition(" Copyright")[0].strip()


def engine_there(found: Settings) -> Iterator[Finding]:
    """The command of `[engine]`, where this machine is the GPU's."""
    if found.engine_command is None:
        return
    program = found.engine_command[0]
    if shutil.which(program) is None:
        yield fault("engine", f"{program} is not a program that can be started", "give its full path, or install it")
    else:
        yield ok("engine", f"{program} is there")


async def power_answers(found: Settings) -> AsyncIterator[Finding]:
    """The commands of `[power]`, where this machine is the monitor's: the machine is looked at, not switched."""
    if found.power_inspect is None:
        return
    from wakestream.adapters.power import CommandPower

    power = CommandPower(
        found.power_start or ("",), found.power_stop or ("",), found.power_inspect, timeout=found.power_timeout or 60.0
    )
    try:
        reading = await power.inspect()
    except WakestreamError as error:
        yield fault("power", f"the provider cannot say how the machine is: {error}", "run [power] inspect by hand")
    else:
        level = warning if reading in ("unknown", "failed", "no_capacity") else ok
        yield level("power", f"the provider says that the machine is {reading} {power.detail[:80]}".rstrip())
    finally:
        await power.close()
    for name, command in (("start", found.power_start), ("stop", found.power_stop)):
        if command is None:
            yield fault("power", f"[power] {name} is not set", f"set {name} in wakestream.toml")
        elif shutil.which(command[0]) is None:
            yield fault("power", f"[power] {name}: {command[0]} is not a program", "give its full path")


def recordings(found: Settings) -> Iterator[Finding]:
    """The folder of recordings, where one is set."""
    if found.record is None:
        return
    folder = found.record if found.record.is_dir() else found.record.parent
    if folder.is_dir():
        yield ok("record", f"recordings go to {found.record}")
    else:
        yield fault("record", f"{folder} does not exist", "create it, or leave --record out")


def nothing_beyond(why: str) -> Iterator[Finding]:
    """What cannot be looked at without a hub."""
    for check in ("monitor", "worker"):
        yield skipped(check, why)
