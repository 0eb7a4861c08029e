"""Programs as the system can start them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def startable(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv`, on Windows with the full path of its program: the system itself looks for nothing but `.exe`.

    So cloud tools that are batch files (`az`, `gcloud`) are started by their bare name there, too.
    """
    found = shutil.which(argv[0]) if sys.platform == "win32" else None
    return (found or argv[0], *argv[1:])
