"""Texts for people in their language: `t(name, ...)`; one catalog for each language."""

from wakestream.adapters.cli.i18n.catalog import choose, chosen, t

__all__ = ["choose", "chosen", "t"]
