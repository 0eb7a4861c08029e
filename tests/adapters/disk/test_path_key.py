"""Where the programs keep their files by default."""

import ast
from pathlib import Path

import platformdirs.windows
import pytest

from wakestream.adapters.cli.commands import hub
from wakestream.adapters.config.settings import user_folder
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.disk.path_key import data_folder

ROOT = Path(__file__).parents[3]
ROOMS = ("adapters", "streams", "operators")


def test_no_folder_is_asked_for_that_windows_would_put_into_one_of_an_author() -> None:
    sources = (path.read_text("utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    trees = (ast.parse(source) for source in sources if "user_data_" in source or "user_config_" in source)
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func).startswith(("user_data_", "user_config_"))]
    assert calls
    assert [ast.unparse(call) for call in calls if "appauthor=False" not in ast.unparse(call)] == []


def test_on_windows_the_folders_of_all_programs_are_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAKESTREAM_DAEMON", "WAKESTREAM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("user_data_path", "user_config_path"):
        found = lambda app, appauthor=None, name=name: getattr(platformdirs.windows.Windows(app, appauthor), name)  # noqa: E731
        monkeypatch.setattr(platformdirs, name, found)
    monkeypatch.setattr(platformdirs.windows, "get_win_folder", lambda _: "C:/Users/me/AppData/Local")
    ours = data_folder("monitor").parent
    assert ours.parts[-2:] == ("Local", "wakestream")
    assert {hub.folder(None).parent, daemon_address.folder(None).parent, user_folder()} == {ours}
