"""`wakestream hub`: the always-on server between clients, monitors and workers."""

from __future__ import annotations

import argparse
import asyncio
import gc
from contextlib import AsyncExitStack
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal
from loguru import logger

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.serve import announce, listening, serve_metrics
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.cli.setup.files import folder_of, recorded
from wakestream.adapters.config import addresses
from wakestream.adapters.config.setting_files import naming
from wakestream.adapters.config.settings import Settings, SettingsError, flag_of, load
from wakestream.adapters.depot.bucket import Bucket
from wakestream.adapters.depot.probe import refuse_unsafe
from wakestream.adapters.depot.s3 import S3Depot
from wakestream.adapters.disk.documents import Documents
from wakestream.adapters.disk.journal_bound import bound_path
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.hub.config import MAX_CONNECTIONS, HubConfig, Leadership
from wakestream.adapters.hub.front import FrontConfig, open_front
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.metrics import HubMetrics
from wakestream.adapters.hub.program import running_hub
from wakestream.adapters.hub.standby import Term, until_leading
from wakestream.adapters.net.connection_limits import STRANGERS, Room
from wakestream.adapters.net.tls import client_context, server_tls, warn_unless_private
from wakestream.adapters.net.webhooks import receiver
from wakestream.adapters.runtime.gc_tuning import MANY_JOBS, SERVER, few_collections
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.operators.model.errors import Fenced
from wakestream.streams.hub.hub import Limits
from wakestream.streams.hub.keep_warm import parse
from wakestream.streams.hub.local_time import UTC
from wakestream.streams.hub.state import ALL, Budgets, Prices, WarmHours
from wakestream.streams.placement.place import PlacePolicy

EXAMPLES = (
    "hub --listen 127.0.0.1:8765 --state /var/lib/wakestream/hub",
    "hub --listen 0.0.0.0:443 --tls-cert hub.pem --tls-key hub.key --price-per-hour 1.20 --budget-per-day 20",
    "hub --front hub1.example:8765,hub2.example:8765 --key-file front.key --listen 0.0.0.0:8765",
    "hub --journal postgresql://wakestream@db.example/wakestream --metrics 127.0.0.1:9090",
)
DEFAULT_LISTEN = "127.0.0.1:8765"
OPEN_ROLES = ("worker", "monitor")

amount = flags.number(999_999_999.99, "is no amount of money; write 20, or 12.50", least=0.01)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The hub's own flags."""
    flags.listen(parser, DEFAULT_LISTEN)
    flags.tls(parser)
    flags.behind_proxy(parser)
    state(parser)
    text = "the addresses under which others reach the hubs of this cluster (default: as for `init hub`)"
    flags.add(parser, "--public URL", text)
    text = "worker, monitor or worker,monitor: accept these without a token, for old programs (unsafe)"
    flags.add(parser, "--open-roles ROLES", text, type=_roles, default=frozenset())
    flags.add(parser, "--per-license N", "connections of one license (default 200)", type=flags.whole(1), default=200)
    text = "connections from one address (default 500); behind a proxy see --behind-proxy"
    flags.add(parser, "--per-address N", text, type=flags.whole(1), default=500)
    text = "price of a GPU per hour, in any currency: 1.20 for each GPU, studio=2.50 for one; may be repeated"
    flags.add(parser, "--price-per-hour [GPU=]PRICE", text, type=price_flag, action="append", default=[])
    money(parser)
    placing(parser)
    depot(parser)
    front(parser)
    flags.record(parser)
    flags.program(parser)


def money(parser: argparse.ArgumentParser) -> None:
    """`--budget-per-day` and the flags beside it."""
    group = parser.add_argument_group("money")
    flags.add(group, "--budget-per-day AMOUNT", "do not wake GPUs when a day has cost this much in all", type=amount)
    flags.add(group, "--budget-per-month AMOUNT", "do not wake GPUs when a month has cost this much", type=amount)
    text = "the same for one GPU: studio=20/300, studio=20/ or studio=/300; may be repeated"
    flags.add(group, "--gpu-budget GPU=DAY/MONTH", text, type=_gpu_budget, action="append", default=[])
    per_license = "let each license use GPUs for this much a day; its further jobs wait for the next one"
    flags.add(group, "--budget-per-license-day AMOUNT", per_license, type=amount)
    flags.add(group, "--currency NAME", "the money of prices and budgets, for people, such as EUR", default="")
    text = 'keep GPUs on in these hours: "Mon-Fri 09:00-18:00", "studio=daily 08:00-12:00"; may be repeated'
    flags.add(group, "--keep-warm [GPU=]HOURS", text, type=_hours, action="append", default=[])
    text = "notify this address when a GPU starts, stops or fails, and of budgets (WAKESTREAM_POWER_WEBHOOK_URL)"
    flags.add(group, "--power-webhook URL", text, dest="power_webhook_url")
    text = "the zone of days, months and hours, such as Europe/Berlin (default: the system's)"
    flags.add(group, "--time-zone ZONE", text, type=_zone, default=None)


