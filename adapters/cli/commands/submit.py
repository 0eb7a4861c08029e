"""`wakestream submit VIDEO AUDIO [-o OUT]`: one job in the foreground, from the hub's answer to the result."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import any_kind, exit_codes, flags
from wakestream.adapters.cli.follow import daemon_for, daemons_own, hand_over
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.kinds_show import show_kind
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.base import Display
from wakestream.adapters.cli.render.display import display
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.client.client import open_client
from wakestream.adapters.client.hub_query import hub_kinds
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import NO_CHAIN, Chain, DaemonClient, Lengths, open_daemon_client
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.engines.probe import all_probed, both_probed
from wakestream.adapters.runtime.printing import answer
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Cancelled, Done, Failed, Job, JobEvent, Note, TimedOut
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds
from wakestream.streams.protocol.wire import MAX_ID

EXAMPLES = (
    "submit clip.mp4 speech.wav -o talking.mp4 --hub http://hub.example:8765 --key-file client.key",
    "submit --kind upscale --in image=small.png --param scale=2 --out image=large.png",
    "submit --kind speak --in text=a.txt --then --kind lipsync --in video=a.mp4 --in audio=@:audio --out video=b.mp4",
    "submit --kind upscale --help",
)

HUB_PATIENCE = 30.0
"""Seconds that a foreground job looks for a hub before it gives up (--hub-timeout)."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("video", metavar="VIDEO", type=Path, nargs="?", help="the video file")
    parser.add_argument("audio", metavar="AUDIO", type=Path, nargs="?", help="the audio file to speak")
    any_kind.arguments(parser)
    _help_of_kind(parser)
    flags.add(parser, "-o --output OUT", "the result file (default VIDEO's name + .synced.mp4)", type=Path)
    flags.worker_url(parser)
    flags.add(parser, "--job-id ID", "the job's idempotency key (default: a new one)")
    flags.add(parser, "--json", "events as JSON lines on standard output")
    flags.add(parser, "--plain", "plain lines even on a terminal")
    where = parser.add_mutually_exclusive_group()
    flags.add(where, "--foreground", "run the job here even if a daemon runs")
    flags.add(where, "--detach", "submit to the daemon, print the job's id and return (needs `wakestream daemon`)")
    flags.add(
        parser,
        "--priority N",
        "priority in the daemon, -100 to 100; higher runs first (default 0)",
        type=flags.whole(-100, 100),
        default=0,
    )
    flags.daemon(parser)
    flags.connection(parser)
    flags.probe(parser)
    flags.trace(parser)
    flags.waits(parser)
    then = "the flags of a next job, which starts when this one is done; @:RESULT is a result of this one"
    parser.add_argument("--then", nargs=argparse.REMAINDER, metavar="FLAGS", default=[], help=then)


class _Help(argparse._HelpAction):
    """`--help`: the help of the command, or that of the kind that was named before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if namespace.kind is None:
            super().__call__(parser, namespace, values, option)
        namespace.help_of_kind = True


def _help_of_kind(parser: argparse.ArgumentParser) -> None:
    usual = next(action for action in parser._actions if isinstance(action, argparse._HelpAction))
    usual.__class__ = _Help  # a second --help would be a conflict
    parser.set_defaults(help_of_kind=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """What the arguments ask for.

    Attributes:
        asked: The job, or the flags of a job of any kind; its files were checked.
        settings: All settings.
        state: The daemon's folder, if it is not the usual one.
        priority: The job's priority in the daemon.
        foreground: Do not use a daemon.
        detach: Use a daemon, and do not wait for the job.
        ignored: The names of the given settings that a daemon does not take from a job.
        as_json: Write JSON for a program.
        plain: Write plain lines even on a terminal.
        quiet: Write only the outcome.
    """

    asked: Job | any_kind.Given
    settings: Settings
    state: str | None
    priority: int
    foreground: bool
    detach: bool
    ignored: tuple[str, ...]
    as_json: bool
    plain: bool
    quiet: bool

    @property
    def id(self) -> str:
        """The job's id; empty if none was given for a job of any kind."""
        return self.asked.id if isinstance(self.asked, Job) else self.asked.job_id

    @property
    def chain(self) -> Chain:
        """The jobs of the daemon that it follows."""
        return NO_CHAIN if isinstance(self.asked, Job) else self.asked.chain

    def display(self, job: Job) -> Display:
        """A display of the job."""
        return display(job, as_json=self.as_json, plain=self.plain, quiet=self.quiet)


