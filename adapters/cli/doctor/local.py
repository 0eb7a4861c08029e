"""What can be seen on this machine alone: settings, key, folder, disk, ffmpeg, and the programs that settings name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from wakestream.adapters.cli.doctor.result import CheckResult, each, fault, ok, skipped, warning
from wakestream.adapters.cli.i18n.catalog import catalog, t
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.power import CommandPower
from wakestream.adapters.power.config import Provider, make_power, power_config, returned_reading
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.errors import Denied, JournalError, TaskFailed, WakestreamError

LITTLE_SPACE = 2 * 1000**3
"""Bytes below which a disk is said to be nearly full."""


async def seen(settings: Settings, folder: Path, *, asks: bool = False) -> AsyncIterator[CheckResult]:
    """All of it; `asks`: the daemon asks the hub with its key."""
    here = (settings_found(settings, asks=asks), folder_usable(folder), recordings(settings), engine_there(settings))
    async for finding in each(*here, database_answers(settings), ffmpeg_works(), power_answers(settings)):
        yield finding


def settings_found(settings: Settings, *, asks: bool) -> Iterator[CheckResult]:
    """What is set, and what a client needs besides."""
    for text in settings.warnings:
        yield warning("settings", text)
    if settings.hub_url is None:
        yield fault("settings", t("doctor.no_hub"), t("doctor.no_hub.do"))
    else:
        yield ok("settings", t("doctor.hub_set", url=settings.hub_url))
    if asks:
        yield ok("license", t("doctor.key_of_daemon"))
    elif settings.key is None:
        todo = t("doctor.no_key.do")
        yield fault("license", t("doctor.no_key"), todo)
    else:
        yield ok("license", t("doctor.key_set"))


def written_to(folder: Path) -> None:
    """`OSError` when nothing can be written there."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".wakestream-") as file:
        file.write(b"x")


def folder_usable(folder: Path) -> Iterator[CheckResult]:
    """Results are written here."""
    trouble = _unusable((folder,), "disk", "doctor.folder.do", "doctor.little_space.do")
    yield trouble or ok("disk", t("doctor.disk", folder=folder, free=f"{shutil.disk_usage(folder).free / 1e9:.0f}"))


async def database_answers(settings: Settings) -> AsyncIterator[CheckResult]:
    """The database of the journal, where this machine is a hub's."""
    if settings.journal is None:
        return
    try:
        leader, epoch = await asyncio.to_thread(_leader_in, settings.journal)
    except (SettingsError, JournalError, ImportError) as error:
        yield fault("database", str(error), t("doctor.database.do"))
    else:
        yield ok("database", t("doctor.database", leader=leader or "-", epoch=epoch))


def _leader_in(address: str) -> tuple[str, int]:
    from wakestream.adapters.disk import postgres

    with contextlib.closing(postgres.connect(address)) as session, postgres.errors(address, "be read", session):
        leader, epoch = session.execute("SELECT leader, epoch FROM wakestream.meta").fetchone() or ("", 0)
    return leader, epoch


