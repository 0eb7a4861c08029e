"""Import the names of a package when they are first used, so that a program loads only what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package.

    Args:
        package: The package's `__name__`.
        homes: The names of each module, separated by spaces; modules are relative to `package`, and `*` stands for
            the name itself.
    """
    home = {name: module.replace("*", name) for module, names in homes.items() for name in names.split()}

    names = vars(import_module(package))

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        names[name] = value
        return value

    return get, lambda: sorted({*names, *home})
