"""The kinds of all GPUs, and whether a job fits one of them."""

import re
from typing import Any

import pytest

from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import UnknownKind, WrongInput
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import param_schema
from wakestream.streams.protocol.kinds import kind_from, media_of, plain_kind, typed, usual_ext
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


TWINS = KnownKinds((KnownKind(FLIP, (GPU,)), KnownKind(OTHER, (GpuOfKind("plug", online=False),))), True, True)


def test_a_job_that_fits_one_of_several_kinds_of_a_name_is_for_the_gpus_that_have_this_one() -> None:
    assert TWINS.check("flip", {"image": ".png"}, {"n": 1}, ["image"]) == ("studio",)
    assert TWINS.check("flip", {"image": ".png"}, {"s": "a"}, ["image"]) == ("plug",)
    assert TWINS.check("flip", {"image": ".png"}, {}, ["image"]) == ("plug", "studio")
    assert TWINS.check("flip", {"image": ".png"}, {}, ["image"], gpus=["plug"]) == ("plug",)
    assert KnownKinds(TWINS.kinds[:1], True, True).check("flip", {"image": ".png"}, {}, ["image"]) == ()
    with pytest.raises(WrongInput, match="has no parameter 'n'; it has s"):
        TWINS.check("flip", {"image": ".png"}, {"n": 1}, ["image"], gpus=["plug"])
    with pytest.raises(UnknownKind, match="attic is not known to have the kind 'flip'; known to have it: plug, studio"):
        TWINS.check("flip", {"image": ".png"}, {}, ["image"], gpus=["attic"])
    with pytest.raises(WrongInput, match="has no parameter 'z'; it has n"):
        BOTH.check("flip", {"image": ".png"}, {"z": 1}, ["image"])


SOME = KnownKinds(BOTH.kinds, known=True)


@pytest.mark.parametrize(
    ("known", "kind", "words"),
    [
        (BOTH, "flpi", "there is no kind 'flpi'; there are flip, lipsync. Did you mean flip?"),
        (BOTH, "zoom", "there is no kind 'zoom'; there are flip, lipsync"),
        (TWINS, "zoom", "lipsync. The GPU plug is off and tells new kinds when it starts: wakestream doctor --wake"),
        (SOME, "flpi", "no GPU is known to have the kind 'flpi'; known are flip, lipsync. Did you mean flip? To start"),
    ],
)
def test_a_kind_that_no_gpu_is_known_to_have_is_refused_with_the_nearest_names(
    known: KnownKinds, kind: str, words: str
) -> None:
    with pytest.raises(UnknownKind, match=re.escape(words)) as refused:
        known.check(kind, {}, {}, ["x"])
    assert (refused.value.code, refused.value.field) == ("unknown_kind", "kind")


def test_a_kind_may_be_unknown_if_a_gpu_shall_be_asked_or_the_hub_tells_no_kinds() -> None:
    assert SOME.check("fly", {}, {}, ["x"], wake_to_ask=True) == ()
    for known in (UNKNOWN, KnownKinds(BOTH.kinds, known=False, complete=True)):
        assert known.check("fly", {}, {}, ["x"]) == ()
    assert BOTH.check("lipsync", {"video": ".mp4", "audio": ".wav"}, {}, ["video"]) == ()


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
        "both": {"type": ["integer", "string"]}, "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
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
        ("maybe", "true", True, True),
        ("unknown", "5", 5, False),
    ],
)
def test_a_parameter_is_a_text_where_the_kind_wants_one(name: str, text: str, value: Any, is_text: bool) -> None:
    kind = Kind("k", (), (Slot("x"),), SCHEMAS)
    assert typed(kind, name, text, value) == (text if is_text else value)


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"properties": 5}},
        {"params": {"properties": {"a": 5}}},
        {"params": {"required": "a"}},
        {"params": {"required": [5]}},
        {"inputs": [{"name": "a"}, {"name": "a"}]},
        {"outputs": [{"name": "A"}]},
        {"outputs": [{"name": f"x{n}"} for n in range(65)]},
    ],
)
def test_a_kind_that_cannot_be_is_a_value_error(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        kind_from({"name": "k", "outputs": [{"name": "x"}], **change})


DOUBLING: dict[str, Any] = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(24)},
    "allOf": [{"$ref": "#/$defs/d0"}],
    "properties": {
        "pattern": {"type": "string", "default": "a" * 40 + "b", "$ref": "#/$defs/d0", "pattern": "^(a+)+$"},
        "list": {"type": "array", "items": {"type": "string", "pattern": "^(a+)+$", "items": {}, "not": {}}},
        "seed": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "title": "Seed", "default": None},
        "wrong": {"type": 5, "minimum": "x", "enum": 7, "maxLength": -1, "multipleOf": 0, "title": {}, "x-step": True},
    },
}  # fmt: skip
FLAT = {
    "pattern": {"type": "string", "default": "a" * 40 + "b"},
    "list": {"type": "array", "items": {"type": "string"}},
    "seed": {"type": ["integer", "null"], "minimum": 0, "title": "Seed", "default": None},
    "wrong": {},
}


