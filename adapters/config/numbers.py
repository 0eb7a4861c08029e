"""Numbers and times as people write them."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def whole_number(text: str, least: int = 0, most: int = 999_999_999) -> int | None:
    """The number in `text`, or None when it is not a whole number in ASCII digits from `least` to `most`.

    Example:
        >>> whole_number("20", 1, 100)
        20
    """
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if least <= number <= most else None


def seconds(value: object) -> float:
    """A time in seconds.

    Args:
        value: A number of seconds, or text with a unit such as `90`, `1.5s`, `30min`, `2h`.

    Raises:
        ValueError: it is not a time, or not longer than 0 seconds.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value)) if not isinstance(value, bool) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError("is not a time; write seconds, or a number with s, min or h, such as 90 or 30min")
    number = float(found[1]) * _UNITS[found[2]]
    if not 0 < number < math.inf:
        raise ValueError("must be longer than 0 seconds")
    return number
