"""What is said to people, in their language: `tell(name, ...)`; one catalogue for each language."""

from wakestream.adapters.cli.i18n.catalog import choose, chosen, t

__all__ = ["choose", "chosen", "t"]
