"""What set-up and `kinds add` write as TOML is read back as it was, or is refused, whatever characters it has."""

import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wakestream.adapters.cli.setup.files import toml
from wakestream.adapters.config.setting_files import SettingsError, read_toml
from wakestream.adapters.engines.comfyui_kinds import Draft
from wakestream.adapters.engines.comfyui_workflow import Place
from wakestream.adapters.engines.model_files import Model

ANY = st.text(st.characters())
HALVES = range(0xD800, 0xE000)
"""Half characters, which no UTF-8 can hold."""


def test_each_character_of_unicode_is_read_back_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "wakestream.toml"
    for first in range(0, sys.maxunicode, 2**15):  # each file within the limit for settings
        letters = [chr(code) for code in range(first, first + 2**15) if code not in HALVES]
        folder = Path("".join(letters).replace("\0", ""))
        path.write_bytes(toml("of a test", {"label": letters, "ca": folder}).encode())
        settings = read_toml(path)
        assert settings["label"].value == letters
        assert settings["ca"].value == str(folder)
    for code in HALVES:
        with pytest.raises(SettingsError, match="not valid Unicode"):
            toml("of a test", {"gpu": chr(code)})


@given(ANY, ANY, ANY)
@example("\x7f", "\x7f", "\x7f")
@example("a\nb = 1", "\r", "\N{LINE SEPARATOR}")
@example("\ud800", "", "")
@example("", "", "\ud800")
@example("", ".", "")
def test_a_kind_is_read_back_whatever_its_workflow_calls_its_nodes(title: str, node: str, class_type: str) -> None:
    workflow = {node: {"class_type": class_type, "inputs": {}}}
    model = Model(title, node, 1, "00")
    draft = Draft("k", title, Path("w.json"), Path("k.toml"), workflow, {}, {}, {"o": Place(node)}, {}, [model])
    try:
        written = draft.toml().encode().decode()
    except SettingsError:
        assert any(ord(letter) in HALVES for letter in title + node)
        return
    kind = tomllib.loads(written)["kinds"]["k"]
    assert kind.get("title", "") == title
    assert kind["outputs"]["o"] == {"node": node}
    assert kind["models"] == {title: {"url": node, "size": 1, "sha256": "00"}}
