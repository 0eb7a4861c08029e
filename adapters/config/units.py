"""Sizes and times as people read them."""

from __future__ import annotations

UNITS = ("s", "min", "h", "d")
"""The units of times: second, minute, hour and day."""


def size(count: float, byte: str = "B") -> str:
    """Bytes as `12.3 MB` (powers of 1000). `byte` is the unit of sizes below 1 kB."""
    for unit in (byte, "kB", "MB", "GB"):
        if count < (999.5 if unit == byte else 999.95):
            return f"{count:.0f} {unit}" if unit == byte else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(
    seconds: float, names: tuple[str, ...] = UNITS, *, tenths: bool = True, days_from: float | None = None
) -> str:
    """A time with at most two units.

    Args:
        seconds: The time.
        names: The units' names in the reader's language.
        tenths: Whether times below 10 seconds have a decimal.
        days_from: Seconds from which on the time is in days and hours; None for never.

    Example:
        >>> [duration(4.2), duration(125), duration(3780)]
        ['4.2 s', '2 min 05 s', '1 h 03 min']
    """
    second, minute, hour, day = names
    if days_from is not None and seconds >= days_from:
        days, hours = divmod(round(seconds / 3600), 24)
        return f"{days} {day} {hours:02} {hour}"
    if round(seconds) < 60:
        return f"{seconds:.1f} {second}" if tenths and seconds < 9.95 else f"{seconds:.0f} {second}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} {minute} {rest:02} {second}"
    return f"{minutes // 60} {hour} {minutes % 60:02} {minute}"
