"""The build backend: setuptools, and after `pip install -e` type checkers find the package as well.

An editable install of folders that are mapped to one name is an import hook, which no type checker runs; they read .pth
files. This adds one, to a folder that holds nothing but a link to the package, so no other name becomes importable.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks are setuptools' own

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "wakestream"
FOLDER = ROOT / ".editable"
PTH = "wakestream_folder.pth"


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """As setuptools does, with the .pth file where the system has symbolic links."""
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    if _linked():
        _add(Path(wheel_directory, name), PTH, f"{FOLDER}\n".encode())
    return name


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
