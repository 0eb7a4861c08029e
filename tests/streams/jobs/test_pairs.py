"""Which files belong together: the cases of tests/data/pairs.json, which the web console's rule must meet too."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from wakestream.streams.jobs.pairs import pairs_of

CASES = json.loads((Path(__file__).parents[2] / "data" / "pairs.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_files_are_paired_by_their_names(case: dict[str, Any]) -> None:
    found = pairs_of(case.get("names", []), strict=case.get("strict", False))
    assert [list(job) for job in found.jobs] == case.get("jobs", [])
    assert list(found.single) == case.get("single", [])
    assert list(found.other) == case.get("other", [])


def test_folders_in_front_of_a_name_do_not_count() -> None:
    found = pairs_of(["videos/a.mp4", "audios\\A.wav"])
    assert found.jobs == (("videos/a.mp4", "audios\\A.wav"),)


def test_a_thousand_mixed_files_are_paired_in_any_order() -> None:
    names = [name for at in range(450) for name in (f"clip{at}_video.mp4", f"Clip {at:03} (audio).wav")]
    names += [f"note {at}.txt" for at in range(100)]
    random.Random(7).shuffle(names)
    found = pairs_of(names)
    assert len(found.jobs) == 450
    assert {(video[4:-10], int(audio[5:8])) for video, audio in found.jobs} == {(str(at), at) for at in range(450)}
    assert (found.single, len(found.other)) == ((), 100)
