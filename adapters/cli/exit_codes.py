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
    USAGE: (
        "settings", "file_unusable", "journal_error", "unauthorized", "forbidden", "kicked", "bad_address", "bad_url",
        "no_worker", "no_secret", "tls", "wrong_input", "unknown_kind", "unmet",
    ),
    UNREACHABLE: ("hub_unreachable", "worker_unreachable", "daemon_unreachable"),
    TIMED_OUT: ("timeout",),
}  # fmt: skip


def of_word(code: str) -> int:
    """The exit code for the `code` of an error or of a `Failed` job."""
    return next((status for status, words in _BY_WORD.items() if code in words), FAILED)
