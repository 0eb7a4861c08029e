"""`wakestream upgrade-check`: asks the index that pip uses for the newest version. No other command asks it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import version

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.runtime.printing import answer

EXAMPLES = ("upgrade-check", "upgrade-check --json")

NAME = "wakestream"

WITHIN = 60.0
"""Seconds for the answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--json", "one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the installed and the newest version; 1 if the newest is not known."""
    mine = version(NAME)
    newest, why = _newest()
    told = {"installed": mine, "newest": newest or None, **({"why": why} if why else {})}
    answer(told, t("upgrade.installed", version=mine), _words(mine, newest, why), as_json=args.json)
    return exit_codes.DONE if newest else exit_codes.FAILED


def _words(mine: str, newest: str, why: str) -> str:
    if not newest:
        return t("upgrade.unknown", why=why)
    if _order(newest) <= _order(mine):
        return t("upgrade.newest", version=newest)
    return t("upgrade.newer", version=newest)


def _newest() -> tuple[str, str]:
    """The newest version of the index, or an empty text and why it is not known."""
    # -P: a `pip` in the current folder is not run.
    ask = (sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "index", "versions", NAME)
    try:
        ended = subprocess.run(
            ask, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", t("upgrade.silent", time=f"{WITHIN:g} s")
    listed = re.search(rf"^{NAME} \(([^)\s]+)\)", ended.stdout, re.MULTILINE)
    if ended.returncode == 0 and listed is not None:
        return listed[1], ""
    if "No module named pip" in ended.stderr:
        return "", t("upgrade.no_pip")
    if "No matching distribution" in ended.stderr:
        return "", t("upgrade.none")
    last = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ended.stderr.splitlines()
    return "", last[-1].removeprefix("ERROR: ") if last else t("upgrade.none")


def _order(version: str) -> tuple[tuple[int, ...], bool]:
    """A key by which versions are compared: the numbers, and a pre-release before the release."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    parts = tuple(map(int, numbers[0].split("."))) if numbers else ()
    return parts, re.search(r"(a|b|rc|dev)\d*", version) is None
