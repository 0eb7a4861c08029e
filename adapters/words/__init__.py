"""What is said to people, in their language: `tell(name, ...)`; one catalogue for each language."""

from wakestream.adapters.words.language import choose, chosen, tell

__all__ = ["choose", "chosen", "tell"]
