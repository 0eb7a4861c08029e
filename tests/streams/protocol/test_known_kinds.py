"""The kinds of all GPUs, and whether a job fits one of them."""

from typing import Any

import pytest

from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import UnknownKind, WrongInput
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import kind_from, media_of, plain_kind, typed, usual_ext, with_defaults
from wakestream.streams.protocol.known_kinds import (
    UNKNOWN,
    GpuOfKind,
    KnownKind,
    KnownKinds,
    described,
    from_frames,
    from_plain,
)

FLIP = Kind(
    "flip", (Slot("image", ("image",)),), (Slot("image", (".png",)),), {"properties": {"n": {"type": "integer"}}}
)
OTHER = Kind(
    "flip", (Slot("image", ("image",)),), (Slot("image", (".png",)),), {"properties": {"s": {"type": "string"}}}
)
GPU = GpuOfKind("studio", online=True)
BOTH = KnownKinds((KnownKind(FLIP, (GPU,)), KnownKind(OTHER, ())), known=True, complete=True)


def entry(kind: Kind, *gpus: str) -> dict[str, Any]:
    return {"kind": plain_kind(kind), "gpus": [{"gpu": gpu, "online": True} for gpu in gpus]}


def test_a_job_that_fits_one_of_several_kinds_of_a_name_fits() -> None:
    assert BOTH.check("flip", {"image": ".png"}, {"n": 1}, ["image"]) == FLIP
    assert BOTH.check("flip", {"image": ".png"}, {"s": "a"}, ["image"]) == OTHER
    with pytest.raises(WrongInput, match="has no parameter 'z'; it has n"):
        BOTH.check("flip", {"image": ".png"}, {"z": 1}, ["image"])


def test_an_unknown_kind_is_refused_only_if_there_are_no_others() -> None:
    with pytest.raises(UnknownKind, match="there is no kind 'fly'; there are flip, lipsync") as refused:
        BOTH.check("fly", {}, {}, ["x"])
    assert (refused.value.code, refused.value.field) == ("unknown_kind", "kind")
    for known in (UNKNOWN, KnownKinds(BOTH.kinds, known=True), KnownKinds(BOTH.kinds, known=False, complete=True)):
        assert known.check("fly", {}, {}, ["x"]) is None
    assert BOTH.check("lipsync", {"video": ".mp4", "audio": ".wav"}, {}, ["video"]) is None


@pytest.mark.parametrize("name", ["", "Flip", "a b", "x" * 33, "1a", "../a"])
def test_the_name_of_a_kind_is_checked_also_if_nothing_is_known(name: str) -> None:
    with pytest.raises(WrongInput) as refused:
        UNKNOWN.check(name, {}, {}, ["x"])
    assert refused.value.field == "kind"


def test_kinds_survive_json() -> None:
    assert from_plain(BOTH.plain()) == BOTH
    with pytest.raises(ValueError, match="list"):
        from_plain({"kinds": 5})


def test_the_parts_of_an_answer_are_put_together_and_what_cannot_be_read_is_left_out() -> None:
    bad: list[Any] = [5, {}, {"kind": {"name": "Bad!"}, "gpus": []}, {"kind": plain_kind(FLIP), "gpus": [5]}]
    frames = [
        m.KindsResponse(request_id="q", number=1, of=2, kinds=(entry(FLIP, "a"), *bad), complete=True),
        m.KindsResponse(request_id="q", number=2, of=2, kinds=(entry(FLIP, "b"), entry(OTHER, "c")), complete=True),
    ]
    found = from_frames(frames)
    assert [(each.kind, [one.gpu for one in each.gpus]) for each in found.kinds] == [(FLIP, ["a", "b"]), (OTHER, ["c"])]
    assert (found.known, found.complete) == (True, True)


def test_a_worker_describes_each_kind_in_a_message_or_says_nothing_of_too_long_ones() -> None:
    assert [(part.number, part.of) for part in described([FLIP, OTHER])] == [(1, 2), (2, 2)]
    assert described([]) == [m.GpuKinds()]
    assert described([FLIP, Kind("long", help="x" * 50_000, outputs=(Slot("x"),))]) == [m.GpuKinds()]