def run(args: argparse.Namespace) -> int:
    """Submit the job to the daemon, or run it here if no daemon runs; the exit code is its outcome."""
    stages = _stages(args)
    if (asks := next((stage for stage in stages if stage.help_of_kind), None)) is not None:
        found = begin(args, usual_level="CRITICAL")
        return run_program(lambda _: show_kind(asks.kind, found, asks.state))
    settings = begin(args)
    asked = [_submission(each, settings) for each in stages]
    return run_program(lambda stop: _run_all(asked, stop))


def _submission(args: argparse.Namespace, settings: Settings) -> Submission:
    return Submission(
        asked=_job(args),
        settings=settings,
        state=args.state,
        priority=args.priority,
        foreground=args.foreground,
        detach=args.detach,
        ignored=daemons_own(args),
        as_json=args.json,
        plain=args.plain,
        quiet=flags.is_quiet(args),
    )


def _stages(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each job: those before the first `--then`, and those after each."""
    stages = [args]
    while rest := stages[-1].then:
        before = stages[-1]
        before.job_id = _id(before.job_id)
        end = rest.index("--then") if "--then" in rest else len(rest)
        words = [word.replace("=@:", f"=@{before.job_id}:", 1) for word in rest[:end]]
        stage = parser_of(("submit",)).parse_args(["submit", *words, *rest[end:]])
        stage.after = [*(stage.after or ()), before.job_id]
        stage.state = stage.state or before.state
        stages.append(stage)
    for switch in ("json", "plain", "detach", "foreground"):
        given = any(getattr(stage, switch) for stage in stages)
        for stage in stages:
            setattr(stage, switch, given)
    return stages


async def _run_all(asked: Sequence[Submission], stop: Stop) -> int:
    """Submit all jobs, and follow the last one. If one is refused, or on Ctrl-C, those before it are cancelled."""
    *before, last = asked
    submitted: list[str] = []
    try:
        for one in before:
            await _run(replace(one, detach=True, quiet=True), stop)
            submitted.append(one.id)
        code = await _run(last, stop)
    except WakestreamError:
        if not await _is_accepted(last):  # otherwise only the following of it failed
            await _cancel(last.state, submitted)
        raise
    if stop.interrupted:
        await _cancel(last.state, submitted)
    return code


async def _is_accepted(one: Submission) -> bool:
    try:
        async with open_daemon_client(one.state) as client:
            await client.job(one.id)
    except WakestreamError:
        return False
    return True


async def _cancel(state: str | None, jobs: Sequence[str]) -> None:
    for job in jobs:
        async with open_daemon_client(state) as client:
            with contextlib.suppress(WakestreamError):  # such as a job that has ended
                await client.cancel(job)


async def _run(asked: Submission, stop: Stop) -> int:
    if not asked.foreground:
        async with open_daemon_client(asked.state) as client:
            if await daemon_for(
                client, asked.settings.hub_url, needed=asked.detach or bool(asked.chain), ignored=asked.ignored
            ):
                return await _hand_over(client, asked, stop)
    asked.settings.needs_hub()
    asked.settings.needs_key()
    job, lengths = await _checked(asked, lambda: hub_kinds(asked.settings))
    with asked.display(job) as shown:
        _show_lengths(job, lengths, shown)
        return await _submit(job, asked.settings, shown, stop)


async def _hand_over(client: DaemonClient, asked: Submission, stop: Stop) -> int:
    """The exit code of a job that the daemon takes."""
    job, lengths = await _checked(asked, client.kinds)
    if asked.detach:
        answer(await client.submit(job, asked.priority, lengths, asked.chain), job.id, as_json=asked.as_json)
        return exit_codes.DONE
    with asked.display(job) as shown:
        _show_lengths(job, lengths, shown)
        return await hand_over(client, job, asked.priority, shown, stop, exit_code, lengths, asked.chain)


async def _checked(asked: Submission, ask: Callable[[], Awaitable[KnownKinds]]) -> tuple[Job, Lengths]:
    """The job, checked as far as that is possible here, and the lengths of its files if it is a pair.

    Args:
        asked: What the user asks for.
        ask: Returns the kinds that the GPUs can do.

    Raises:
        MediaUnusable: A file of a pair cannot be decoded.
        WrongInput: The job does not fit its kind, or a file cannot be decoded.
    """
    probe = asked.settings.probe
    if isinstance(asked.asked, Job):
        return asked.asked, await both_probed(*asked.asked.inputs.values()) if probe else (None, None)
    known, why = await _known(ask)
    job = asked.asked.job(known, why)
    if probe:
        await all_probed(asked.asked.media(known))
    return job, (None, None)


async def _known(ask: Callable[[], Awaitable[KnownKinds]]) -> tuple[KnownKinds, str]:
    """The kinds, and the reason if they are not known. The job may run nevertheless: it waits for the hub."""
    try:
        known = await ask()
    except WakestreamError as error:
        return UNKNOWN, str(error)
    return known, "" if known.known else "the hub does not tell its kinds"


def _show_lengths(job: Job, lengths: Lengths, shown: Display) -> None:
    named = {f"{name}_s": path.name for name, path in job.inputs.items()}
    known = {field: time for field, time in zip(named, lengths, strict=False) if time}  # two, or none are known
    if known:
        said = [t("lasts", name=named[field], time=words.duration(time)) for field, time in known.items()]
        shown.show(Note(t("list.comma").join(said), known))


def _job(args: argparse.Namespace) -> Job | any_kind.Given:
    files = [name for name in ("video", "audio", "output") if getattr(args, name) is not None]
    given = [name for name in any_kind.NAMES if getattr(args, name) is not None]
    if given and files:
        raise SettingsError("--kind, --in, --param and --out describe a job without VIDEO, AUDIO and -o; give one form")
    if given:
        if args.kind is None:
            raise SettingsError("give --kind, such as --kind upscale --in image=a.png; `wakestream kinds` lists them")
        described = any_kind.given(
            _id(args.job_id),
            args.kind,
            *(args.inputs or (), args.params or (), args.outputs or (), args.after or ()),
        )
        if described.chain and args.foreground:
            raise SettingsError("a job that follows another one needs `wakestream daemon`; leave --foreground out")
        return described
    if args.after:
        raise SettingsError("--after and --then need --kind, --in and --out; `wakestream help submit` has an example")
    if args.video is None or args.audio is None:
        raise SettingsError("give VIDEO and AUDIO, or --kind, --in and --out; `wakestream help submit` has examples")
    return job_of(args.video, args.audio, args.output, args.job_id)


def _id(given: str | None) -> str:
    if given is not None and (not 0 < len(given) <= MAX_ID or not given.isprintable() or " " in given):
        raise SettingsError(f"--job-id: an id is one word of 1 to {MAX_ID} characters; leave it out for a new one")
    return given or f"ws-{uuid.uuid4().hex[:16]}"


def job_of(video: Path, audio: Path, output: Path | None, job_id: str | None = None) -> Job:
    """A job with these files, which are checked before any GPU is woken.

    `FileUnusable` when the files cannot be used, `SettingsError` for an id that no hub would take.
    """
    name = _id(job_id)
    result = output or Path(f"{video.stem}.synced.mp4")
    for path in (video, audio):
        check_readable(path)
        check_named(path)
    check_writable(result, keep=(video, audio))
    return Job.lipsync(name, video, audio, result)


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
