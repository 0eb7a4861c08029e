"""A page for people who open a program's address in a browser: how it is, read only, nothing secret, no script."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from wakestream.streams.hub_state import HubState
from wakestream.streams.ledger import boot_times
from wakestream.streams.worker import State

EVERY: Final = 5
"""Seconds after which a browser asks again."""

_STYLE = """:root{color-scheme:light dark;--page:#f6f7f9;--panel:#fff;--ink:#14181f;--soft:#56606d;--line:#e2e6eb}
@media(prefers-color-scheme:dark){:root{--page:#0d1015;--panel:#151a21;--ink:#e9edf2;--soft:#9aa6b4;--line:#262d37}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,
sans-serif;font-variant-numeric:tabular-nums}main{max-width:640px;margin:8vh auto;padding:0 20px}
h1{font-size:20px;letter-spacing:-.02em;margin:0 0 4px}p{color:var(--soft);margin:0 0 24px}
dl{margin:0;border:1px solid var(--line);border-radius:14px;background:var(--panel);padding:6px 20px}
div{display:flex;justify-content:space-between;gap:24px;padding:10px 0}div+div{border-top:1px solid var(--line)}
dt{color:var(--soft)}dd{margin:0;font-weight:550;text-align:right;overflow-wrap:anywhere}"""

_MARK = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_MARK}'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(title: str, text: str, facts: Iterable[tuple[str, str]]) -> bytes:
    """The page's HTML: a title, a sentence, and what is known."""
    rows = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="refresh" content="{EVERY}"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
        f"<main><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p><dl>{rows}</dl></main></html>"
    ).encode()


def hub_page(state: HubState, now: float) -> bytes:
    """How a hub is: its GPUs, and how many wait. No job and no license is named."""
    return page("wakestream hub", "Programs connect here; this page only shows how it is.", hub_facts(state, now))


def hub_facts(state: HubState, now: float) -> Sequence[tuple[str, str]]:
    """What a hub's page tells."""
    gpus = [
        (f"GPU {gpu.name}", f"{gpu.phase}, {_time(max(0.0, now - gpu.since))}, {_jobs(len(gpu.leases))}")
        for gpu in list(state.gpus.values())[:50]
    ]
    boots = boot_times(seconds for _, seconds in state.boots)
    usual = f"{_time(boots['p50'])}, nine of ten within {_time(boots['p90'])}" if boots else "none seen yet"
    return [
        *(gpus or [("GPU", "none known yet")]),
        ("Waiting", _jobs(len(state.queue))),
        ("A boot takes", usual),
        ("Connected", f"{_many(len(state.clients), 'client')}, {_many(len(state.monitors), 'monitor')}"),
    ]


def worker_page(state: State, ready: bool, said: str, gpu: str | None) -> bytes:
    """How a worker is: whether its engine is ready, and how much there is to do. No file and no task is named."""
    tasks = [task.status for task in state.tasks.values()]
    facts = [
        ("Engine", "ready" if ready else said),
        *([("GPU", gpu)] if gpu else []),
        ("At work", _jobs(tasks.count("running"))),
        ("Waiting", _jobs(tasks.count("queued"))),
    ]
    return page("wakestream worker", "Clients bring their files here; this page only shows how it is.", facts)


def _jobs(count: int) -> str:
    return _many(count, "job")


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