@pytest.mark.parametrize(
    ("slot", "ext", "media"),
    [
        (Slot("a", ("image",)), ".png", "image"),
        (Slot("a", (".png",)), ".png", "image"),
        (Slot("a", ("video", "image")), ".gif", "video"),
        (Slot("a", ("audio",)), ".webm", "audio"),
        (Slot("a", ("text",)), ".srt", ""),
        (Slot("a", (".bin",)), ".bin", ""),
        (Slot("a"), ".png", ""),
    ],
)
def test_what_a_file_must_contain_follows_from_slot_and_ending(slot: Slot, ext: str, media: str) -> None:
    assert media_of(slot, ext) == media


@pytest.mark.parametrize(
    ("accepts", "ext"), [((".srt", "text"), ".srt"), (("audio",), ".wav"), (("image", ".webp"), ".webp"), ((), "")]
)
def test_a_result_has_the_ending_that_its_kind_makes_or_a_usual_one(accepts: tuple[str, ...], ext: str) -> None:
    assert usual_ext(Slot("a", accepts)) == ext


def test_a_parameter_may_choose_the_ending_of_a_result() -> None:
    slot = Slot("audio", (".wav", ".mp3"))
    assert [usual_ext(slot, {"rate": 8000, "format": name}) for name in ("mp3", "ogg")] == [".mp3", ".wav"]


SCHEMAS: dict[str, Any] = {
    "properties": {
        "text": {"type": "string"}, "number": {"type": "integer"}, "choice": {"enum": ["1", "2"]},
        "both": {"type": ["integer", "string"]}, "referred": {"$ref": "#/$defs/word"},
    },
    "$defs": {"word": {"type": "string"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value", "is_text"),
    [
        ("text", "5", 5, True),
        ("text", "null", None, True),
        ("text", "nan", float("nan"), True),
        ("number", "5", 5, False),
        ("choice", "1", 1, True),
        ("both", "5", 5, False),
        ("referred", "true", True, True),
        ("unknown", "5", 5, False),
    ],
)
def test_a_parameter_is_a_text_where_the_kind_wants_one(name: str, text: str, value: Any, is_text: bool) -> None:
    kind = Kind("k", (), (Slot("x"),), SCHEMAS)
    assert typed(kind, name, text, value) == (text if is_text else value)


@pytest.mark.parametrize("schema", [{"$ref": "http://127.0.0.1:9/x"}, {"minimum": "x"}, {"pattern": "("}, {"type": 5}])
def test_a_wrong_schema_of_another_machine_is_named_and_loads_nothing(schema: dict[str, Any]) -> None:
    kind = Kind("k", (), (Slot("x"),), {"properties": {"a": schema}})
    value = "a" if "pattern" in schema else 5
    with pytest.raises(WrongInput, match="kind k: the description of its parameters is wrong") as refused:
        with_defaults(kind, {"a": value})
    assert refused.value.field == "params"


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"properties": 5}},
        {"params": {"properties": {"a": 5}}},
        {"params": {"properties": {"a b": {}}}},
        {"params": {"required": "a"}},
        {"params": {"required": [5]}},
        {"inputs": [{"name": "a"}, {"name": "a"}]},
        {"outputs": []},
        {"outputs": [{"name": "A"}]},
        {"outputs": [{"name": f"x{n}"} for n in range(65)]},
        {"name": 5},
    ],
)
def test_a_kind_that_cannot_be_is_a_value_error(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        kind_from({"name": "k", "outputs": [{"name": "x"}], **change})


def test_a_regular_expression_of_another_machine_is_left_to_the_worker() -> None:
    slow = {"type": "string", "pattern": "^(a+)+$"}
    schema = {"properties": {"pattern": slow, "list": {"type": "array", "items": slow}}, "$defs": {"pattern": slow}}
    (known,) = from_plain({"kinds": [entry(Kind("k", (), (Slot("o"),), schema))], "known": True}).kinds
    assert known.kind.params["properties"] == {
        "pattern": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
    }
    assert with_defaults(known.kind, {"pattern": "a" * 5000 + "b"}) == {"pattern": "a" * 5000 + "b"}
