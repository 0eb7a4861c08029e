"""The build backend: setuptools, with a README whose links lead somewhere on an index page, too.

And after `pip install -e` type checkers find the package as well.

An editable install of folders that are mapped to one name is an import hook, which no type checker runs; they read .pth
files. This adds one, to a folder that holds nothing but a link to the package, so no other name becomes importable.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks are setuptools' own

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "wakestream"
FOLDER = ROOT / ".editable"
PTH = "wakestream_folder.pth"
INDEX_PAGE = ROOT / "build" / "README.md"
"""What pyproject.toml names as the README."""


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """As setuptools does, with the index page's README."""
    _write_index_page()
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    return name


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """As setuptools does, with the index page's README."""
    _write_index_page()
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """As setuptools does, with the index page's README."""
    _write_index_page()
    name: str = build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)
    return name


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Any = None) -> str:
    """As setuptools does, with the index page's README."""
    _write_index_page()
    name: str = build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)
    return name


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """As setuptools does, with the .pth file where the system has symbolic links."""
    _write_index_page()
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    if _linked():
        _add(Path(wheel_directory, name), PTH, f"{FOLDER}\n".encode())
    return name


def _write_index_page() -> None:
    """README.md, its links to files of this repository made absolute."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1].endswith(".svg") else "blob"
        return f"]({home}/{kind}/HEAD/{link[1]})"

    page = re.sub(r"\]\((?!https?://|#)([^)\s]+)\)", absolute, (ROOT / "README.md").read_text("utf-8"))
    INDEX_PAGE.parent.mkdir(exist_ok=True)
    INDEX_PAGE.write_text(page, "utf-8")


def _linked() -> bool:
    """Whether `FOLDER` has a link to the whole package. Windows may forbid links, and git then makes none."""
    link = FOLDER / PACKAGE.name
    try:
        FOLDER.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(PACKAGE, target_is_directory=True)
    except OSError:
        return False
    return (link / "operators").is_dir()


def _add(wheel: Path, name: str, content: bytes) -> None:
    """Put one more file into a wheel, and into its list of files."""
    with ZipFile(wheel) as old:
        files = {each: old.read(each) for each in old.namelist()}
    record = next(each for each in files if each.endswith(".dist-info/RECORD"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    files[name] = content
    files[record] += f"{name},sha256={digest},{len(content)}\n".encode()
    with ZipFile(wheel, "w", ZIP_DEFLATED) as new:
        for each, data in files.items():
            new.writestr(each, data)
