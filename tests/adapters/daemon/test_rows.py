"""The rows of a table, as spreadsheets and people write it."""

import json
import time

import pytest

from wakestream.adapters.cli.i18n.catalog import in_chinese
from wakestream.adapters.daemon import rows as r
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import WrongInput

TWO = [r.Row(2, {"image": "a.png", "scale": "2"}), r.Row(3, {"image": "b, c.png"})]
NONE = r.Uses([], [], [])
KIND = Kind("upscale", (Slot("image", ("image",)),), (Slot("image"),), {"properties": {"scale": {"type": "integer"}}})


@pytest.mark.parametrize(
    "content",
    [
        b'image,scale\na.png,2\n"b, c.png",\n',
        b"\xef\xbb\xbfimage;scale\r\na.png;2\r\nb, c.png;\r\n",
        b"image\tscale\r\n a.png \t2\r\nb, c.png\r\n",
        'image\tscale\r\na.png\t2\r\n"b, c.png"\t\r\n'.encode("utf-16"),
        b"sep=;\r\nimage;scale\r\na.png;2\r\nb, c.png;\r\n",
    ],
)
def test_commas_semicolons_and_tabs_separate_and_a_mark_at_the_beginning_is_no_value(content: bytes) -> None:
    table = r.table_of(content)
    assert ([row.values for row in table.rows], table.faults) == ([row.values for row in TWO], [])


def test_empty_lines_count_as_lines_and_are_no_rows_and_a_value_may_have_several_lines() -> None:
    table = r.table_of(b'image,text\r\n\r\na.png,"one\r\ntwo ""2"""\r\n,,,\r\nC:\\x\\b.png,b\r\n')
    assert table.rows == [
        r.Row(3, {"image": "a.png", "text": 'one\r\ntwo "2"'}),
        r.Row(6, {"image": r"C:\x\b.png", "text": "b"}),
    ]


def test_lines_of_json_keep_the_types_of_their_values() -> None:
    table = r.table_of(b'{"image": "a.png", "scale": 2, "on": true, "text": null}\n\n{"list": [1]}\n', lines=True)
    assert table.rows == [r.Row(1, {"image": "a.png", "scale": "2", "on": "true"}), r.Row(3, {"list": "[1]"})]
    assert table.columns == ["image", "scale", "on", "text", "list"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2,3\n", "t, line 2: it has 3 values for 2 columns"),
        (b'a,b\n1,2\n"x"y,2\n', "t, line 3: this is no CSV"),
        ("a,b\n1,2\n3,ü\n".encode("cp1252"), "t, line 3: this is not UTF-8; save the table as"),
        (b"a,a\n1,2\n", "t, line 1, column a: two columns have this name"),
        (b"a,b\n", "t, line 1: the table has no row"),
        (b"a\n" + b"1\n" * 10_001, "t, line 10002: a table has at most 10000 rows"),
        (b'{"a": 1}\n{"a": "C:\\x"}\n', r"t, line 2: this is no JSON"),
        (b'{"a": 1}\n[1]\n', "t, line 2: this is no object"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(content: bytes, said: str) -> None:
    table = r.table_of(content, lines=content.startswith(b"{"))
    assert said in table.faults[0].of("t")
    assert in_chinese(table.faults[0].why)


def test_columns_are_inputs_and_parameters_or_in_a_pattern_and_all_others_are_named() -> None:
    table = r.table_of(b"image,scale,name,#note,scael\na.png,2,n,x,y\n")
    assert r.uses(table, KIND, NONE, ["image=out/{name}-{row}.png"]) == r.Uses(["image"], ["scale"], [])
    assert [(fault.line, fault.column) for fault in table.faults] == [(1, "scael")]
    r.uses(table, KIND, r.Uses(["image"], ["scale"], []), ["image={nmae}{name}{scael}"])
    assert [fault.column for fault in table.faults[1:]] == ["nmae"]


def test_a_pattern_takes_the_values_of_the_row_and_an_empty_one_is_named() -> None:
    assert r.filled("{a}/{b}.png", {"a": "x", "b": "y"}, lambda name, value: name + value) == "ax/by.png"
    with pytest.raises(WrongInput) as wrong:
        r.filled("{a}/{b}.png", {"a": "x"})
    assert wrong.value.field == "row.b"
    assert [r.path_of(text).stem for text in ("x/a.b.png", r"C:\x\a.png")] == ["a.b", "a"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "different objects"])
def test_a_table_with_too_many_columns_is_refused_at_once(form: str) -> None:
    names = [f"c{number}" for number in range(200_000)]
    content = ",".join(names) + 3 * ("\nx" + 199_999 * ",1")
    if form != "csv":
        many = [{name: 1} for name in names[:10_000]] if form == "different objects" else [dict.fromkeys(names, 1)]
        content = "\n".join(map(json.dumps, many))
    began = time.process_time()
    table = r.table_of(content.encode(), lines=form != "csv")
    r.uses(table, KIND, NONE, [])
    assert [fault.why for fault in table.faults] == [f"it has {len(table.columns)} columns; a table has at most 1000"]
    assert sum(len(row.values) for row in table.rows) <= 1000
    assert time.process_time() - began < 10.0
