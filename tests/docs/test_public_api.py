"""What `wakestream.operators` and `wakestream.streams` offer: importable, documented, typed, and free until used."""

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wakestream.operators.lazy_names import homes

ROOMS = ("wakestream.operators", "wakestream.streams")
ROOT = Path(__file__).parents[2]


def names() -> list[tuple[str, str]]:
    return [(room, name) for room in ROOMS for name in importlib.import_module(room).__all__]


def documented(room: str, name: str) -> str:
    """The docstring, or for a constant or an alias the string beneath its assignment or the comment in its module."""
    value = getattr(importlib.import_module(room), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return inspect.getdoc(value) or ""
    source = (
        ROOT / room.removeprefix("wakestream.") / (home(room, name).removeprefix(f"{room}.").replace(".", "/") + ".py")
    ).read_text()
    return "a constant" if name in assigned(source) else ""


def assigned(source: str) -> list[str]:
    targets: list[ast.expr] = []
    for node in ast.parse(source).body:
        targets += (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
    return [target.id for target in targets if isinstance(target, ast.Name)]


def home(room: str, name: str) -> str:
    """The module of a name."""
    return homes(str(importlib.import_module(room).__file__))[name]


@pytest.mark.parametrize(("room", "name"), names())
def test_every_public_name_is_importable_and_documented(room: str, name: str) -> None:
    value = getattr(importlib.import_module(room), name)
    assert value is getattr(importlib.import_module(home(room, name)), name)
    assert documented(room, name)


@pytest.mark.parametrize(("room", "name"), names())
def test_every_public_function_and_method_is_typed_and_says_what_it_does(room: str, name: str) -> None:
    value = getattr(importlib.import_module(room), name)
    for function in functions(value):
        signature = inspect.signature(function)
        unnamed = ("self", "cls")
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in unnamed]
        assert bare == [], f"{function.__qualname__} has arguments without a type"
        assert signature.return_annotation is not signature.empty or function.__name__ == "__init__"
        assert function.__doc__ or function.__name__ == "__init__", f"{function.__qualname__} is not documented"


def functions(value: Any) -> list[Any]:
    """A function itself; of a class its own public methods, and its constructor unless a dataclass wrote it."""
    if inspect.isfunction(value):
        return [value]
    if not inspect.isclass(value):
        return []
    own = [(name, each) for name, each in vars(value).items() if inspect.isfunction(each)]
    written = (
        "__init__" in vars(value) and not dataclasses.is_dataclass(value) and not getattr(value, "_is_protocol", 0)
    )
    return [each for name, each in own if not name.startswith("_") or (name == "__init__" and written)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_shows_its_public_names(room: str) -> None:
    module = importlib.import_module(room)
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_hides_a_module(room: str) -> None:
    folder = ROOT / room.removeprefix("wakestream.")
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(importlib.import_module(room).__all__) & modules == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_that_does_not_exist_is_an_attribute_error(room: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module(room).nothing


def test_the_rooms_cost_nothing_until_a_name_is_used() -> None:
    code = f"import sys, {', '.join(ROOMS)}; print('reactivex' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_modules_are_reached_through_the_packages_as_before() -> None:
    from wakestream.operators.model import events
    from wakestream.streams.protocol import messages
    from wakestream.streams.replay import replay

    assert all(isinstance(module, ModuleType) for module in (events, messages, replay))
