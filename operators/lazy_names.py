"""Import the names of a package when they are first used, so that a program loads only what it needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def homes(file: str) -> dict[str, str]:
    """The module of each public name of a package: it lists them once, as imports for type checkers.

    Args:
        file: The package's `__file__`. Its imports `from MODULE import NAME as NAME` are read.

    Returns:
        The module of each name, in the order of the names.
    """
    imports = re.findall(r"from (\S+) import (\([^)]*\)|.*)", Path(file).read_text(encoding="utf-8"))
    found = {name: module for module, names in imports for name in re.findall(r"(\w+) as \1\b", names)}
    return dict(sorted(found.items()))


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: The package's `__name__`.
        file: Its `__file__`, see `homes`.
    """
    home = homes(file)
    names = vars(import_module(package))

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        names[name] = value
        return value

    return get, lambda: sorted({*names, *home}), list(home)