def placing(parser: argparse.ArgumentParser) -> None:
    """`--patience` and the flags beside it."""
    group, usual = parser.add_argument_group("several GPUs"), PlacePolicy()
    text = "wake a further GPU if a job would wait longer than this for its start (default 60s)"
    flags.add(group, "--patience TIME", text, type=flags.time_or_zero, default=usual.patience)
    text = "but only if the job then starts this much earlier (default 5s)"
    flags.add(group, "--min-gain TIME", text, type=flags.time_or_zero, default=usual.min_gain)
    text = "stop a GPU without work after this time if another one is free too (default 90s)"
    flags.add(group, "--surplus-after TIME", text, type=flags.time_or_zero, default=usual.surplus_after)
    text = "jobs that a GPU is given beyond those it does, so that uploads overlap the work (default 1)"
    flags.add(group, "--ahead N", text, type=flags.whole(0, 100), default=usual.ahead)


def depot(parser: argparse.ArgumentParser) -> None:
    """`--depot` and the flags beside it."""
    group, usual = parser.add_argument_group("the depot"), Limits()
    text = "a bucket, s3://BUCKET/PREFIX (default: the `wakestream depot run` that connects)"
    flags.add(group, "--depot URL", text)
    flags.add(group, "--depot-endpoint URL", "the address of an S3 service that is not Amazon's")
    text = "remove files that no open job needs, and results, after this time without a use (default 7d)"
    flags.add(group, "--depot-keep TIME", text, type=flags.time, default=usual.depot_keep)
    flags.add(
        group, "--depot-quota SIZE", "the most bytes of a license, such as 20GB (default: no limit)", type=flags.size
    )
    text = "the most files of a license (default 10000)"
    flags.add(group, "--depot-files N", text, type=flags.whole(1, usual.depot_files), default=usual.depot_files)
    text = "ready (default): start a GPU so that it is on when the upload is nearly done; submitted: at once"
    flags.add(group, "--wake-when WHEN", text, choices=("ready", "submitted"), default=PlacePolicy().wake_when)


def front(parser: argparse.ArgumentParser) -> None:
    """`--front` and the flags beside it."""
    group = parser.add_argument_group("a front")
    text = "hold connections for the one of these hubs that leads; separated by commas. Keep no journal"
    flags.add(group, "--front HUBS", text, type=flags.hubs)
    flags.add(group, "--key-file FILE", "a file with the front's key (or WAKESTREAM_KEY)")
    flags.add(group, "--ca FILE", "a certificate authority to trust for the hubs (PEM)")


def _bucket(args: argparse.Namespace) -> S3Depot | None:
    if args.depot is None:
        if args.depot_endpoint is not None:
            raise SettingsError("--depot-endpoint needs --depot s3://BUCKET/PREFIX; give both, or none of them")
        return None
    return S3Depot(Bucket.parse(args.depot, args.depot_endpoint))


def state(parser: argparse.ArgumentParser) -> None:
    """`--state DIR` and `--journal URL`: where the hub has its journal and licenses."""
    flags.add(parser, "--state DIR", "the hub's folder (default: the user's data folder)", type=Path, default=None)
    text = "the PostgreSQL database with journal and licenses (default: in the folder; WAKESTREAM_JOURNAL)"
    flags.add(parser, "--journal URL", text)


def documents(address: str) -> Documents:
    """The small files of a hub whose journal is in this database. Raises `SettingsError`: that is no database."""
    try:
        from wakestream.adapters.disk import postgres, postgres_documents
    except ImportError:
        raise SettingsError('--journal needs a library: run pip install "wakestream[postgres]"') from None
    return postgres_documents.PostgresDocuments(postgres.checked_address(address))


def journal_here(args: argparse.Namespace, base: Path | None = None) -> str | None:
    """The database of this machine's hub, if it has one; `base` is the folder of the user's settings."""
    return load({"journal": args.journal}, folder=base and folder_of("hub", base), program="hub").journal


