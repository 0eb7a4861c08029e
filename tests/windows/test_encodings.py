"""Text on a disk is UTF-8 (or plainer) whatever the system's own encoding: each place that opens some says so."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

TEXT = {"read_text": 0, "write_text": 1}
"""Methods of paths, and at which place they take the encoding."""


NO_TEXT = ("os.open", "gzip.open", "webbrowser.open", "archive.open")


def unsaid(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that leave the encoding to the system."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not any(each.arg == "encoding" for each in node.keywords):
            called = ast.unparse(node.func)
            name = called.rpartition(".")[2]
            forgotten = name in TEXT and len(node.args) <= TEXT[name]
            if forgotten or (name in ("open", "fdopen") and called not in NO_TEXT and _opens_text(node)):
                yield node.lineno


def _opens_text(call: ast.Call) -> bool:
    given = [*call.args, *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    of_a_path = isinstance(call.func, ast.Attribute) and call.func.attr == "open"
    if of_a_path and call.args and not modes:
        return False  # something else that can be opened, or a mode that is worked out
    return not any("b" in mode for mode in modes)


def test_no_text_is_opened_in_the_systems_own_encoding() -> None:
    files = [path for room in ("adapters", "streams", "operators") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    found = [f"{path}:{line}" for path in files for line in unsaid(ast.parse(path.read_text(encoding="utf-8")))]
    assert found == []


def test_it_is_found_where_it_is_left_out() -> None:
    wrong = "p.read_text()\np.write_text(t)\nopen(p)\np.open('w')\np.open()\nos.fdopen(h, 'w')\nopen(p, mode)"
    right = "p.read_text('ascii')\np.write_text(t, encoding='utf-8')\nopen(p, 'rb')\nos.open(p, f)\np.open(mode='wb')"
    assert list(unsaid(ast.parse(wrong))) == [1, 2, 3, 4, 5, 6, 7]
    assert list(unsaid(ast.parse(right))) == []
