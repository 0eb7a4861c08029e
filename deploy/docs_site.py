"""What `make docs` adds to the pages: README as the first one, the API reference, links to files of the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    files.append(File.generated(config, "index.md", content=_start_page()))
    files.append(File.generated(config, "api-reference.md", content=_reference()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to files beside docs/ to where the repository is published; keep a code block's language alone."""
    folder = PurePosixPath("docs", page.file.src_uri).parent
    markdown = re.sub(r"^```(\w+) .*$", r"```\1", markdown, flags=re.MULTILINE)
    return LINK.sub(lambda link: _published(link, folder), markdown)


def _published(link: re.Match[str], folder: PurePosixPath) -> str:
    target = (ROOT / folder / link[1]).resolve()
    if target.is_relative_to(ROOT / "docs"):
        return link[0]
    if not target.exists():
        raise PluginError(f"{folder}: the link to {link[1]} leads to no file of the repository")
    kind = "tree" if target.is_dir() else "blob"
    return f"]({HOME}/{kind}/HEAD/{target.relative_to(ROOT).as_posix()}{link[2] or ''})"


def _start_page() -> str:
    text = (ROOT / "README.md").read_text("utf-8")

    def moved(link: re.Match[str]) -> str:
        path = link[1].removeprefix("docs/") if link[1].startswith("docs/") else f"../{link[1]}"
        return f"]({path}{link[2] or ''})"

    return LINK.sub(moved, text)


def _reference() -> str:
    """Every public name with its docstring: the groups of docs/api.md, then what the two packages export besides."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8").partition("## Other public parts")[0]
    lines = ["# API reference", "", "Made from the docstrings. [What is public](api.md) says what you can rely on.", ""]
    known = {"__version__"}
    for group, cell in re.findall(r"^\| ([^|`]+) \| (`.+) \|$", page, re.MULTILINE):
        names = [name for name in re.findall(r"`(\w+)`", cell) if name not in known]
        lines += _section(f"For {group}" if group[0] == "a" else group.capitalize(), "wakestream", names)
        known |= set(names)
    for package in ("operators", "streams"):
        names = sorted(_exported(package) - known)
        lines += _section(f"More in wakestream.{package}", f"wakestream.{package}", names)
        known |= set(names)
    return "\n".join(lines)


def _section(title: str, package: str, names: list[str]) -> list[str]:
    entries = [f"::: {package}.{name}\n" for name in names]
    return [f"## {title}", "", *entries] if entries else []


def _exported(package: str) -> set[str]:
    text = (ROOT / package / "__init__.py").read_text("utf-8")
    return set(re.findall(r"\b(\w+) as \1\b", text))
