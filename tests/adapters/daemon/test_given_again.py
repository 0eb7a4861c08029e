"""The fields with which a job is submitted again, when jobs before it are known no longer."""

from pathlib import Path

import pytest

from wakestream.adapters.daemon.api.requests import check_lists, given_again, submitted_job
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import Job
from wakestream.streams.outbox.facts import FileStat, JobAccepted, JobEnded
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol.kinds import plain_kind
from wakestream.streams.protocol.known_kinds import KnownKinds, from_plain

JOB = JobAccepted(
    "three", "", "", "/out/three.bin", 0, 0, 0, 0, "heygem_submit", 0, 100.0,
    inputs={"first": FileStat("/out/one.bin", 0, 0), "second": FileStat("/out/two.bin", 0, 0)},
    outputs={"whole": "/out/three.bin"}, after=("one", "two"), sources={"first": "one:whole", "second": "two:whole"},
)  # fmt: skip


def test_a_known_job_is_named_and_of_a_forgotten_one_the_file_is_used() -> None:
    given = given_again(JOB, {"two", "three"})
    assert given["inputs"] == {"first": "/out/one.bin", "second": "@two:whole"}
    assert given["after"] == ["two"]


def test_without_any_job_before_it_there_is_nothing_to_wait_for() -> None:
    assert "after" not in given_again(JOB, {"three"})


def kinds() -> KnownKinds:
    """`paint` makes a list; `show` takes one, and `edit` a single file."""
    slots = {"paint": ((), (Slot("images", (".png",), many=True),)), "edit": ((Slot("image"),), (Slot("out"),))}
    slots["show"] = ((Slot("images", many=True),), (Slot("out"),))
    return from_plain({"kinds": [{"kind": plain_kind(Kind(name, *of)), "gpus": []} for name, of in slots.items()]})


@pytest.mark.parametrize("state", ["open", "done"])
@pytest.mark.parametrize(
    ("kind", "result", "refused"),
    [
        ("edit", "images", True), ("edit", "", True), ("edit", "images[0]", False), ("edit", "images[1]", False),
        ("show", "images", False), ("unknown", "images", False),
    ],
)  # fmt: skip
def test_a_list_for_an_input_that_is_one_file_is_refused_with_how_to_choose_one(
    state: str, kind: str, result: str, *, refused: bool
) -> None:
    files = ({"name": "images", "path": "/o/a.png"}, {"name": "images_2", "path": "/o/a_2.png"})
    ended = JobEnded("a", "done", 1.0, path="/o/a.png", files=files) if state == "done" else None
    before = JobAccepted.of(Job("a", {}, {"images": Path("/o/a.png")}, "paint"), {})
    jobs = {"a": Entry(before, ended=ended)}
    name = "images" if kind == "show" else "image"
    asked = submitted_job(
        {"kind": kind, "inputs": {name: f"@a:{result}".rstrip(":")}, "outputs": {"out": "/o/b.png"}}, find
    )
    if not refused:
        check_lists(kinds(), asked, jobs)
        return
    with pytest.raises(WrongInput, match=r"inputs\.image takes one file, .* such as @a:images\[0\], or make .* --each"):
        check_lists(kinds(), asked, jobs)


def find(_: str, text: str) -> tuple[str, str, bool]:
    return text.partition(":")[0], "/o/a.png", False
