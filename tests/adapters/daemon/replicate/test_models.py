"""Kinds as models of Replicate: names and versions, the schema, and the input of a job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wakestream.adapters.daemon.replicate.models import Model, kind_name, models
from wakestream.operators.model.engine import MAX_FILES, Kind, Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.known_kinds import UNKNOWN, GpuOfKind, KnownKind, KnownKinds

PAINT = Kind(
    "paint",
    (Slot("image", ("image",), "A picture"), Slot("masks", many=True, required=False)),
    (Slot("picture", (".png",)), Slot("words", (".txt",)), Slot("data", (".json",)), Slot("parts", many=True)),
    {
        "properties": {
            "image": {"type": "string"}, "seed": {"type": "integer"}, "steps": {"type": "integer", "default": 4},
            "prompt": {"type": "string"},
        },
        "required": ["prompt", "steps", "seed"],
    },
    seed="seed",
)  # fmt: skip
MODEL = Model(PAINT)


def test_the_schema_has_files_parameters_and_what_is_needed() -> None:
    schemas = MODEL.openapi()["components"]["schemas"]
    properties = schemas["Input"]["properties"]
    assert [*properties] == ["image", "masks", "image_param", "seed", "steps", "prompt"]
    assert schemas["Input"]["required"] == ["image", "prompt"]
    assert (properties["image"]["format"], properties["masks"]["items"]["format"]) == ("uri", "uri")
    assert [each["x-order"] for each in properties.values()] == [0, 1, 2, 3, 4, 5]
    outputs = schemas["Output"]["properties"]
    assert [outputs[name].get("type") for name in ("picture", "words", "data", "parts")] == [
        "string", "string", None, "array",
    ]  # fmt: skip
    single = Model(replace(PAINT, outputs=PAINT.outputs[:1])).openapi()["components"]["schemas"]["Output"]
    assert single == {"title": "Output", "type": "string", "format": "uri"}


def test_an_input_is_split_into_files_and_parameters() -> None:
    given = {"image": "u", "masks": ["a", "b"], "image_param": "x", "steps": 1, "prompt": None, "width": 1}
    files, params, ignored = MODEL.split(given)
    assert {field: values for field, (_, values) in files.items()} == {"image": ["u"], "masks": ["a", "b"]}
    assert (params, ignored) == ({"image": "x", "steps": 1}, ("width",))
    assert [MODEL.field_of(each) for each in ("params.image", "inputs.image", "inputs.masks_2", "kind")] == [
        "input.image_param", "input.image", "input.masks", "input",
    ]  # fmt: skip
    for wrong in ({"image": ["a", "b"]}, {"masks": ["data:,a"] * (MAX_FILES + 1)}):
        with pytest.raises(WrongInput):
            MODEL.split(wrong)


def test_kinds_of_one_name_that_differ_are_versions_for_their_gpus() -> None:
    other = replace(PAINT, version="2")
    known = KnownKinds(
        (KnownKind(PAINT, (GpuOfKind("a", True),)), KnownKind(other, (GpuOfKind("b", True),))), known=True
    )
    first, second = models(known)
    assert (first.gpus, second.gpus) == (("a",), ("b",))
    assert first.version != second.version
    assert [model.gpus for model in models(KnownKinds(known.kinds[:1], known=True))] == [()]
    assert Model(PAINT).version != Model(replace(PAINT, name="draw", version="")).version


def test_a_hub_that_tells_no_kinds_has_lipsync() -> None:
    assert [model.kind.name for model in models(UNKNOWN)] == ["lipsync"]
    assert [*models(replace(UNKNOWN, known=True))] == []


def test_the_name_of_a_model_may_have_dashes_and_dots() -> None:
    assert kind_name("Flux-1.1-pro") == "flux_1_1_pro"
