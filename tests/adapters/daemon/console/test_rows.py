"""A table that was dropped on the page, against a kind with files and parameters."""

from dataclasses import replace

from wakestream.adapters.daemon.console.rows import FAULTS_MOST, checked_rows
from wakestream.adapters.daemon.rows import value_of
from wakestream.operators.model.engine import Kind, Slot

FLIP = Kind(
    "flip",
    (Slot("image", ("image",)), Slot("mask", ("image",), required=False)),
    (Slot("image", (".png",)),),
    {"properties": {"scale": {"type": "integer", "maximum": 8}, "text": {"type": "string"}}, "required": ["text"]},
)


def test_rows_name_their_files_without_folders_and_have_the_types_of_the_kind() -> None:
    table = "image;scale;name\r\npics/a.png;2;x\r\nC:\\pics\\b.png;;y\r\n".encode("utf-8-sig")
    assert checked_rows(table, "t.csv", FLIP, {"text": "same for all"}) == {
        "rows": [
            {"line": 2, "inputs": {"image": "a.png"}, "params": {"scale": 2}},
            {"line": 3, "inputs": {"image": "b.png"}, "params": {}},
        ],
        "secret": [],
    }
    lines = b'{"image": "a.png", "text": 5, "scale": "random"}'
    assert checked_rows(lines, "t.jsonl", FLIP, {})["rows"][0]["params"] == {"text": "5", "scale": "random"}
    token = replace(FLIP, params={"properties": {"token": {"type": "string", "format": "password"}}})
    assert checked_rows(b"image,token\na.png,x\n", "t.csv", token, {})["secret"] == ["token"]
    assert (value_of("7", FLIP, "scale"), value_of("7", FLIP, "text")) == (7, "7")


def test_each_row_that_does_not_fit_is_named_and_none_is_given_out() -> None:
    found = checked_rows(b"image,scale\na.png,2\na.txt,3\na.png,9\n", "t.csv", FLIP, {"text": "x"})
    assert [(one["line"], one["column"]) for one in found["faults"]] == [(3, "image"), (4, "scale")]
    assert (found["more"], "rows" in found) == (0, False)
    found = checked_rows(b"image,scael\na.png,2\n", "t.csv", FLIP, {"text": "x"})
    assert [(one["line"], one["column"]) for one in found["faults"]] == [(1, "scael")]
    found = checked_rows(b"image\n" + b"a.png\n" * 50, "t.csv", FLIP, {})
    assert (len(found["faults"]), found["more"]) == (FAULTS_MOST, 50 - FAULTS_MOST)
