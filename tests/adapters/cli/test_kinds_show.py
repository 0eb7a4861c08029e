"""Kinds as text, also those whose descriptions are odd: they come from other machines."""

from typing import Any

import pytest

from wakestream.adapters.cli.i18n.catalog import given
from wakestream.adapters.cli.kinds_show import kind_lines, kind_rows
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES
from wakestream.operators.model.engine import Kind, Slot
from wakestream.streams.protocol.known_kinds import GpuOfKind, KnownKind, KnownKinds

GPUS = (GpuOfKind("studio", online=True), GpuOfKind("attic", online=False))


def of_param(schema: dict[str, Any], **more: Any) -> str:
    """The line of a parameter `a`."""
    kind = Kind("k", (), (Slot("x"),), {"properties": {"a": schema}, **more})
    lines = kind_lines(KnownKind(kind, GPUS))
    return lines[lines.index("parameters (--param NAME=VALUE):") + 1]


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ({"type": "integer", "minimum": 2, "maximum": 8, "default": 2}, "  a  whole number 2..8  default 2"),
        ({"type": ["number", "string"]}, "  a  number/text"),
        (
            {"type": "boolean", "default": False, "title": "T", "description": "d"},
            "  a  true or false  default false  T: d",
        ),
        ({"enum": ["x", 2, None]}, "  a  x | 2 | null"),
        ({"enum": [*range(14)]}, "  a  0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | and 2 more"),
        ({"type": "array", "exclusiveMaximum": 5}, "  a  array ..5"),
        ({"type": "string", "default": ""}, '  a  text  default ""'),
        ({"type": "string", "default": "x" * 99}, f"  a  text  default {'x' * 59}…"),
        ({"type": {"odd": 1}, "enum": "abc", "minimum": [1], "title": 5}, "  a  {'odd': 1} [1]..    5"),
        ({}, "  a"),
    ],
)
def test_a_parameter_is_shown_with_its_type_range_and_default(schema: dict[str, Any], line: str) -> None:
    assert of_param(schema) == line


def test_a_parameter_that_must_be_given_is_in_the_example() -> None:
    assert of_param({"type": "integer"}, required=["a", "gone"]) == "  a  whole number  required"
    kind = Kind("k", (Slot("i"), Slot("j", required=False)), (Slot("x"),), {"required": ["gone"]})
    last = kind_lines(KnownKind(kind, ()))[-1]
    assert last == "  wakestream submit --kind k --in i=FILE --param gone=VALUE"


def test_the_table_shortens_long_lists() -> None:
    many = Kind("many", tuple(Slot(f"f{n}") for n in range(9)), (Slot("x"),))
    heading, row = kind_rows(KnownKinds((KnownKind(many, GPUS),), known=True))
    assert heading == ["KIND", "INPUTS", "PARAMETERS", "OUTPUTS", "GPU"]
    assert row == ["many", "f0, f1, f2, f3, f4, f5, and 3 more", "-", "x", "studio (on), attic (asleep)"]


def texts_of(kind: Kind) -> set[str]:
    """All that a kind says to people."""
    slots = [text for slot in (*kind.inputs, *kind.outputs) for text in (slot.title, slot.help)]
    params = [
        schema.get(word, "")
        for schema in kind.params.get("properties", {}).values()
        for word in ("title", "description")
    ]
    return {kind.title, kind.help, *slots, *params} - {""}


@pytest.mark.usefixtures("chinese")
def test_the_kinds_that_come_with_the_worker_are_shown_in_chinese() -> None:
    said = set().union(*(texts_of(kind) for kind in (LIPSYNC_KIND, *(recipe.kind for recipe in RECIPES.values()))))
    assert {text for text in said if given(text) == text} == set()
    lines = kind_lines(KnownKind(RECIPES["mux"].kind, GPUS))
    assert lines[0] == "mux: 替换声音"
