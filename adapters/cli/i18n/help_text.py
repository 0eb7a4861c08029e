"""The help of a command in Chinese; the English texts are the keys, so that neither is changed without the other."""

from __future__ import annotations

import argparse
import re

from wakestream.adapters.cli.i18n.catalog import catalog

_OPTIONS = ("[options]", "[选项]")


def translate(parser: argparse.ArgumentParser) -> None:
    """Replace all texts of the parser's help with Chinese ones."""
    if parser.usage:
        parser.usage = parser.usage.replace(*_OPTIONS)
    parser.description = _chinese(parser.description)
    parser.epilog = "\n".join(map(_line, (parser.epilog or "").split("\n")))
    for group in parser._action_groups:  # argparse has no other way to look at a parser
        group.title, group.description = _chinese(group.title), _chinese(group.description)
    for action in parser._actions:
        action.help = _chinese(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                choice.help = _chinese(choice.help)


def _chinese(text: str | None) -> str | None:
    return None if text is None else catalog("help_zh").get(text, text)


def _line(text: str) -> str:
    """A line below the arguments; in tables the second column is a sentence."""
    found = re.fullmatch(r"(\s*(?:\S+\s{2,})?)(.*)", text)
    assert found is not None  # noqa: S101 - it matches any line
    return found[1] + catalog("help_zh").get(found[2], found[2])
