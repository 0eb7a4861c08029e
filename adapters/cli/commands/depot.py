"""`wakestream depot`: runs the depot, which keeps files while PC and GPU are off; lists and removes its files."""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.doctor import show
from wakestream.adapters.cli.commands.worker import served
from wakestream.adapters.cli.doctor.result import of_bucket
from wakestream.adapters.cli.hub_answers import order
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import clock_time
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.cli.serve import caller_room
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.config.units import size
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.depot.bucket import Bucket
from wakestream.adapters.depot.probe import check
from wakestream.adapters.depot.s3 import S3Depot
from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.engines.command import Command
from wakestream.adapters.net.tls import server_tls
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.operators.model.errors import FileUnusable
from wakestream.streams.protocol import depot_messages as d

EXAMPLES = (
    "depot check --depot s3://films/wakestream --depot-endpoint https://s3.example",
    "depot run --hub https://hub.example --key-file depot.key --public-url https://depot.example:8385 --size 50GB",
    "depot ls",
    "depot rm clip.mp4 fbc2b0516ee8",
)
DEFAULT_LISTEN = "127.0.0.1:8385"
SIZE = "50GB"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with a depot."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _flags_of_run(actions.add_parser("run", help="run the depot; it connects to the hub"))
    trial = actions.add_parser("check", help="try a bucket: rights, links, public access, clock, rules")
    flags.add(trial, "--depot URL", "the bucket, s3://BUCKET/PREFIX", required=True)
    flags.add(trial, "--depot-endpoint URL", "the address of an S3 service that is not Amazon's")
    flags.add(trial, "--json", "one JSON object for each finding")
    listing = actions.add_parser("ls", help="list the files of your license in the depot")
    flags.add(listing, "--json", "one JSON object for each file")
    removal = actions.add_parser("rm", help="remove files of your license from the depot")
    text = "a file of this machine, a job of the daemon (its inputs), or a BLAKE3 or its beginning, as `ls` shows it"
    removal.add_argument("files", metavar="FILE", nargs="+", help=text)
    for action in (listing, removal):
        flags.question(action)


def _flags_of_run(parser: argparse.ArgumentParser) -> None:
    flags.listen(parser, DEFAULT_LISTEN)
    flags.tls(parser)
    flags.behind_proxy(parser)
    flags.add(parser, "--state DIR", "the folder of the files (default: the user's data folder)", type=Path)
    text = f"the most bytes of all files, such as 500MB or 2TB (default {SIZE}); uploads beyond it are refused"
    flags.add(parser, "--size SIZE", text, type=flags.size, default=SIZE)
    flags.add(parser, "--name NAME", "the depot's name at the hub (default depot)", dest="gpu")
    text = "the address at which clients, workers and the hub reach this depot (WAKESTREAM_PUBLIC_URL)"
    flags.add(parser, "--public-url URL", text)
    flags.connection(parser)
    flags.exit_on_refusal(parser)
    flags.program(parser)


def run(args: argparse.Namespace) -> int:
    """Run the depot, or ask the hub about its files."""
    if args.action == "run":
        return _run(args)
    settings = begin(args, usual_level="CRITICAL")
    if args.action == "check":
        return asyncio.run(_check(args))
    return asyncio.run((_list if args.action == "ls" else _remove)(settings, args))


async def _check(args: argparse.Namespace) -> int:
    bucket = S3Depot(Bucket.parse(args.depot, args.depot_endpoint))
    try:
        return show(map(of_bucket, await check(bucket)), args)
    finally:
        await bucket.close()


async def _files(settings: Settings, args: argparse.Namespace) -> tuple[list[Mapping[str, Any]], d.DepotListed]:
    """All files of the license, and the last page of the hub's answer."""
    files: list[Mapping[str, Any]] = []
    while True:
        after = str(files[-1]["blake3"]) if files else None
        page = await order(settings, args.state, d.DepotList(request_id="-", after=after), d.DepotListed)
        files += page.files
        if not page.more or not page.files:
            return files, page


async def _list(settings: Settings, args: argparse.Namespace) -> int:
    files, page = await _files(settings, args)
    if args.json:
        for file in files:
            say_json(file)
        return exit_codes.DONE
    rows = [tuple(t(f"depot.{name}") for name in ("file", "size", "used", "until"))]
    rows += [
        (f"{file['blake3'][:12]}{file['ext']}", size(file["size"]), clock_time(file["used"]), clock_time(file["until"]))
        for file in files
    ]
    say(*(table(rows) if files else ()), _sum(page))
    return exit_codes.DONE


def _sum(page: d.DepotListed) -> str:
    quota = "" if page.quota is None else t("depot.quota", quota=size(page.quota))
    return t("depot.has", files=page.count, size=size(page.size), quota=quota)


async def _remove(settings: Settings, args: argparse.Namespace) -> int:
    known, page = await _files(settings, args)
    names = [str(file["blake3"]) for file in known]
    wanted = dict.fromkeys([digest for text in args.files for digest in await _meant(text, names, args.state)])
    for start in range(0, len(chosen := [*wanted]), d.MOST_FILES):
        part = d.DepotRemove(request_id="-", files=tuple(chosen[start : start + d.MOST_FILES]))
        page = await order(settings, args.state, part, d.DepotListed)
    removed = len(known) - page.count
    kept = [t("depot.kept", n=len(wanted) - removed)] if removed < len(wanted) else []
    late = [t("depot.late", at=clock_time(page.late))] if page.late is not None and removed else []
    say(t("depot.removed", n=removed), *kept, *late, _sum(page))
    return exit_codes.FAILED if kept else exit_codes.DONE


async def _meant(text: str, names: Sequence[str], state: str | None) -> list[str]:
    """The BLAKE3s of the files in the depot that a person means."""
    if re.fullmatch(r"[0-9a-f]{8,64}", start := text.partition(".")[0]) and (
        digests := [name for name in names if name.startswith(start)]
    ):
        return digests
    paths = [Path(text)]
    if not paths[0].exists():
        async with open_daemon_client(state) as client:
            job = await client.job(text) if await client.look() is not None else {}
        inputs = job.get("inputs") or {name: job[name] for name in ("video", "audio") if name in job}
        paths = [Path(path) for path in inputs.values()]
    digests = [name for path in paths if (name := await asyncio.to_thread(_digest, path)) in names]
    if not digests:
        why = "is no file in the depot, no file here, and no job of the daemon with files in the depot"
        raise FileUnusable(f"{text[:80]!r} {why}; `wakestream depot ls` lists the files there")
    return digests


def _digest(path: Path) -> str:
    return hash_of(path, path.stat().st_size).hexdigest() if path.is_file() else ""


def _run(args: argparse.Namespace) -> int:
    settings = begin(args)
    settings.needs_hub()
    settings.needs_key()
    host, port = flags.listen_on(settings, DEFAULT_LISTEN)
    if settings.public_url is None and host in ("0.0.0.0", "::"):  # noqa: S104 - compared
        raise SettingsError("--public-url is missing; give the address at which clients, workers and the hub come here")
    secret = secrets.token_urlsafe(32)  # nobody knows it: only capabilities of the hub are accepted
    config = WorkerConfig(
        (args.state or data_folder("depot")).expanduser().absolute(), Command(()), secret, host, port,
        gpu=args.gpu or "depot", public_url=settings.public_url, key=settings.key,
        tls=server_tls(settings.tls_cert, settings.tls_key), proxies=tuple(args.behind_proxy),
        room=caller_room(), depot=args.size,
    )  # fmt: skip
    return served(config, settings, args, "depot")