def book_here(args: argparse.Namespace, base: Path | None = None) -> LicenseBook:
    """The licenses of this machine's hub, in its database or its folder, for commands beside it."""
    address = journal_here(args, base)
    return LicenseBook(_without_database(folder_here(args.state, base)) if address is None else documents(address))


def _without_database(state: Path) -> Path:
    """The folder, unless a hub with a database uses it: its own journal and licenses would be missing, or old."""
    if bound_path(state / BOUND).exists():
        raise SettingsError(f"{state} is the folder of a hub with a database; give --journal URL, or another --state")
    return state


BOUND = "hub.postgres"
"""How much of a database a hub has seen: the name of the note in its folder."""


def folder(given: Path | None) -> Path:
    """The hub's folder; the same by default for `hub` and `license`."""
    if given is not None:
        return given.expanduser()
    return data_folder("hub")


def folder_here(given: Path | None, base: Path | None = None) -> Path:
    """The folder of this machine's hub, for commands beside it: the given one, that of `init hub`, or that of `up`."""
    setup = recorded(folder_of("hub", base))
    if given is None and setup is not None and "--state" in setup.arguments:
        return Path(setup.arguments[setup.arguments.index("--state") + 1])
    usual, of_up = (LicenseBook(path).path for path in (folder(given), data_folder("up") / "hub"))
    is_of_up = given is None and setup is None and of_up.exists() and not usual.exists()
    return (of_up if is_of_up else usual).parent


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not roles <= set(OPEN_ROLES):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(OPEN_ROLES)}, separated by commas")
    return roles


def price_flag(text: str) -> tuple[str | None, float]:
    name, named, number = text.rpartition("=")
    try:
        price = float(number)
    except ValueError:
        price = -1.0
    if not 0.001 <= price < 1e6 or (named and not name):
        raise argparse.ArgumentTypeError(f"{number[:40]!r} is no price; write 1.20, or studio=2.50 for one GPU")
    return name or None, price


def _gpu_budget(text: str) -> tuple[str, tuple[float | None, float | None]]:
    name, _, amounts = text.rpartition("=")
    day, slash, month = amounts.partition("/")
    if not name or not slash or not (day or month):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no budget; write studio=20/300, studio=20/ or studio=/300")
    return name, (amount(day) if day else None, amount(month) if month else None)


def _hours(text: str) -> tuple[str, str]:
    name, _, hours = text.rpartition("=")
    try:
        parse(hours)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: {error}") from None
    return name, hours.strip()


def _zone(text: str) -> str:
    try:
        return str(ZoneInfo(text))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time zone; write Europe/Berlin, or UTC") from None


def _system_zone() -> str:
    """The system's time zone by its name; UTC if it has none."""
    try:
        known = _zone(tzlocal.get_localzone_name())
    except argparse.ArgumentTypeError:  # a container without the time zone database
        return UTC
    return UTC if known.removeprefix("Etc/") in ("UTC", "UCT", "GMT", "Zulu", "Universal") else known


def public_url(given: str | None, base: Path | None = None) -> str:
    """The hub's addresses for others: the given ones, or those of `init hub`; empty if neither are known."""
    if given is not None:
        with naming("--public"):
            return addresses.hub_urls(given)
    setup = recorded(folder_of("hub", base))
    return setup.public if setup is not None else ""


def _public(given: str | None) -> str:
    try:
        return public_url(given)
    except SettingsError as error:
        if given is not None:
            raise
        logger.warning("{}; the operator's page shows codes with the address of the browser", error)
        return ""


_OF_HUB = (
    "state", "journal", "open_roles", "price_per_hour", "budget_per_day", "budget_per_month", "gpu_budget",
    "budget_per_license_day", "currency", "keep_warm", "power_webhook_url", "depot", "record",
)  # fmt: skip
"""Settings for which a front has no use, so that a user who gives one expects something else."""


def _run_front(args: argparse.Namespace, settings: Settings) -> int:
    """Serve as a front until the user stops it."""
    if given := [flag_of(name) for name in _OF_HUB if getattr(args, name)]:
        raise SettingsError(f"a front has no use for {', '.join(given)}; give that to the hubs, and not with --front")
    host, port = flags.listen_on(settings, DEFAULT_LISTEN)
    tls = server_tls(settings.tls_cert, settings.tls_key)
    settings.check_sent("key")
    room = Room.of(connections_allowed(MAX_CONNECTIONS + STRANGERS))
    config = FrontConfig(
        args.front, settings.needs_key(), args.per_address, room, host, port, tls,
        tuple(args.behind_proxy), client_context(settings.ca),
    )  # fmt: skip
    warn_unless_private(host, tls)

    async def serve(stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            with listening(host, port):
                running = await stack.enter_async_context(open_front(config))
            if settings.metrics is not None:
                await serve_metrics(stack, settings.metrics, running.metrics)
            stack.enter_context(few_collections(*SERVER))
            announce("hub", running.url)
            await stop.wait()

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)


