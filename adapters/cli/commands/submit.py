"""`wakestream submit VIDEO AUDIO [-o OUT]`: one job in the foreground, from the hub's answer to the result."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import any_kind, exit_codes, flags
from wakestream.adapters.cli.at_daemon import refused
from wakestream.adapters.cli.first_start import is_first_start, offer
from wakestream.adapters.cli.main import load, parser_of
from wakestream.adapters.cli.many_jobs import Many, confirmed, many_jobs
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.cli.submission import JobFlags, Submission, check_chain, id_of, run_one, submission_of
from wakestream.adapters.cli.submit_many import estimated, submit_many
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.operators.model.errors import WakestreamError, WrongInput

EXAMPLES = (
    "submit clip.mp4 speech.wav -o talking.mp4 --hub http://hub.example:8765 --key-file client.key",
    "submit --kind upscale --each rows.csv --out image=large/{name}.png",
    "submit --kind paint --param text=cat --param seed=random --repeat 4 --sidecar",
    "submit --kind speak --in text=a.txt --then --kind lipsync --in video=a.mp4 --in audio=@:audio --out video=b.mp4",
)

_NOT_OF_BATCH = ("video", "pairs", "job_id", "then", "foreground", "leave")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("video", metavar="VIDEO", type=Path, nargs="?", help="the video file")
    parser.add_argument("audio", metavar="AUDIO", type=Path, nargs="?", help="the audio file to speak")
    more = (
        "more files, or patterns such as '*.mp4': each video is a job with the audio file of its name or the only one"
    )
    parser.add_argument("more", metavar="FILE", type=Path, nargs="*", help=more)
    any_kind.arguments(parser)
    usual = next(action for action in parser._actions if isinstance(action, argparse._HelpAction))
    usual.__class__ = _Help  # a second --help would be a conflict
    parser.set_defaults(action=None)
    flags.add(parser, "--pairs DIR", "the videos and audio files of a folder, paired by their names", type=Path)
    text = "a job for each row of a table (CSV, or JSON Lines), or for the files of a folder that fit the --in patterns"
    flags.add(parser, "--each TABLE", text, type=Path)
    text = "the table of results of --each, .csv or .jsonl (default: TABLE's name + .results.csv)"
    flags.add(parser, "--results FILE", text, type=Path)
    text = "so many jobs, each with a result of its own; with `--param seed=random` each has a number of its own"
    flags.add(parser, "--repeat N", text, type=flags.whole(1, 1000), default=1)
    text = "write a record beside the result, RESULT.json: parameters, version of the kind, GPU, seconds, cost"
    flags.add(parser, "--sidecar", text)
    flags.add(parser, "--yes", "submit several jobs without a question")
    out = "the result file (default VIDEO's name + .synced.mp4); DIR/, and for --kind and several jobs, its folder"
    flags.add(parser, "-o --output OUT", out)
    flags.add(parser, "--overwrite", "replace the files of the results that exist; by default none is replaced")
    flags.add(parser, "--again", "make the result for this job, also if the same work was done before")
    flags.worker_url(parser)
    text = "only this GPU may do it; several times for several"
    flags.add(parser, "--gpu NAME", text, action="append", dest="gpus", default=[])
    text = "what its GPU must have, such as memory>=24, zone=eu or kind:lipsync; may be repeated"
    flags.add(parser, "--requires EXPR", text, type=flags.requirement, action="append", default=[])
    flags.add(parser, "--job-id ID", "the job's idempotency key (default: a new one)")
    flags.add(parser, "--json", "events as JSON lines on standard output")
    flags.add(parser, "--plain", "plain lines even on a terminal")
    where = parser.add_mutually_exclusive_group()
    flags.add(where, "--foreground", "run the job here even if a daemon runs")
    flags.add(where, "--detach", "submit to the daemon, print the job's id and return (needs `wakestream daemon`)")
    flags.add(where, "--wait", "follow several jobs to their end, too; one job is followed without this flag")
    text = "return when the files are in the hub's depot: this PC may be off then; without a depot, at the job's end"
    flags.add(parser, "--leave", text)
    flags.add(parser, "--notify", "show a notification on the desktop at the end (implies --wait)")
    text = "priority, -100 to 100; higher runs first (default 0); at the hub, your license limits it"
    flags.add(parser, "--priority N", text, type=flags.whole(-100, 100), default=0)
    flags.daemon(parser)
    flags.connection(parser)
    flags.probe(parser)
    flags.trace(parser)
    flags.waits(parser)
    then = "the flags of a next job, which starts when this one is done; @:RESULT is a result of this one"
    parser.add_argument("--then", nargs=argparse.REMAINDER, metavar="FLAGS", default=[], help=then)


class _Help(argparse._HelpAction):
    """`--help`: the help of the command, or that of the kind that was named before it, which `kinds` shows."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if namespace.kind is None:
            super().__call__(parser, namespace, values, option)
        namespace.action = "show"


