"""One job of `wakestream submit`: what the arguments ask for, and how it is run by the daemon or in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from wakestream.adapters.cli import any_kind, exit_codes
from wakestream.adapters.cli.at_daemon import daemon_for, daemons_own, exit_code, follow_or_cancel
from wakestream.adapters.cli.i18n.catalog import t, translated
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.display import Display, Leaving, Notifying, display, is_terminal
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.client.hub_query import hub_kinds
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import NO_CHAIN, Chain, DaemonClient, Lengths, open_daemon_client
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.disk.result_names import next_free
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.engines.probe import all_probed, both_probed
from wakestream.adapters.runtime.known_secrets import known_params
from wakestream.adapters.runtime.printing import agrees, answer, say
from wakestream.adapters.runtime.tasks import first_of, tasks_of_block
from wakestream.operators.model.errors import UnknownKind, WakestreamError, WrongInput
from wakestream.operators.model.events import Job, Note, Stored
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds
from wakestream.streams.protocol.messages import MAX_ID

HUB_PATIENCE = 30.0
"""Seconds that a foreground job looks for a hub before it gives up (--hub-timeout)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlags:
    """The flags of one job of `submit`, as they were given.

    Attributes:
        video: The video file of a pair.
        audio: Its audio file.
        kind: The kind, if the job is no pair.
        inputs: `NAME=FILE` of each input of a kind.
        params: `NAME=VALUE` of each of its parameters.
        outputs: `NAME=FILE` of each of its results.
        output: The file of the result, or a folder.
        beside: The path after which the results of a kind are named; None for the first input.
        numbered: The results get names that are free.
        job_id: The job's id; None for a new one.
        new_id: The user gave no id, so the job is a new one.
        after: The ids of the jobs that it follows.
        gpus: The GPUs that may do it; any, if it is empty.
        requires: What the labels of its GPU must be.
        wake_to_ask: A GPU may be started to ask whether it has the kind.
        state: The daemon's folder, if it is not the usual one.
        priority: The job's priority, in the daemon and at the hub.
        foreground: Do not use a daemon.
        detach: Use a daemon, and do not wait for the job.
        ignored: The names of the given settings that a daemon does not take from a job.
        as_json: Write JSON for a program.
        plain: Write plain lines even on a terminal.
        quiet: Write only the outcome.
        notify: Show a notification at the end.
        leave: Return when the files are in the depot.
        again: Make the result for this job, also if it was made before.
        overwrite: Replace the files of the results that exist.
        sidecar: Have a record written beside the result.
    """

    video: Path | None
    audio: Path | None
    kind: str | None
    inputs: Sequence[str]
    params: Sequence[str]
    outputs: Sequence[str]
    output: str | None
    beside: Path | None = None
    numbered: bool = False
    job_id: str | None
    new_id: bool
    after: Sequence[str]
    gpus: Sequence[str]
    requires: Sequence[str]
    wake_to_ask: bool
    state: str | None
    priority: int
    foreground: bool
    detach: bool
    ignored: tuple[str, ...]
    as_json: bool
    plain: bool
    quiet: bool = False
    notify: bool
    leave: bool
    again: bool
    overwrite: bool
    sidecar: bool

    @staticmethod
    def of(args: argparse.Namespace) -> JobFlags:
        """The flags among the arguments."""
        given = {"new_id": args.job_id is None, **vars(args), "as_json": args.json, "ignored": daemons_own(args)}
        return JobFlags(**{field.name: given[field.name] for field in fields(JobFlags) if field.name in given})

    @property
    def lines(self) -> bool:
        """Whether lines are written, and nothing is drawn."""
        return self.as_json or self.plain or self.quiet or not is_terminal()

    def display(self, job: Job) -> Display:
        """A display of the job."""
        shown = display(job, as_json=self.as_json, plain=self.plain, quiet=self.quiet)
        if self.leave:
            return Leaving(shown)
        return Notifying(shown, job) if self.notify else shown


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that can be submitted.

    Attributes:
        asked: The job, or the flags of a job of any kind; its files were checked.
        settings: All settings.
        flags: All its flags.
        if_exists: What happens where the file of a result exists: `fail`, `number` or `replace`.
    """

    asked: Job | any_kind.Given
    settings: Settings
    flags: JobFlags
    if_exists: str

    @property
    def id(self) -> str:
        """The job's id; empty if none was given for a job of any kind."""
        return self.asked.id if isinstance(self.asked, Job) else self.asked.job_id

    @property
    def chain(self) -> Chain:
        """The jobs of the daemon that it follows."""
        return NO_CHAIN if isinstance(self.asked, Job) else self.asked.chain

    def chosen(self, job: Job) -> Job:
        """The job with what the flags say of its results, its GPU and its turn."""
        flags, replaces, unnamed = self.flags, self.if_exists == "replace", self.if_exists == "number"
        job = replace(job, requires=tuple(flags.requires), priority=flags.priority)
        return replace(job, again=flags.again, overwrite=replaces, unnamed=unnamed)


