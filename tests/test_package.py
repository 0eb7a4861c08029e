"""`from wakestream import …`: the short way to what a pipeline of one's own needs."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wakestream

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "wakestream" / "__init__.py"


def declared() -> dict[str, str]:
    """What type checkers see: name and module."""
    return {
        alias.name: str(node.module)
        for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_the_version_is_that_of_the_installed_package() -> None:
    assert wakestream.__version__ == importlib.metadata.version("wakestream")


@pytest.mark.parametrize(("name", "module"), declared().items())
def test_a_name_is_the_one_that_type_checkers_see(name: str, module: str) -> None:
    assert getattr(wakestream, name) is getattr(importlib.import_module(module), name)


def test_type_checkers_see_every_public_name() -> None:
    assert sorted([*declared(), "__version__"]) == sorted(wakestream.__all__)
    assert set(wakestream.__all__) <= set(dir(wakestream))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'wakestream' has no attribute 'nothing'"):
        _ = wakestream.nothing  # type: ignore[attr-defined]


def test_the_package_costs_nothing_until_a_name_is_used() -> None:
    heavy = ("reactivex", "asyncio", "aiohttp", "importlib.metadata")
    code = f"import sys, wakestream; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_the_page_of_what_is_public_names_all_of_it() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(wakestream.__all__) - set(re.findall(r"`([^`\n]+)`", page)) == set()
