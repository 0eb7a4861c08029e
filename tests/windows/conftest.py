"""What is in `under` runs under the emulation only: `test_rules.py` starts it so."""

import os

from tests.support.windows.as_on_windows import MARK

collect_ignore = [] if MARK in os.environ else ["under"]