def _limits(args: argparse.Namespace, bucket: S3Depot | None, *, webhook: bool) -> Limits:
    prices = Prices({name: price for name, price in args.price_per_hour if name is not None})
    budgets = dict(args.gpu_budget)
    if args.budget_per_day is not None or args.budget_per_month is not None:
        budgets[ALL] = (args.budget_per_day, args.budget_per_month)
    warm = {name: tuple(hours for of, hours in args.keep_warm if of == name) for name, _ in args.keep_warm}
    if (budgets or args.budget_per_license_day is not None) and not args.price_per_hour:
        logger.warning("a budget needs a price: until a monitor reports its provider's, GPUs count as free")
    return Limits(
        open_roles=args.open_roles,
        per_license=args.per_license,
        per_address=args.per_address,
        price=next((price for name, price in reversed(args.price_per_hour) if name is None), None),
        prices=prices,
        currency=args.currency,
        budgets=Budgets(budgets),
        license_budget=args.budget_per_license_day,
        keep_warm=WarmHours(warm),
        zone=args.time_zone or _system_zone(),
        webhook=webhook,
        place=PlacePolicy(args.patience, args.min_gain, args.surplus_after, args.ahead, args.wake_when),
        depot=bucket is not None,
        depot_link=1 if bucket is None else bucket.link_size(),  # 0 would be no policy that a log may have
        depot_keep=args.depot_keep,
        depot_quota=args.depot_quota,
        depot_files=args.depot_files,
    )


def run(args: argparse.Namespace) -> int:
    """Serve until the user stops it."""
    settings = begin(args)
    if args.front is not None:
        return _run_front(args, settings)
    webhook = receiver("power_webhook_url", settings)
    tls = server_tls(settings.tls_cert, settings.tls_key)
    host, port = flags.listen_on(settings, DEFAULT_LISTEN)
    state = folder(args.state)
    book = LicenseBook(_without_database(state) if settings.journal is None else documents(settings.journal))
    bucket = _bucket(args)
    limits = _limits(args, bucket, webhook=webhook is not None)
    leadership = Leadership(kept=None if settings.journal is None else [])
    config = HubConfig(
        book, host, port, limits, tls, tuple(args.behind_proxy), settings.record, webhook,
        public=_public(args.public), bound=None if settings.journal is None else state / BOUND,
        bucket=bucket, ca=client_context(settings.ca or settings.tls_cert), leadership=leadership,
    )  # fmt: skip

    metrics = HubMetrics(state, leadership)

    async def lead(stop: asyncio.Event, term: Term | None = None) -> None:
        async with AsyncExitStack() as stack:
            with listening(host, port):
                hub = await stack.enter_async_context(running_hub(config, term))
            metrics.lead(hub.server, hub.journal)
            stack.callback(metrics.rest)
            announce("hub", hub.server.url)
            await stop.wait()
            for one in leadership.kept or ():
                one.close()

    async def serve(stop: asyncio.Event) -> None:
        for fault in await refuse_unsafe(bucket) if bucket is not None else ():
            logger.warning("the bucket has a fault ({}); `wakestream depot check` says what to do", fault.check)
        async with AsyncExitStack() as stack:
            if settings.metrics is not None:
                await serve_metrics(stack, settings.metrics, metrics)
            await (lead(stop) if settings.journal is None else take_turns(stop))

    async def take_turns(stop: asyncio.Event) -> None:
        again = False
        while not stop.is_set():
            gc.collect()  # the state of the term before: with a session, a scan of many jobs would hold back its beat
            with few_collections(*MANY_JOBS):
                await stand_by_and_lead(stop, again=again)
            again = True

    async def stand_by_and_lead(stop: asyncio.Event, *, again: bool) -> None:
        try:
            with listening(host, port):
                term = await until_leading(config, stop, again=again)
            if term is not None:
                await lead(stop, term)
        except Fenced as error:
            logger.error("{}; this hub leads no more", error)

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)
