"""Journals and logs hold facts under names that stay when a class is renamed."""

from pathlib import Path
from typing import Any, get_args

import pytest

from wakestream.streams.hub import events as hub
from wakestream.streams.outbox import facts as outbox
from wakestream.streams.recording.facts_json import FactsJson


@pytest.mark.parametrize(
    ("facts", "fact", "name"),
    [
        (hub.Fact, hub.JobRemoved("a", "done", 5.0), "JobReleased"),
        (hub.Fact, hub.LeaseReleased("a", "license", "gpu-1"), "LetGo"),
        (hub.Fact, hub.GpuUnneeded("gpu-1", 5.0), "GpuLetGo"),
        (outbox.OutboxFact, outbox.ReleaseConfirmed("a", 5.0), "JobReleased"),
    ],
)
def test_a_renamed_fact_is_written_and_read_under_its_first_name(facts: Any, fact: Any, name: str) -> None:
    json = FactsJson[Any](facts, Path("journal"))
    row = json.row(fact)

    assert row.kind == json.plain(fact)["fact"] == name
    assert json.fact(row) == json.from_plain(json.plain(fact)) == fact
    assert len({getattr(each, "STORED_AS", each.__name__) for each in get_args(facts)}) == len(get_args(facts))