def run(args: argparse.Namespace) -> int:
    """Submit the job to the daemon, or run it here if no daemon runs; the exit code is its outcome."""
    stages = _stages(args)
    if kinds := [stage.kind for stage in stages if stage.action]:
        args.action, args.kind = "show", kinds[0]
        return load("kinds").run(args)
    if args.notify and args.detach:
        raise SettingsError("--notify waits for the end, and --detach does not; leave one out")
    if args.leave and (args.detach or args.wait or args.notify):
        raise SettingsError("--leave returns before the end, --detach at once, --wait and --notify wait; give one")
    is_batch = args.each is not None or args.repeat > 1
    if is_batch and any(getattr(args, name) for name in _NOT_OF_BATCH):
        others = "VIDEO, --pairs, --job-id, --then, --foreground and --leave"
        raise SettingsError(f"--each and --repeat take files from a table or --in; leave {others} out")
    if args.results is not None and not is_batch:
        raise SettingsError("--results is the table of --each or --repeat; leave it out for one job")
    if any(stage.each or stage.repeat > 1 or stage.results or stage.pairs or stage.more for stage in stages[1:]):
        several = "--each, --repeat, --results, --pairs and more than two files give several"
        raise SettingsError(f"what comes after --then is one job; {several}")
    first, *later = map(JobFlags.of, stages)
    asked = first if is_batch else many_jobs(first, args.more, args.pairs, is_chain=bool(later))
    settings = begin(args)
    if not first.as_json and is_first_start(settings, first.state):
        if (code := offer()) is not None:
            return code
        settings = begin(args)
    if is_batch:
        return _batch(first, args, settings)
    if isinstance(asked, JobFlags):
        jobs = [submission_of(job, settings) for job in (asked, *later)]
        return run_program(lambda stop: _run_all(jobs, stop))
    if not confirmed(asked, lambda: asyncio.run(estimated(asked.jobs, probe=settings.probe)), yes=args.yes):
        return exit_codes.DONE
    wait = args.wait or args.notify
    return run_program(lambda stop: submit_many(asked.jobs, settings, stop, wait=wait))


def _batch(job: JobFlags, args: argparse.Namespace, settings: Settings) -> int:
    """Submit the rows of a table, or several variations of a job."""
    from wakestream.adapters.cli.batch import Batch
    from wakestream.adapters.cli.batch_plan import SHOWN_MOST, BatchFlags, TableUnusable, names_of, planned

    try:
        plan = asyncio.run(planned(job, BatchFlags(args.each, args.repeat, args.results), settings))
    except TableUnusable as error:
        for line in str(error).split("\n"):
            refused("", WrongInput("each", line), as_json=job.as_json)
        return exit_codes.USAGE
    rows = [(names_of(item.job), str(item.job.output)) for item in plan.due[:SHOWN_MOST]]
    many = Many([job] * len(plan.due), rows, hidden=len(plan.due) - len(rows))
    if rows and not confirmed(many, lambda: asyncio.run(estimated(many.jobs, probe=False)), yes=args.yes):
        return exit_codes.DONE

    async def run(stop: Stop) -> int:
        async with open_daemon_client(job.state) as client:
            await client.needed()
            return await Batch(plan, client, stop).run()

    return run_program(run)


def _stages(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each job: those before the first `--then`, and those after each."""
    stages = [args]
    while rest := stages[-1].then:
        before = stages[-1]
        before.new_id = before.job_id is None
        before.job_id = id_of(before.job_id)
        stage = parser_of(("submit",)).parse_args(["submit", *rest])
        inputs = [text.partition("=") for text in stage.inputs]
        own = f"@{before.job_id}:"
        stage.inputs = [f"{name}{eq}{own + at[2:] if at.startswith('@:') else at}" for name, eq, at in inputs]
        stage.after = [*stage.after, before.job_id]
        stage.state = stage.state or before.state
        stages.append(stage)
    for switch in ("json", "plain", "detach", "foreground", "notify", "leave"):
        given = any(getattr(stage, switch) for stage in stages)
        for stage in stages:
            setattr(stage, switch, given)
    return stages


async def _run_all(jobs: Sequence[Submission], stop: Stop) -> int:
    """Submit all jobs, and follow the last one. If one is refused or cancelled, those before it are cancelled."""
    *before, last = jobs
    state = last.flags.state
    if before:
        async with open_daemon_client(state) as client:
            await client.needed()
            await check_chain(client, jobs)
        *before, last = (replace(job, settings=replace(job.settings, probe=False)) for job in jobs)
    submitted: list[str] = []
    try:
        for job in before:
            await run_one(replace(job, flags=replace(job.flags, detach=True, quiet=True)), stop)
            submitted.append(job.id)
        code = await run_one(last, stop)
    except WakestreamError:
        if not await _is_accepted(state, last.id):  # otherwise only the following of it failed
            await _cancel(state, submitted)
        raise
    if stop.cancels:
        await _cancel(state, submitted)
    return code


async def _is_accepted(state: str | None, job: str) -> bool:
    try:
        async with open_daemon_client(state) as client:
            await client.job(job)
    except WakestreamError:
        return False
    return True


async def _cancel(state: str | None, jobs: Sequence[str]) -> None:
    for job in jobs:
        async with open_daemon_client(state) as client:
            with contextlib.suppress(WakestreamError):  # such as a job that has ended
                await client.cancel(job)
