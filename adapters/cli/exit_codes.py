"""What the programs tell their caller by their exit code."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
TIMED_OUT = 3
UNREACHABLE = 4
INTERRUPTED = 130

HELP = "exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 timed out, 4 unreachable, 130 interrupted"

_BY_WORD = {
    "settings": USAGE,
    "file_unusable": USAGE,
    "journal_error": USAGE,
    "unauthorized": USAGE,
    "forbidden": USAGE,
    "kicked": USAGE,
    "bad_address": USAGE,
    "bad_url": USAGE,
    "no_worker": USAGE,
    "no_secret": USAGE,
    "tls": USAGE,
    "hub_unreachable": UNREACHABLE,
    "worker_unreachable": UNREACHABLE,
    "daemon_unreachable": UNREACHABLE,
    "timeout": TIMED_OUT,
}


def of_word(code: str) -> int:
    """The exit code for the `code` of an error or of a `Failed` job."""
    return _BY_WORD.get(code, FAILED)
