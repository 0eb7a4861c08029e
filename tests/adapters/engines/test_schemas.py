"""What Cog and Gradio say of themselves, as kinds."""

from __future__ import annotations

from typing import Any

import pytest

from wakestream.adapters.engines.cog_schema import model_of_schema
from wakestream.adapters.engines.gradio_schema import Argument, endpoints_of
from wakestream.operators.model.engine import Slot

COG: dict[str, Any] = {
    "info": {"title": "Upscaler"},
    "components": {
        "schemas": {
            "Input": {
                "required": ["image", "mode"],
                "properties": {
                    "mode": {"allOf": [{"$ref": "#/components/schemas/mode"}], "x-order": 1, "description": "how"},
                    "image": {"type": "string", "format": "uri", "x-order": 0, "description": "a picture"},
                    "steps": {"type": "integer", "minimum": 1, "maximum": 20, "default": 3, "x-order": 2},
                    "mask": {"type": "string", "format": "uri", "x-order": 3},
                    "hub": {
                        "type": "string",
                        "format": "password",
                        "writeOnly": True,
                        "x-cog-secret": True,
                        "x-order": 4,
                    },
                },
            },
            "mode": {"enum": ["fast", "fine"], "type": "string", "title": "mode"},
            "Output": {"type": "array", "items": {"type": "string", "format": "uri"}},
        }
    },
}


def test_a_cog_schema_becomes_a_kind() -> None:
    model = model_of_schema("predict", COG)
    assert model is not None
    kind = model.kind
    assert kind.inputs == (Slot("image", help="a picture"), Slot("mask", required=False))
    assert kind.params["properties"] == {
        "mode": {"type": "string", "title": "mode", "description": "how", "enum": ["fast", "fine"]},
        "steps": {"type": "integer", "default": 3, "minimum": 1, "maximum": 20},
        "hub": {"type": "string", "format": "password", "writeOnly": True},
    }
    assert kind.params["required"] == ["mode"]
    assert kind.outputs == (Slot("output", many=True),)


def test_an_answer_that_is_no_cog_schema_is_none() -> None:
    assert model_of_schema("predict", {"error": "OpenAPI schema not available"}) is None


INFO: dict[str, Any] = {
    "named_endpoints": {
        "/work": {
            "parameters": [
                {"label": "Picture", "parameter_name": "image", "component": "Image", "type": {"type": "object"}},
                {
                    "label": "Steps", "parameter_name": "steps", "component": "Slider", "type": {"type": "number"},
                    "parameter_has_default": True, "parameter_default": 3,
                },
                {
                    "label": "Mode", "parameter_name": "mode", "component": "Dropdown",
                    "type": {"type": "string", "enum": ["a", "b"]},
                },
            ],
            "returns": [
                {"label": "Result image", "component": "Image"},
                {"label": "Said", "component": "Textbox", "type": {"type": "string"}},
            ],
        },
        "/silent": {"parameters": [], "returns": []},
    }
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "components": [
        {"id": 1, "type": "image", "props": {}},
        {"id": 2, "type": "slider", "props": {"minimum": 1, "maximum": 20, "step": 1}},
        {"id": 3, "type": "dropdown", "props": {}},
        {"id": 4, "type": "state", "props": {}},
    ],
    "dependencies": [
        {"id": 7, "api_name": "work", "inputs": [4, 1, 2, 3], "outputs": [1, 3, 4]},
        {"id": 8, "api_name": "silent", "inputs": [], "outputs": []},
    ],
}


@pytest.mark.parametrize(
    ("types", "accepts"),
    [(["image", ".PSD"], ("image", ".psd")), ([".tar.gz"], ()), (["3d"], ()), ([".safetensors"], ()), (None, ())],
)
def test_a_gradio_file_accepts_what_files_can_be(types: list[str] | None, accepts: tuple[str, ...]) -> None:
    parameter = {"label": "Any file", "component": "File", "parameter_name": "given"}
    info = {"named_endpoints": {"/work": {"parameters": [parameter], "returns": [parameter]}}}
    components = [{"id": 1, "type": "file", "props": {"file_types": types}}]
    config = {"components": components, "dependencies": [{"id": 7, "api_name": "work", "inputs": [1], "outputs": [1]}]}
    assert [slot.accepts for slot in endpoints_of(info, config)["work"].kind.inputs] == [accepts]


@pytest.mark.parametrize(("choices", "declared"), [([1, 2.5], None), (["auto", 512], None), (["a"], "string")])
def test_gradios_choices_have_a_type_only_where_they_are_texts(choices: list[object], declared: str | None) -> None:
    own = {"type": "string", "enum": choices}
    names = ("one", "some")
    types = (own, {"type": "array", "items": own})
    parameters = [
        {"label": "L", "component": "Dropdown", "parameter_name": name, "type": type_}
        for name, type_ in zip(names, types, strict=True)
    ]
    info = {"named_endpoints": {"/work": {"parameters": parameters, "returns": parameters[:1]}}}
    dependency = {"id": 7, "api_name": "work", "inputs": [1, 1], "outputs": [1]}
    found = endpoints_of(info, {"components": [{"id": 1}], "dependencies": [dependency]})["work"].kind
    one, some = (found.params["properties"][name] for name in names)
    assert one.get("type") == some["items"].get("type") == declared
    assert one["enum"] == some["items"]["enum"] == choices


def test_a_gradio_endpoint_becomes_a_kind_and_the_apps_own_state_is_left_out() -> None:
    endpoints = endpoints_of(INFO, CONFIG)
    assert [*endpoints] == ["work"]
    work = endpoints["work"]
    assert work.fn_index == 7
    assert work.arguments == (
        Argument(), Argument("file", "image"), Argument("value", "steps", 3), Argument("value", "mode"),
    )  # fmt: skip
    assert work.results == ("result_image", "said", "")
    assert work.kind.inputs == (Slot("image", ("image",), title="Picture"),)
    assert work.kind.params["properties"]["steps"] == {
        "type": "integer", "minimum": 1, "maximum": 20, "x-step": 1, "title": "Steps", "default": 3,
    }  # fmt: skip
    assert work.kind.params["required"] == ["mode"]
    assert [slot.accepts for slot in work.kind.outputs] == [("image",), (".txt",)]
