"""The page that a browser shows at a program's address: its state, read only, without secrets and scripts.

In English, or in Chinese when that is the browser's first language.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Final

from wakestream.adapters.config.units import UNITS, duration
from wakestream.streams.worker.state import QueueState

EVERY: Final = 5
"""Seconds after which a browser reloads the page."""

_PAGE = Path(__file__).with_name("status_page.html").read_text("utf-8")
_STYLE = _PAGE.partition("<style>")[2].partition("</style>")[0]
_MARK = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_MARK}'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(words: Words, title: str, text: str, facts: Iterable[tuple[str, str]]) -> bytes:
    """The page's HTML: a title, a sentence and a table of facts."""
    rows = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts)
    texts = {"lang": words["lang"], "title": html.escape(title), "text": html.escape(text)}
    return Template(_PAGE).substitute(texts, every=EVERY, rows=rows).encode()


def worker_page(state: QueueState, ready: bool, said: str, gpu: str | None, languages: str = "") -> bytes:
    """A worker's page: whether its engine is ready, and the number of tasks, without names of files and tasks."""
    words, tasks = words_for(languages), [task.status for task in state.tasks.values()]
    facts = [
        (words["engine"], words["ready"] if ready else said),
        *([("GPU", gpu)] if gpu else []),
        (words["at_work"], words.count("jobs", tasks.count("running"))),
        (words["waiting"], words.count("jobs", tasks.count("queued"))),
    ]
    return page(words, "wakestream worker", words["worker"], facts)


# The texts of the status pages, in the language that the browser asks for.


class Words(dict[str, str]):
    """The texts of one language, by name."""

    def phase(self, word: str) -> str:
        """The state of a GPU."""
        return self.get(f"phase.{word}", word.replace("_", " "))

    def count(self, noun: str, number: int) -> str:
        """A number of jobs, clients or monitors."""
        return self[f"{noun}.one" if number == 1 else noun].format(number)

    def usual(self, half: float, most: float) -> str:
        """A median and a 90th percentile, in seconds."""
        return self["usual"].format(self.time(half), self.time(most))

    def time(self, seconds: float) -> str:
        """A time with at most two units; a negative one, which differing clocks cause, is 0."""
        return duration(max(0.0, seconds), tuple(self[unit] for unit in UNITS), tenths=False)


def words_for(languages: str) -> Words:
    """The texts for an `Accept-Language` header, by its first language."""
    return _catalogs()["zh-CN" if languages.strip().lower().startswith("zh") else "en"]


@functools.cache
def _catalogs() -> dict[str, Words]:
    texts = json.loads(Path(__file__).with_name("status_page.json").read_text("utf-8"))
    return {language: Words(words) for language, words in texts.items()}
