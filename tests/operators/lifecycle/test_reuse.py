"""Whether a job's result was made for it, or was there before."""

import pytest

from wakestream.operators.lifecycle.reuse import AT_WORKER, OWN, reused
from wakestream.operators.model import events as e

ON = e.Online("http://gpu:8383")
GRANTED, TAKEN, CACHED = e.Granted("online", 0.0), e.Submitted(ON, "t"), e.Submitted(ON, "t", cached=True)
SAME = e.Note("the same work was done before", {"same_as": "job-1"})


@pytest.mark.parametrize(
    ("events", "whose"),
    [
        ([GRANTED, TAKEN, e.Rendered(TAKEN)], OWN),
        ([SAME], "job-1"),
        ([GRANTED, CACHED, e.Rendered(CACHED)], AT_WORKER),
        ([SAME, GRANTED, TAKEN], OWN),
        ([SAME, GRANTED], ""),
        ([GRANTED, TAKEN, e.Retrying(1, 1.0, "the network is away"), GRANTED, CACHED], OWN),
    ],
)
def test_a_result_is_the_jobs_own_if_it_was_rendered_for_it(events: list[e.JobEvent], whose: str) -> None:
    known = ""
    for event in events:
        known = reused(known, event)
    assert known == whose
