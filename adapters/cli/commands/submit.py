"""`wakestream submit VIDEO AUDIO [-o OUT]`: one job in the foreground, from the hub's answer to the result."""

from __future__ import annotations

import argparse
import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.follow import daemon_for, hand_over
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.base import Display
from wakestream.adapters.cli.render.display import display
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import Lengths, open_daemon_client
from wakestream.adapters.daemon.discovery import folder, read
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.engines.probe import both_probed
from wakestream.adapters.runtime.printing import answer
from wakestream.operators.model.events import Cancelled, Done, Failed, Job, JobEvent, Note, TimedOut
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol.wire import MAX_ID

EXAMPLES = (
    "submit clip.mp4 speech.wav -o talking.mp4 --hub http://hub.example:8765 --key-file client.key",
    "submit clip.mp4 speech.wav --detach --priority 10",
    "submit clip.mp4 speech.wav --json | jq .event",
)

HUB_PATIENCE = 30.0
"""Seconds that a foreground job looks for a hub before it gives up (--hub-timeout)."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("video", metavar="VIDEO", type=Path, help="the video file")
    parser.add_argument("audio", metavar="AUDIO", type=Path, help="the audio file to speak")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, help="the result file (default VIDEO's name + .synced.mp4)"
    )
    parser.add_argument(
        "--worker-url",
        dest="worker",
        metavar="URL",
        help="the worker's address if the hub gives none (HEYGEM_SERVER_URL)",
    )
    parser.add_argument("--job-id", metavar="ID", help="the job's idempotency key (default: a new one)")
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    parser.add_argument("--plain", action="store_true", help="plain lines even on a terminal")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--foreground", action="store_true", help="run the job here even if a daemon runs")
    where.add_argument(
        "--detach",
        action="store_true",
        help="submit to the daemon, print the job's id and return (needs `wakestream daemon`)",
    )
    parser.add_argument(
        "--priority", metavar="N", type=flags.whole(-100, 100), default=0,
        help="priority in the daemon, -100 to 100; higher runs first (default 0)",
    )  # fmt: skip
    flags.daemon(parser)
    flags.connection(parser)
    flags.probe(parser)
    flags.trace(parser)
    flags.waits(parser)


def run(args: argparse.Namespace) -> int:
    """Submit the job to the daemon, or run it here if no daemon runs; the exit code is its outcome."""
    settings = begin(args)
    return run_program(lambda stop: _run(args, settings, stop))


async def _run(args: argparse.Namespace, settings: Settings, stop: Stop) -> int:
    state = folder(args.state)
    if not args.foreground and (args.detach or read(state) is not None):
        handed = await _hand_over(args, settings, stop, state)
        if handed is not None:
            return handed
    settings.needs_hub()
    settings.needs_key()
    job = job_of(args)
    lengths = await _lengths(job, settings)
    with display(job, as_json=args.json, plain=args.plain, quiet=flags.is_quiet(args)) as shown:
        _show_lengths(job, lengths, shown)
        return await _submit(job, settings, shown, stop)


async def _hand_over(args: argparse.Namespace, settings: Settings, stop: Stop, state: Path) -> int | None:
    """The exit code of a job that the daemon took; None when none runs after all."""
    async with open_daemon_client(state) as client:
        if not await daemon_for(client, settings, args):
            return None
        job = job_of(args)
        lengths = await _lengths(job, settings)
        if not args.detach:
            with display(job, as_json=args.json, plain=args.plain, quiet=flags.is_quiet(args)) as shown:
                _show_lengths(job, lengths, shown)
                return await hand_over(client, job, args.priority, shown, stop, exit_code, lengths)
        kept = await client.submit(job, args.priority, lengths)
    answer(kept, job.id, as_json=args.json)
    return exit_codes.DONE


async def _lengths(job: Job, settings: Settings) -> Lengths:
    """How long the two files are, as far as that can be seen here; `MediaUnusable` when one cannot be decoded."""
    if not settings.probe:
        return None, None

    return await both_probed(job.video, job.audio)


def _show_lengths(job: Job, lengths: Lengths, shown: Display) -> None:
    named = {"video_s": job.video.name, "audio_s": job.audio.name}
    known = {field: time for field, time in zip(named, lengths, strict=True) if time}
    if known:
        said = [t("lasts", name=named[field], time=words.duration(time)) for field, time in known.items()]
        shown.show(Note(t("list.comma").join(said), known))


def job_of(args: argparse.Namespace) -> Job:
    """The job that the arguments describe, checked before any GPU is woken.

    `FileUnusable` when its files cannot be used, `SettingsError` for an id that no hub would take.
    """
    output: Path = args.output or Path(f"{args.video.stem}.synced.mp4")
    for path in (args.video, args.audio):
        check_readable(path)
        check_named(path)
    check_writable(output, keep=(args.video, args.audio))
    return Job(_job_id(args.job_id), args.video, args.audio, output)


def _job_id(given: str | None) -> str:
    if given is None:
        return f"ws-{uuid.uuid4().hex[:16]}"
    if not 0 < len(given) <= MAX_ID or not given.isprintable() or " " in given:
        raise SettingsError(f"--job-id: an id is one word of 1 to {MAX_ID} characters; leave it out for a new one")
    return given


async def _submit(job: Job, settings: Settings, shown: Display, stop: asyncio.Event) -> int:
    policy = settings.policy(Policy(hub=HUB_PATIENCE))
    async with open_client(settings, policy) as client:
        cancelling = asyncio.create_task(_cancel_on(stop, lambda: client.cancel(job.id)))
        try:
            return exit_code(await client.run(job, shown.show))
        finally:
            cancelling.cancel()


async def _cancel_on(stop: asyncio.Event, cancel: Callable[[], object]) -> None:
    await stop.wait()
    cancel()


def exit_code(outcome: JobEvent) -> int:
    """The exit code of a job's outcome."""
    match outcome:
        case Done():
            return exit_codes.DONE
        case TimedOut():
            return exit_codes.TIMED_OUT
        case Cancelled():
            return exit_codes.INTERRUPTED
        case Failed():
            return exit_codes.of_word(outcome.code)
        case _:
            return exit_codes.FAILED
