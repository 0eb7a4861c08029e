"""Numbers and times as people write them."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


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
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value)) if not isinstance(value, bool) else None
    if match is None or match[2] not in _UNITS:
        raise ValueError("is not a time; write seconds, or a number with s, min, h or d, such as 90 or 30min")
    number = float(match[1]) * _UNITS[match[2]]
    if not 0 < number < math.inf:
        raise ValueError("must be longer than 0 seconds")
    return number


def size(text: str) -> int:
    """A size in bytes.

    Args:
        text: A number of bytes, or one with a unit such as `500MB`, `50GB` or `1.5 TiB`.

    Raises:
        ValueError: It is not a size, or smaller than 1 byte.

    Example:
        >>> size("50GB")
        50000000000
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?i?)b?\s*", text, re.ASCII | re.IGNORECASE)
    unit = _SIZES.get(match[2].lower()) if match is not None else None
    if match is None or unit is None or (number := int(float(match[1]) * unit)) < 1:
        raise ValueError("is not a size; write bytes, or a number with kB, MB, GB or TB, such as 50GB")
    return number
