"""Days of the calendar as the ledger numbers them."""

import datetime

BERLIN = "Europe/Berlin"


def day_number(text: str) -> int:
    """The number of a day such as 2026-01-31."""
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days
