"""What set-up shows: the files that it wrote, the key's license, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup.roles import Done


def lines(role: str, done: Done, folder: Path | None = None) -> Iterator[str]:
    """Lines for people. `folder` is the one that the user gave for the settings."""
    for path, what in done.files:
        yield t(f"setup.{what}", path=path)
    if done.start:
        yield t("setup.service", command=done.start)
    elif role == "client":
        yield t("setup.client")
    else:
        own = [role, *done.arguments] if folder is None else ["up", "--folder", str(folder)]
        yield t("setup.start", command=shlex.join(["wakestream", *own]))
