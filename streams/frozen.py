"""The base of what a hub makes by the dozen for each frame: frozen, and made much more quickly than a dataclass."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Frozen(msgspec.Struct, frozen=True):
    """A frozen type. The fields that `HIDDEN` names are secrets, and are left out by `repr`."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self.HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"
