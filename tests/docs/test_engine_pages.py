"""The pages of docs/engines agree with the engines."""

import re
import tomllib
from pathlib import Path

import pytest

from wakestream.adapters.engines.command import programs_of
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "engine_tones"


def read(page: str) -> str:
    return (ROOT / "docs" / "engines" / f"{page}.md").read_text(encoding="utf-8")


def files(page: str) -> dict[str, str]:
    return dict(re.findall(r"^```\w+\n# file: (\S+)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL))


def test_the_example_is_about_thirty_lines() -> None:
    code = (EXAMPLE / "wakestream_tones.py").read_text("utf-8").splitlines()
    assert len([line for line in code if line.strip() and not line.startswith(("from", "import", '"""'))]) <= 30


def test_the_manifest_of_the_page_is_valid(tmp_path: Path) -> None:
    for name, text in files("command").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (program,) = programs_of(tmp_path / "kinds.toml")
    assert program.kind.name == "shout"
    assert program.read("line 3/12").numbers == {"frame": 3, "frames": 12}


def test_the_other_parts_of_manifests_on_the_page_are_toml() -> None:
    parts = re.findall(r"(?:^    [^\n]*\n|^\n)+", read("command"), re.MULTILINE)
    found = ["\n".join(line.strip() for line in part.splitlines()) for part in parts if "[kinds." in part]
    assert found
    for part in found:
        tomllib.loads(part)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_page_of_ffmpeg_lists_every_kind_with_its_names(kind: str) -> None:
    (row,) = re.findall(rf"^\| `{kind}` \|.*$", read("ffmpeg"), re.MULTILINE)
    described = RECIPES[kind].kind
    names = [slot.name for slot in (*described.inputs, *described.outputs)]
    params = described.params.get("properties", {})
    choices = [str(one) for schema in params.values() for one in schema.get("enum", ()) if len(schema["enum"]) < 5]
    assert [name for name in (*names, *params) if f"`{name}`" not in row] == []
    assert [one for one in choices if one not in row] == []


def test_the_page_of_ffmpeg_lists_no_other_kind() -> None:
    kinds = read("ffmpeg").partition("## Kinds")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", kinds, re.MULTILINE)) == set(RECIPES)
