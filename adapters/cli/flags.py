"""Flags that several commands share. Their values stay text: `settings.load(vars(args))` checks them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, TypeVar

from wakestream.adapters.config import addresses, numbers
from wakestream.adapters.config.numbers import seconds, whole_number
from wakestream.adapters.config.settings import WAITS, Settings
from wakestream.streams.placement.requirements import parse

T = TypeVar("T")

Group = argparse.ArgumentParser | argparse._ArgumentGroup

WAITS_HELP = {
    "hub_timeout": "how long to try to reach the hub at the start (default 30; daemon: no limit)",
    "reply_timeout": "the hub's answer to a submit (default 30)",
    "online_timeout": "the wait for the GPU in each attempt (default 30min; daemon: 30 days)",
    "line_every": "interval of progress lines while waiting (default 10)",
    "health_every": "interval of health checks until the worker is ready (default 1)",
    "ready_timeout": "the worker's start, once it is online (default 10min)",
    "lost_timeout": "how long a worker may be unreachable before the job requests a GPU again (default 30)",
    "transfer_timeout": "longest pause without data in an upload or download (default 60)",
    "poll_every": "interval of progress requests (default 2)",
    "execution_timeout": "rendering (default 4h)",
    "total_timeout": "the whole job (default 12h; daemon: 30 days)",
    "release_timeout": "wait at the end for a hub that is away, to tell it that the job has ended (default 10)",
}


JOB = "a job's id, its beginning, or `last`"
"""The help of an argument that is a job of the daemon."""


def whole(least: int = 0, most: int = 999_999_999) -> Callable[[str], int]:
    """The `type` of a flag that takes a whole number from `least` to `most`."""

    def read(text: str) -> int:
        number = whole_number(text, least, most)
        if number is None:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return number

    return read


def add(parser: Group, spec: str, text: str, **options: Any) -> None:
    """Declare one flag.

    Args:
        parser: The parser, or a group of it.
        spec: The flag's names, then the word for its value: `-o --output OUT`. Without such a word it is a switch.
        text: Its help.
        options: Further arguments of `add_argument`.

    Example:
        >>> add(parser, "--priority N", "higher runs first", type=whole(-100, 100), default=0)
    """
    *names, last = spec.split(" ")
    how: dict[str, Any] = {"action": "store_true"} if last.startswith("-") else {"metavar": last}
    parser.add_argument(*names, *([last] if last.startswith("-") else []), help=text, **{**how, **options})


def number(most: float, wanted: str, least: float = 0.0) -> Callable[[str], float]:
    """The `type` of a flag that takes a number from `least` to `most`; `wanted` completes the error message."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} {wanted}")
        return found

    return read


def _checked(read: Callable[[str], T], *, named: bool = False) -> Callable[[str], T]:
    """The `type` of a flag whose value this function reads; the text is `named` where its error does not have it."""

    def checked(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} {error}" if named else str(error)) from None

    return checked


time = _checked(seconds, named=True)
"""The `type` of a flag that takes a time in seconds or with a unit."""

size = _checked(numbers.size, named=True)
"""The `type` of a flag that takes a size in bytes or with a unit."""

address = _checked(addresses.listen_address)
"""The `type` of a flag that takes `HOST:PORT`."""

hubs = _checked(addresses.hub_urls)
"""The `type` of a flag that takes the addresses of one or several hubs."""

requirement = _checked(lambda text: "".join(parse(text)))
"""The `type` of `--requires`."""


def time_or_zero(text: str) -> float:
    """As `time`; 0 is one, too."""
    return 0.0 if text.strip() == "0" else time(text)


def worker_url(parser: argparse.ArgumentParser) -> None:
    """`--worker-url URL`, for programs that send jobs to a worker."""
    add(parser, "--worker-url URL", "the worker's address if the hub gives none (HEYGEM_SERVER_URL)", dest="worker")


def question(parser: argparse.ArgumentParser) -> None:
    """`--hub`, `--key-file` and the daemon's `--state`, for commands that query a hub."""
    _hub(parser)
    daemon(parser)


def connection(parser: argparse.ArgumentParser) -> None:
    """`--hub`, `--key-file` and `--record`, for programs that stay connected to a hub."""
    record(_hub(parser))


def _hub(parser: argparse.ArgumentParser) -> Group:
    group = parser.add_argument_group("the hub")
    add(group, "--hub URL", "the hub's address, or those of several, separated by commas (WAKESTREAM_HUB)")
    add(group, "--key-file FILE", "a file with this program's key (or WAKESTREAM_KEY)")
    add(group, "--ca FILE", "a certificate authority to trust for hub and worker (PEM)")
    return group


def machine(group: Group) -> None:
    """`--start` and the flags beside it, for a monitor: how one machine is switched."""
    provider(group)
    add(group, "--program CMD", "the program that --power process starts and stops", dest="power_program")
    add(group, "--start CMD", "starts the machine; exit code 75: no capacity", dest="power_start")
    add(group, "--stop CMD", "stops the machine", dest="power_stop")
    text = "prints running, stopped, starting, stopping, terminated, no_capacity or failed"
    add(group, "--inspect CMD", text, dest="power_inspect")


