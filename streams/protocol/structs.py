"""The base of what a hub makes by the dozen for each frame: frozen, and made much more quickly than a dataclass."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Frozen(msgspec.Struct, frozen=True):
    """A frozen type. The fields that `HIDDEN` names are secrets, and are left out by `repr`, that of rich as well."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.HIDDEN]