def submission_of(flags: JobFlags, settings: Settings) -> Submission:
    """The job that the flags ask for. Raises `SettingsError` or `FileUnusable`."""
    folder = _folder_of(flags)
    is_named = not all(any_kind.is_folder(text.partition("=")[2]) for text in flags.outputs) or (
        flags.output is not None and folder is None
    )
    if_exists = "replace" if flags.overwrite else "fail" if is_named and not flags.numbered else "number"
    return Submission(_job(flags, folder), settings, flags, if_exists)


def result_folder(name: str) -> Path:
    """The folder of `-o`, which is created. Raises `SettingsError`."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"-o {folder}: the results need a folder, and it cannot be created"
        raise SettingsError(f"{why} ({error.strerror or error}); give another one") from None
    return folder


def _folder_of(flags: JobFlags) -> Path | None:
    """The folder of -o for one job, which is created; None if -o is not given or names a file.

    Raises:
        SettingsError: A job of a kind has no -o FILE, or the folder cannot be created.
    """
    output, kind = flags.output, flags.kind
    if output is None:
        return None
    is_folder = output.endswith(any_kind.SEPARATORS) or Path(output).is_dir()
    if kind is not None and Path(output).suffix and not is_folder:
        names = f"`wakestream submit --kind {kind} --help` shows the names"
        raise SettingsError(f"-o {output}: with --kind, -o is a folder; for a file give --out NAME={output} ({names})")
    return result_folder(output) if is_folder or kind is not None else None


async def run_one(asked: Submission, stop: Stop) -> int:
    """Submit a job to the daemon, or run it here if no daemon runs; the exit code is its outcome."""
    flags = asked.flags
    if not flags.foreground or flags.sidecar:
        needed = flags.detach or bool(asked.chain) or flags.sidecar
        async with open_daemon_client(flags.state) as client:
            if await daemon_for(client, asked.settings.hub_url, needed=needed, ignored=flags.ignored):
                return await _hand_over(client, asked, stop)
    asked.settings.needs_hub()
    asked.settings.needs_key()
    job, lengths = await checked(asked, lambda: hub_kinds(asked.settings))
    for path in job.outputs.values() if asked.if_exists == "fail" else ():
        check_writable(path, new=True)
    with flags.display(job) as shown:
        show_lengths(job, lengths, shown)
        return await _submit(job, asked, shown, stop)


async def _hand_over(client: DaemonClient, asked: Submission, stop: Stop) -> int:
    """The exit code of a job that the daemon takes."""
    job, lengths = await checked(asked, client.kinds)
    flags = asked.flags
    if flags.detach:
        told = await client.submit(job, lengths, asked.chain, asked.if_exists, sidecar=flags.sidecar)
        answer(told, job.id, as_json=flags.as_json)
        return exit_codes.DONE
    with flags.display(job) as shown:
        show_lengths(job, lengths, shown)
        await client.submit(job, lengths, asked.chain, asked.if_exists, sidecar=flags.sidecar)
        return await follow_or_cancel(client, job.id, shown, stop, leave=flags.leave)


async def checked(asked: Submission, ask: Callable[[], Awaitable[KnownKinds]]) -> tuple[Job, Lengths]:
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
        lengths = await both_probed(*asked.asked.inputs.values()) if probe else (None, None)
        return asked.chosen(asked.asked), lengths
    known, why = await _known(ask)
    try:
        job = asked.asked.job(known, why)
    except UnknownKind as error:
        can_ask = bool(asked.asked.outputs) and not (known.complete or asked.flags.as_json)
        if not can_ask or not wakes_to_ask(str(error)):
            raise
        job = replace(asked.asked, wake_to_ask=True).job(known, why)
    if probe:
        await all_probed(asked.asked.media(known))
    return asked.chosen(job), (None, None)


async def check_chain(client: DaemonClient, jobs: Sequence[Submission]) -> None:
    """Check each of several jobs that follow each other, before the first is submitted. Raises as `checked` does."""
    made: dict[str, Job] = {}
    for submission in jobs:
        for name, source in submission.chain.sources.items():
            job, _, result = source.partition(":")
            outputs = made[job].outputs if job in made else {}
            if result and outputs and result.partition("[")[0] not in outputs:
                have = ", ".join(outputs)
                why = f"inputs.{name}: job {job} has no result {result[:40]!r}; it has {have}"
                raise WrongInput(f"inputs.{name}", why)
        made[submission.id], _ = await checked(submission, client.kinds)


@cache
def wakes_to_ask(why: str) -> bool:
    """Ask on a terminal, once, whether a GPU shall be started to ask it for a kind that none is known to have."""
    return agrees(translated(why) or why, t("kinds.ask"))


async def _known(ask: Callable[[], Awaitable[KnownKinds]]) -> tuple[KnownKinds, str]:
    """The kinds, and the reason if they are not known. The job may run nevertheless: it waits for the hub."""
    try:
        known = await ask()
    except WakestreamError as error:
        return UNKNOWN, str(error)
    return known, "" if known.known else "the hub does not tell its kinds"


def show_lengths(job: Job, lengths: Lengths, shown: Display) -> None:
    """Show how long the files last, if that is known."""
    named = {f"{name}_s": path.name for name, path in job.inputs.items()}
    known = {field: time for field, time in zip(named, lengths, strict=False) if time}  # two, or none are known
    if known:
        said = [t("lasts", name=named[field], time=words.duration(time)) for field, time in known.items()]
        shown.show(Note(t("list.comma").join(said), known))


def _job(flags: JobFlags, folder: Path | None) -> Job | any_kind.Given:
    video, audio, kind = flags.video, flags.audio, flags.kind
    is_of_kind = kind is not None or bool(flags.inputs or flags.params or flags.outputs)
    if is_of_kind and (video is not None or audio is not None):
        raise SettingsError("--kind, --in, --param and --out describe a job without VIDEO and AUDIO; give one form")
    if flags.outputs and flags.output is not None:
        raise SettingsError("--out names each result, and -o the folder of all; give one of them")
    # No file of a result may exist. An id that the user gave may be that of a job that is done.
    new = flags.new_id and not flags.overwrite
    if is_of_kind:
        if kind is None:
            raise SettingsError("give --kind, such as --kind upscale --in image=a.png; `wakestream kinds` lists them")
        given = any_kind.given(id_of(flags.job_id), kind, flags.inputs, flags.params, flags.outputs, flags.after)
        if given.chain and flags.foreground:
            raise SettingsError("a job that follows another one needs `wakestream daemon`; leave --foreground out")
        beside = flags.beside
        if folder is not None:
            beside = folder / next(iter(given.inputs.values()), Path(kind)).name
        return replace(given, beside=beside, wake_to_ask=flags.wake_to_ask, gpus=tuple(flags.gpus), new=new)
    if flags.after:
        raise SettingsError("--after and --then need --kind, --in and --out; `wakestream help submit` has an example")
    if video is None or audio is None:
        raise SettingsError("give VIDEO and AUDIO, or --kind, --in and --out; `wakestream help submit` has examples")
    output = Path(flags.output) if flags.output else None
    if folder is not None:
        output = next_free(folder / f"{video.stem}.synced.mp4")
    return replace(job_of(video, audio, output, flags.job_id, new=new), gpus=tuple(flags.gpus))


def id_of(given: str | None) -> str:
    """The job's id: the given one, or a new one. Raises `SettingsError`."""
    if given is not None and (not 0 < len(given) <= MAX_ID or not given.isprintable() or " " in given):
        raise SettingsError(f"--job-id: an id is one word of 1 to {MAX_ID} characters; leave it out for a new one")
    return given or f"ws-{uuid.uuid4().hex[:16]}"


