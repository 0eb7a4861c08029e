from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import orjson
import pytest

from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.kinds import (
    check_bounds,
    file_fits,
    fingerprint,
    fitting,
    is_repeatable,
    kind_from,
    output_ext,
    plain_kind,
    seeded,
    with_defaults,
)

UPSCALE = Kind(
    "upscale",
    (Slot("image", ("image",)), Slot("mask", (".png",), required=False)),
    (Slot("image", (".png",)), Slot("log", (".txt",), required=False)),
    {
        "properties": {
            "scale": {"type": "integer", "minimum": 1, "maximum": 8, "default": 2},
            "mode": {"type": "string", "enum": ["fast", "fine"], "default": "fast"},
            "seed": {"type": "integer"},
        },
        "required": ["seed"],
    },
)
IMAGE = {"image": ".png"}


def fault(inputs: dict[str, str], params: dict[str, Any], outputs: tuple[str, ...] = ("image",)) -> tuple[str, str]:
    with pytest.raises(WrongInput) as raised:
        fitting(UPSCALE, inputs, params, outputs)
    return raised.value.field, str(raised.value)


def test_defaults_fill_in_what_is_missing() -> None:
    assert fitting(UPSCALE, IMAGE, {"seed": 1}, ["image"]) == {"scale": 2, "mode": "fast", "seed": 1}


@pytest.mark.parametrize(
    ("inputs", "params", "field", "words"),
    [
        ({}, {"seed": 1}, "inputs.image", "needs the input 'image'"),
        ({"image": ".png", "video": ".mp4"}, {"seed": 1}, "inputs.video", "it has image, mask"),
        ({"image": ".mp4"}, {"seed": 1}, "inputs.image", "the ending '.mp4' does not fit; give image"),
        ({"image": ".png", "mask": ".jpg"}, {"seed": 1}, "inputs.mask", "give .png"),
        (IMAGE, {}, "params.seed", "needs the parameter 'seed'"),
        (IMAGE, {"seed": 1, "steps": 2}, "params.steps", "it has scale, mode, seed"),
        (IMAGE, {"seed": 1, "scale": 9}, "params.scale", "give 8 or less"),
        (IMAGE, {"seed": 1, "scale": 0}, "params.scale", "give 1 or more"),
        (IMAGE, {"seed": "x"}, "params.seed", "give a whole number"),
        (IMAGE, {"seed": True}, "params.seed", "give a whole number"),
        (IMAGE, {"seed": 1, "mode": "best"}, "params.mode", "one of fast, fine"),
        (IMAGE, {"seed": math.nan}, "params.seed", "not a finite number"),
        (IMAGE, {"seed": 1, "mode": "x" * 17 * 1024}, "params", "16384 are allowed"),
    ],
)
def test_the_error_names_the_field_and_the_remedy(
    inputs: dict[str, str], params: dict[str, Any], field: str, words: str
) -> None:
    found = fault(inputs, params)
    assert found[0] == field
    assert words in found[1]


def test_an_unknown_output_and_no_output_are_errors() -> None:
    assert fault(IMAGE, {"seed": 1}, ("movie",)) == (
        "outputs.movie",
        "kind upscale has no output 'movie'; it has image, log",
    )
    assert fault(IMAGE, {"seed": 1}, ())[0] == "outputs"


def test_more_than_64_files_and_bad_names_are_errors() -> None:
    with pytest.raises(WrongInput, match="65 inputs; 64 are allowed"):
        check_bounds([f"i{n}" for n in range(65)], {}, ["o"])
    with pytest.raises(WrongInput, match="lower-case letters") as raised:
        check_bounds(["../x"], {}, ["o"])
    assert raised.value.field == "inputs.../x"
    with pytest.raises(WrongInput, match=r"params.deep.1 is not a finite number"):
        check_bounds(["i"], {"deep": [1, math.inf]}, ["o"])


@pytest.mark.parametrize("levels", [81, 1000])
def test_parameters_that_no_frame_can_hold_are_an_error(levels: int) -> None:
    with pytest.raises(WrongInput, match="nested more than 80 deep"):
        check_bounds(["i"], orjson.loads(b'{"deep": %s}' % (b"[" * (levels - 1) + b"]" * (levels - 1))), ["o"])


def test_a_kind_survives_json() -> None:
    assert kind_from(plain_kind(UPSCALE)) == UPSCALE


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"name": "UP", "outputs": [{"name": "o"}]}, "'UP' must have"),
        ({"name": "up", "outputs": []}, "1 to 64 outputs"),
        ({"name": "up", "outputs": [{"name": "o" * 33}]}, "1 to 32 lower-case"),
        ({"name": "up", "outputs": [{"name": "o"}], "params": {"properties": {"a b": {}}}}, "parameter 'a b'"),
        ({"name": 5}, "Expected `str`"),
        ([], "Expected `object`"),
    ],
)
def test_what_is_not_a_kind_is_an_error(plain: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind_from(plain)


def test_what_no_file_can_be_is_left_out_of_a_peers_kind_and_refused_in_an_own_one() -> None:
    slots = {"inputs": [{"name": "mesh", "accepts": ["3d", ".glb", "/../x", "image"]}], "outputs": [{"name": "o"}]}
    plain = {"name": "turn", **slots}
    assert kind_from(plain).inputs == (Slot("mesh", (".glb", "image")),)
    with pytest.raises(ValueError, match="kind turn: mesh cannot accept '3d'; use video, audio, image, text, or"):
        kind_from(plain, own=True)


def test_slots_accept_media_types_and_endings() -> None:
    assert file_fits(Slot("a"), ".xyz")
    assert file_fits(Slot("a", ("audio", ".mid")), ".mid")
    assert not file_fits(Slot("a", ("audio",)), ".png")
    assert output_ext(Slot("o", ("video", ".webm", ".mp4"))) == ".webm"
    assert output_ext(Slot("o", ("video",))) == ""


SEEDED = Kind(
    "draw", (), (Slot("image", (".png",)),), {"properties": {"seed": {"type": "integer", "maximum": 9}}}, seed="seed"
)


@pytest.mark.parametrize("blank", [{}, {"seed": None}, {"seed": ""}])
def test_a_blank_seed_becomes_one_of_the_job(blank: dict[str, Any]) -> None:
    params = with_defaults(SEEDED, blank)
    assert not is_repeatable(SEEDED, params)
    seeds = [seeded(SEEDED, params, f"job-{number}")["seed"] for number in range(50)]
    assert {*seeds} == {*range(10)}
    assert seeds[7] == seeded(SEEDED, params, "job-7")["seed"]
    assert seeded(SEEDED, {"seed": 0}, "job-1") == {"seed": 0}
    assert is_repeatable(SEEDED, {"seed": 0})


def test_a_fingerprint_changes_with_what_makes_the_result_and_the_old_wire_has_none() -> None:
    assert fingerprint(SEEDED) == fingerprint(replace(SEEDED, title="Draw", help="Draws."))
    versions = [SEEDED, replace(SEEDED, deterministic=False), *(replace(SEEDED, version=each) for each in ("1", "2"))]
    assert len({fingerprint(each) for each in versions}) == 4
    assert plain_kind(SEEDED).keys() == {"name", "outputs", "params", "seed"}
    assert kind_from(plain_kind(versions[1])) == versions[1]
