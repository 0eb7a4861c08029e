"""The base of messages, events and facts: frozen, and much faster to create than a dataclass."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Frozen(msgspec.Struct, frozen=True):
    """A frozen type. `repr` (also that of rich) leaves out the secret fields, which `HIDDEN` names."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.HIDDEN]