def job_of(video: Path, audio: Path, output: Path | None, job_id: str | None = None, *, new: bool = False) -> Job:
    """A job with these files, which are checked before any GPU is woken. With `new` its result must not exist.

    `FileUnusable` when the files cannot be used, `SettingsError` for an id that no hub would take.
    """
    name = id_of(job_id)
    result = output or next_free(Path(f"{video.stem}.synced.mp4"))
    for path in (video, audio):
        check_readable(path)
        check_named(path)
    check_writable(result, keep=(video, audio), new=new)
    return Job.lipsync(name, video, audio, result)


async def _submit(job: Job, asked: Submission, shown: Display, stop: asyncio.Event) -> int:
    from wakestream.adapters.client.client import open_client  # only a job in the foreground needs it

    policy, secrets = asked.settings.policy(Policy(hub=HUB_PATIENCE)), SecretValues()
    job = replace(job, params=secrets.hide(job.params, known_params(job.params)))
    async with open_client(asked.settings, policy, secrets=secrets) as client, tasks_of_block() as start:
        cancels = start(_cancel_on(stop, shown, lambda: client.cancel(job.id)))
        last = await client.start(job, shown.show, leave=asked.flags.leave)
        if isinstance(last, Stored):
            shown.show(Note(t("leave.fetch", job=job.id)))
        cancels.cancel()
        if client.hub.owes and not (client.link.up or stop.is_set() or asked.flags.as_json):
            say(f"wakestream: {t('releasing', time=words.duration(policy.release))}", error=True)
        await first_of(stop.wait(), client.releases(policy.release))
        return exit_code(last)


async def _cancel_on(stop: asyncio.Event, shown: Display, cancel: Callable[[], object]) -> None:
    await stop.wait()
    shown.show(Note(t("cancelling")))
    cancel()