def provider(parser: Group) -> None:
    """`--power`, `--machine` and `--power-option`: which machine is switched, and how."""
    text = (
        "process: a program here; command: three commands; or a provider, tested with stand-ins only (see docs/power)"
    )
    add(parser, "--power NAME", text)
    add(parser, "--machine ID", "the machine's id or name at its provider", dest="power_machine")
    text = "an option of the power provider, such as region=cn-wlcb; may be given several times"
    parser.add_argument("--power-option", metavar="KEY=VALUE", action="append", help=text)


def record(parser: Group) -> None:
    """`--record DIR`."""
    add(parser, "--record DIR", "record every message and outcome into this folder")


def waits(parser: argparse.ArgumentParser) -> None:
    """`--online-timeout` and its like: how long a job waits for each thing."""
    group = parser.add_argument_group("waits", "in seconds, or with a unit: 90, 30min, 2h")
    for name in WAITS.values():
        group.add_argument(f"--{name.replace('_', '-')}", metavar="TIME", help=WAITS_HELP[name])


def trace(parser: argparse.ArgumentParser) -> None:
    """`--trace`, for programs that run jobs."""
    text = "send OpenTelemetry traces; set the OTEL_* variables (WAKESTREAM_TRACE; needs wakestream[otel])"
    parser.add_argument("--trace", action="store_const", const="true", help=text)


def probe(parser: argparse.ArgumentParser) -> None:
    """`--no-probe`, for programs that accept files."""
    text = "do not check that video and audio can be decoded (WAKESTREAM_PROBE=false)"
    parser.add_argument("--no-probe", dest="probe", action="store_const", const="false", help=text)


def program(parser: argparse.ArgumentParser) -> None:
    """`--exit-with-stdin` and `--metrics`, for long-lived programs."""
    group = parser.add_argument_group("the program")
    add(group, "--log-file FILE", "also log into this file; rotated at 10 MB, five are kept (WAKESTREAM_LOG_FILE)")
    add(group, "--metrics HOST:PORT", "serve Prometheus metrics at /metrics of this address (WAKESTREAM_METRICS)")
    add(group, "--exit-with-stdin", "stop when standard input closes (when the parent ends)")


def listen(parser: argparse.ArgumentParser, default: str) -> None:
    """`--listen HOST:PORT`."""
    add(parser, "--listen HOST:PORT", f"where to listen (WAKESTREAM_LISTEN; default {default})")


def listen_on(settings: Settings, default: str) -> tuple[str, int]:
    """Where the settings, or else the program's `default`, say to listen."""
    return settings.listen or addresses.listen_address(default)


GPU = "gpu"
"""The default name of a GPU."""


def labels(parser: Group) -> None:
    """`--label NAME=VALUE`, for workers and monitors."""
    text = "a label of the GPU, which jobs may require, such as memory=24GB or zone=eu; may be repeated"
    parser.add_argument("--label", metavar="NAME=VALUE", action="append", help=text)


def slots(parser: Group) -> None:
    """`--slots N`, for workers."""
    add(parser, "--slots N", "how many tasks the worker does at one time (WAKESTREAM_SLOTS; default 1)")


def tls(parser: argparse.ArgumentParser) -> None:
    """`--tls-cert` and `--tls-key`, for servers."""
    group = parser.add_argument_group("TLS")
    add(group, "--tls-cert FILE", "serve TLS with this certificate (chain, PEM)")
    add(group, "--tls-key FILE", "its key (PEM, not encrypted)")


def behind_proxy(parser: Group) -> None:
    """`--behind-proxy ADDRESS`, parsed into networks in `args.behind_proxy`, for servers that count clients."""
    text = (
        "trust X-Forwarded-For from this proxy, such as 10.0.0.2 or 172.18.0.0/16; may be repeated. No "
        "other address is trusted, not even this machine"
    )
    add(parser, "--behind-proxy ADDRESS", text, type=_checked(addresses.network), action="append", default=[])


def is_quiet(args: argparse.Namespace) -> bool:
    """Whether only results and errors are to be shown (`-q`)."""
    return getattr(args, "quiet", False)


def daemon(parser: argparse.ArgumentParser) -> None:
    """`--state DIR`, the daemon's folder, where the other commands find it."""
    text = "the daemon's folder (WAKESTREAM_DAEMON; default: the user's data folder)"
    add(parser.add_argument_group("the daemon"), "--state DIR", text, default=None)


def exit_on_refusal(parser: argparse.ArgumentParser) -> None:
    """`--exit-on-refusal`: a program that the hub does not take ends, instead of coming again and again."""
    text = "exit with code 2 when the hub rejects this program's key (default: retry with backoff)"
    add(parser, "--exit-on-refusal", text)
