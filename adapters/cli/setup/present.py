"""What set-up shows: the files that it wrote, the key's license, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup.roles import Done


def lines(role: str, done: Done) -> Iterator[str]:
    """Lines for people."""
    for path, what in done.files:
        yield t(f"setup.{what}", path=path)
    if done.start:
        yield t("setup.service", command=done.start)
    elif role == "client":
        yield t("setup.client")
    else:
        yield t("setup.start", command=shlex.join(["wakestream", role, *done.arguments]))
