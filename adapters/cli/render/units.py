"""Numbers as people read them, the same in every language."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes as `12.3 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < (999.5 if unit == "B" else 999.95):
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `2 min 05 s` or `1 h 03 min`: for drawings and tables of logs."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