def test_of_a_peers_description_only_a_flat_table_is_kept_and_the_worker_checks_the_rest() -> None:
    kind = Kind("k", (), (Slot("o"),), DOUBLING)
    known = from_plain({"kinds": [{"kind": plain_kind(kind), "gpus": []}], "known": True})
    assert known.kinds[0].kind.params == {"properties": FLAT}
    assert [each.kind["params"] for each in described([kind]) if each.kind] == [{"properties": FLAT}]
    known.check("k", {}, {}, ["o"])  # with the description's own default, this took minutes


def test_the_time_of_a_check_does_not_grow_with_choices_times_items(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    key = param_schema._key
    monkeypatch.setattr(param_schema, "_key", lambda value: made.append(value) or key(value))
    schema = {"type": "array", "items": {"enum": [*range(3000)]}}
    faults = list(param_schema.misfits(schema, [*range(2000, 4000)]))
    assert [fault.path for fault in faults] == [(at,) for at in range(1000, 2000)]
    assert len(made) == 3000 + 2000


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"multipleOf": 0.1}, 0.3, ""),
        ({"multipleOf": 8}, 12, "12 does not fit; give a multiple of 8"),
        ({"multipleOf": 1e-300}, 1e300, "1e+300 does not fit; give a multiple of 1e-300"),
        ({"minLength": 3}, "ab", "'ab' is too short; give 3 characters or more"),
        ({"maxItems": 1}, [1, 2], "[1, 2] has too many items; give 1 or fewer"),
        ({"type": "array", "items": {"maximum": 2}}, [1, 3], "3 is too large; give 2 or less"),
        ({"type": ["integer", "null"]}, None, ""),
        ({"type": "integer"}, 2.0, ""),
        ({"type": "number"}, True, "True has the wrong type; give a number"),
        ({"enum": [1, [2]]}, True, "True is not a choice; give one of 1, [2]"),
        ({"enum": [1, [2]]}, [2], ""),
        ({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}, None, ""),
        ({"pattern": "^a+$"}, "b", "'b' does not have the form ^a+$"),
        ({"pattern": "("}, "b", ""),
        ({"minimum": "x"}, 5, ""),
    ],
)
def test_a_value_fits_or_the_sentence_says_what_to_give(schema: dict[str, Any], value: Any, words: str) -> None:
    assert [fault.sentence for fault in param_schema.misfits(schema, value)] == ([words] if words else [])


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"allOf": []}, ': "allOf" is unknown; use type, enum'),
        ({"pattern": "("}, ".pattern: '(' is not valid"),
        ({"default": 5, "maximum": 4}, ".default: 5 is too large; give 4 or less"),
    ],
)
def test_a_word_that_no_program_checks_is_refused_in_an_own_kind(schema: dict[str, Any], words: str) -> None:
    plain = {"name": "k", "outputs": [{"name": "o"}], "params": {"properties": {"p": schema}}}
    with pytest.raises(ValueError, match=re.escape(f"kind k: params.p{words}")):
        kind_from(plain, own=True)
