"""What jobs may require of a GPU, and what peers may say of one."""

import re
from typing import Any

import pytest

from wakestream.streams.placement import requirements as r


@pytest.mark.parametrize(
    ("text", "label", "met"),
    [
        ("memory>=24", 24, True),
        ("memory>24", 24, False),
        ("memory>=24", "24GB", True),
        ("memory>=24GB", 24, True),
        ("memory>=48", "24576MB", False),
        ("memory>=24GiB", "24576 MiB", True),
        ("memory<1T", "512G", True),
        ("memory>=100", "24", False),  # as texts, "24" would be the larger one
        ("memory=24", 24.0, True),
        ("price<=1.5", 1.5, True),
        ("load>-2", -1, True),
        ("size>1", 1e30, True),
        ("memory>=24", "plenty", False),
        ("memory>=24", None, False),
        ("zone=eu", "eu", True),
        ("zone==eu", "us", False),
        ("zone!=eu", "us", True),
        ("zone!=eu", None, True),
        ("zone = eu west", "eu west", True),
        ("kind:comfyui", "", True),
        ("cuda", "", True),
        ("cuda", 12.1, True),
        ("cuda", None, False),
    ],
)
def test_a_requirement_is_met_by_the_labels_that_say_so(text: str, label: Any, met: bool) -> None:
    assert r.met(r.parse(text), label) is met


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no requirement; write a label"),
        ("memory=>24", "no requirement"),
        ("memory~24", "no requirement"),
        ("memory>=", "no requirement"),
        (">=24", "no requirement"),
        ("memory is 24", "no requirement"),
        ("memory>=much", "compares with 'much', which is no number"),
        ("x" * 65, "too long"),
        ("zone=" + "x" * 101, "too long"),
    ],
)
def test_what_is_no_requirement_is_answered_with_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        r.parse(text)


def test_requirements_are_kept_once_each_and_in_one_order() -> None:
    assert r.all_of(["zone=eu", "memory >= 24", "memory>=24"]) == ("memory>=24", "zone=eu")
    assert r.all_of(None) == ()


@pytest.mark.parametrize("said", ["memory>=24", [24], {"memory": 24}, ["a"] * 33])
def test_what_is_no_list_of_requirements_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match=r"must be a list of texts|33 requirements; 32 are allowed"):
        r.all_of(said)


@pytest.mark.parametrize(
    ("labels", "slots", "reason"),
    [
        (None, 0, "1 to 64 tasks at one time, not 0; give it another --slots"),
        ({}, 1000, "not 1000"),
        ({str(number): 1 for number in range(33)}, None, "33 labels are too many"),
        ({"x" * 65: 1}, None, "is no label"),
        ({"": 1}, None, "is no label"),
        ({"a b": 1}, None, "is no label"),
        ({"a=b": 1}, None, "is no label"),
        ({"a\x1b": 1}, None, "is no label"),
        ({"gpu": "other"}, None, "'gpu' is given by the hub"),
        ({"kind:comfyui": ""}, None, "'kind:comfyui' is given by the hub"),
        ({"zone": "x" * 65}, None, "must be a number, or a text"),
        ({"zone": "e\x07u"}, None, "must be a number, or a text"),
        ({"zone": True}, None, "must be a number, or a text"),
        ({"zone": ["eu"]}, None, "must be a number, or a text"),
        ({"zone": None}, None, "must be a number, or a text"),
        ({"memory": float("inf")}, None, "must be a number, or a text"),
    ],
)
def test_what_a_peer_may_not_say_of_its_gpu_is_answered_with_the_limit(labels: Any, slots: Any, reason: str) -> None:
    assert reason in (r.misfit(labels, slots) or "")


def test_a_peer_may_say_texts_and_numbers() -> None:
    assert r.misfit({"memory": 24, "zone": "欧洲", "cuda": "", "x" * 64: "y" * 64}, 64) is None
    assert r.misfit(None, None) is None
