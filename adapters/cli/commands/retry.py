"""`wakestream retry JOB...`: try jobs of the daemon at once that pause, or again that ended without a result."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import for_each, listed, run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.daemon.api_client import LIST_MOST, DaemonClient
from wakestream.adapters.runtime.printing import answer, say

EXAMPLES = ("retry ws-0123456789abcdef", "retry --all", "retry --failed")

FAILED = ("failed", "timed_out")
"""The states of jobs that `--failed` submits again."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help=flags.JOB)
    flags.add(which, "--all", "all paused jobs")
    flags.add(which, "--failed", "all jobs that failed or timed out, and were not tried again since")
    flags.add(parser, "--json", "one JSON object for each job")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for each; 1 when one of them could not be tried."""
    return run_at_daemon(args, _retry)


async def _retry(client: DaemonClient, args: argparse.Namespace) -> int:
    async def retry(job: str) -> None:
        job = (await client.job(job))["id"]
        _say(args.json, job, (await client.retry(job))["id"])

    if args.all:
        tried = await client.retry_all()
        for job in tried:
            _say(args.json, job, job)
        if not tried and not args.json:
            say(t("retry.none"))
    if not args.failed:
        return await for_each(args, retry)
    return await _retry_failed(client, args, retry)


async def _retry_failed(client: DaemonClient, args: argparse.Namespace, retry: Callable[[str], Awaitable[None]]) -> int:
    """Each job that failed, the newest first: its retry also tries the jobs that it follows again.

    A new job that fails in the meantime is not tried again, because that may have no end.
    """
    status = exit_codes.DONE
    jobs = await listed(client, "all")
    again = {job["retry_of"] for job in jobs.values()}
    failed = left = [id_ for id_, job in jobs.items() if job["state"] in FAILED and id_ not in again]
    while left:
        args.jobs, left = left[:1], left[1:]
        status = max(status, await for_each(args, retry))
        newest, _ = await client.jobs("all", LIST_MOST) if left else ([], 0)
        tried = {job["retry_of"] for job in newest}
        left = [job for job in left if job not in tried]
    if not failed and not args.json:
        say(t("retry.none_failed"))
    return status


def _say(as_json: bool, job: str, tried: str) -> None:
    said: dict[str, Any] = {"job": tried} if tried == job else {"job": tried, "retry_of": job}
    words = t("retry.now", job=job) if tried == job else t("retry.again", job=job, new=tried)
    answer(said, words, as_json=as_json)