async def ffmpeg_works() -> AsyncIterator[CheckResult]:
    """The engine `ffmpeg` and the demo need it; a client does not."""
    try:
        program = await asyncio.to_thread(found_ffmpeg)
        process = await asyncio.create_subprocess_exec(
            program, "-version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(20):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        first = said.decode(errors="replace").partition("\n")[0].partition(" Copyright")[0].strip()
    except (TaskFailed, OSError, TimeoutError) as error:
        yield warning("ffmpeg", t("doctor.ffmpeg", why=error), t("doctor.ffmpeg.do"))
        return
    yield ok("ffmpeg", first or program)


def engine_there(settings: Settings) -> Iterator[CheckResult]:
    """The command of `[engine]`, where this machine is the GPU's."""
    if settings.engine_command is None:
        return
    program = settings.engine_command[0]
    if shutil.which(program) is None:
        yield fault("engine", t("doctor.engine", program=program), t("doctor.engine.do"))
    else:
        yield ok("engine", t("doctor.engine_there", program=program))


async def power_answers(settings: Settings) -> AsyncIterator[CheckResult]:
    """The power provider, where this machine is the monitor's: the machine is looked at, not switched."""
    name = settings.power or ("command" if settings.power_inspect is not None else None)
    if name is None or name == "process":
        return
    try:
        power = _provider(name, settings)
    except SettingsError as error:
        yield fault("power", str(error), t("doctor.power_settings.do"))
        return
    try:
        reading = returned_reading(await power.inspect())
        says = t("doctor.power_says", reading=reading)
        amiss = reading.state in ("unknown", "failed", "no_capacity", "terminated")
        yield (warning("power", says, t("doctor.power_says.do")) if amiss else ok("power", says))
    except WakestreamError as error:
        todo = t("doctor.power_denied.do") if isinstance(error, Denied) else t("doctor.power.do")
        yield fault("power", t("doctor.power", why=error), todo)
    finally:
        await power.close()
    if (key := f"power.stopped.{name}") in catalog("en"):
        yield ok("power", t(key))
    for finding in _commands(settings) if name == "command" else ():
        yield finding


def _provider(name: str, settings: Settings) -> Provider:
    if name != "command":
        return make_power(name, power_config(settings))
    nothing = ("",)  # a command that is not set is a finding of its own
    start, stop = settings.power_start or nothing, settings.power_stop or nothing
    return CommandPower(start, stop, settings.power_inspect or nothing, timeout=settings.power_timeout or 60.0)


def _commands(settings: Settings) -> Iterator[CheckResult]:
    for name, command in (("start", settings.power_start), ("stop", settings.power_stop)):
        if command is None:
            yield fault("power", t("doctor.power_unset", name=name), t("doctor.power_unset.do", name=name))
        elif shutil.which(command[0]) is None:
            yield fault("power", t("doctor.power_program", name=name, program=command[0]), t("doctor.power_program.do"))


def recordings(settings: Settings) -> Iterator[CheckResult]:
    """The folder of recordings, where one is set."""
    if settings.record is None:
        return
    folder = settings.record if settings.record.is_dir() else settings.record.parent
    if folder.is_dir():
        yield ok("record", t("doctor.record", folder=settings.record))
    else:
        yield fault("record", t("doctor.no_record", folder=folder), t("doctor.no_record.do"))


def nothing_beyond(why: str) -> Iterator[CheckResult]:
    """What cannot be looked at without a hub."""
    for check in ("monitor", "worker"):
        yield skipped(check, why)


async def daemon_stands(settings: Settings, state: Path | None) -> AsyncIterator[CheckResult]:
    """The one whose folder is `state`, if any is to be looked at."""
    if state is None:
        return
    # The folder, or the one in which it would be made.
    if trouble := _unusable((state, *state.parents), "daemon", "doctor.daemon_folder.do", "doctor.daemon_space.do"):
        yield trouble
        return
    async with open_daemon_client(state) as client:
        said = await client.look()
    if said is None:
        yield skipped("daemon", t("doctor.no_daemon", folder=state))
    elif not addresses.serves(said.get("hub"), settings.hub_url):
        says = t("doctor.daemon_elsewhere", hub=said.get("hub"), ours=settings.hub_url)
        yield warning("daemon", says, t("doctor.daemon_elsewhere.do"))
    elif not said.get("connected"):
        yield warning("daemon", t("doctor.daemon_alone", hub=said.get("hub")), t("doctor.daemon_alone.do"))
    else:
        yield ok("daemon", t("doctor.daemon", version=said.get("version"), hub=said.get("hub")))


def _unusable(folders: Sequence[Path], check: str, unwritten: str, full: str) -> CheckResult | None:
    """What is wrong with the first of these folders that is there; the texts `unwritten` and `full` say what to do."""
    folder = folders[0]
    try:
        folder = next((folder for folder in folders if folder.exists()), folder)
        written_to(folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        says = t("doctor.folder", folder=folder, why=error.strerror or error)
        return fault(check, says, t(full if error.errno == errno.ENOSPC else unwritten))
    if free < LITTLE_SPACE:
        return warning(check, t("doctor.little_space", folder=folder, free=f"{free / 1e9:.1f}"), t(full))
    return None
