import ast
from pathlib import Path

import orjson
import pytest
from rich.text import Text

from wakestream.adapters.cli.render.table import table
from wakestream.adapters.runtime import printing

ADAPTERS = Path(__file__).parents[3] / "adapters"
EVIL = "a\x1b[31mb\x1b]0;t\x07\nc\u202ed\td"
CLEAN = "ab\ufffd]0;t\ufffd\ufffdc\ufffdd\ufffdd"


def test_each_line_stays_one_and_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(EVIL, "second")
    printing.say(EVIL, error=True)
    assert capsys.readouterr() == (f"{CLEAN}\nsecond\n", f"{CLEAN}\n")


def test_an_empty_text_prints_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say()
    assert capsys.readouterr().out == ""


def test_a_pipe_gets_everything_and_a_terminal_only_printable_text(capsys: pytest.CaptureFixture[str]) -> None:
    printing.answer({"text": EVIL}, EVIL, as_json=True)
    printing.answer({"text": EVIL}, EVIL, as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.isprintable()
    assert orjson.loads(first) == {"text": EVIL}
    assert second == CLEAN


def test_a_drawing_keeps_its_colours_and_lines_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    printing.draw("\x1b[1;31mred\x1b[0m\n\tfar\x1b[2J\x1b]0;t\x07")
    assert capsys.readouterr().out == "\x1b[1;31mred\x1b[0m\n\tfar\ufffd]0;t\ufffd\n"


def test_a_console_cleans_what_is_printed_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    printing.console().print(Text("a\x1b[31mb\x1b]0;t\u202e", "red"))
    assert capsys.readouterr().out == "ab\ufffd]0;t\ufffd\n"


def test_the_columns_of_a_table_stay_straight_whatever_is_in_its_cells() -> None:
    first, second = table([("a\x1b[31m\u200db", "x"), ("ab\n", "y")])
    assert (first, second) == ("a\ufffdb  x", "ab\ufffd  y")


def test_all_that_is_printed_goes_through_the_one_module() -> None:
    """Log lines are written by `logs`, which cleans them."""
    found = []
    for path in ADAPTERS.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name == "printing.py" or not any(word in source for word in ("print(", ".write(", "rich")):
            continue
        for node in ast.walk(ast.parse(source)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "rich.print", "sys.stdout.write", "sys.stderr.write"):
                found.append(f"{path.name}: {called}")
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                found += [f"{path.name}: rich's Console" for name in node.names if name.name == "Console"]
    drawn = [f"{name}.py: rich's Console" for name in ("display", "live_jobs", "output")]
    assert sorted(found) == sorted([*drawn, "logs.py: sys.stderr.write"])
