"""The texts of the status pages, in the language that the browser asks for."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from wakestream.adapters.config.units import UNITS, duration


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
    return {language: Words(found) for language, found in texts.items()}
