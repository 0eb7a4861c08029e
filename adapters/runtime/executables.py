"""Commands as the system can start them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def startable(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv`, on Windows with the full path of the program, since the system searches for `.exe` only.

    This also starts tools that are batch files, such as `az` and `gcloud`, by their names.
    """
    found = shutil.which(argv[0]) if sys.platform == "win32" else None
    return (found or argv[0], *argv[1:])
