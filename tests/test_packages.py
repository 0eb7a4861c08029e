"""What is built and installed is what stands in the tree."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("operators", "streams", "adapters")


def settings() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return found


def test_the_list_of_packages_names_every_folder_with_modules() -> None:
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    in_the_tree = {"wakestream", *(".".join(("wakestream", *folder.parts)) for folder in folders)}
    listed = settings()["packages"]
    assert isinstance(listed, list)
    assert len(listed) == len(set(listed))
    assert set(listed) == in_the_tree


def test_every_package_has_an_init() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_package_is_typed_for_its_users() -> None:
    data = {
        "wakestream": ["py.typed"],
        "wakestream.adapters.cli.i18n": ["*.json"],
        "wakestream.adapters.cli.marbles": ["*.css"],
        "wakestream.adapters.cli.setup": ["services/*", "static/*"],
        "wakestream.adapters.daemon.console": ["static/*"],
        "wakestream.adapters.engines": ["*.toml"],
        "wakestream.adapters.hub.operator": ["static/*"],
        "wakestream.adapters.net": ["*.html", "*.json", "page/*"],
    }
    assert settings()["package-data"] == data
    assert (ROOT / "wakestream" / "py.typed").is_file()


def test_the_folder_of_the_package_links_to_every_room() -> None:
    links = {path.name: path.resolve() for path in (ROOT / "wakestream").iterdir() if path.is_symlink()}
    assert links == {room: ROOT / room for room in ROOMS}
