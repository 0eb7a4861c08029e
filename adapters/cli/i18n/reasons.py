"""Common reasons for an error in Chinese: other programs send them in English."""

from __future__ import annotations

import re

from wakestream.adapters.cli.i18n.catalog import catalog, chosen


def translated(reason: str) -> str | None:
    """The reason in Chinese; None if the language is another, or the catalog does not have it."""
    return in_chinese(reason) if chosen() == "zh" else None


def in_chinese(reason: str) -> str | None:
    """The reason in Chinese, whatever the language is; None if the catalog does not have it.

    A reason within the reason is translated too.
    """
    for english, chinese in catalog("reasons_zh").items():
        if found := re.fullmatch(english, reason, re.DOTALL):
            return chinese.format(*(group and (in_chinese(group) or group) for group in found.groups()))
    return None
