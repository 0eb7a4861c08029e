"""`python -m wakestream.adapters.cli`: the same as the command `wakestream`."""

from __future__ import annotations

import sys

from wakestream.adapters.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
