"""What an engine's server sends is data: whatever it is, no event breaks the worker's engine."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wakestream.adapters.engines import gradio
from wakestream.adapters.engines.comfyui_prompt import NodeTimes, PromptProgress
from wakestream.adapters.engines.http_engine import Waiting, event_of
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BARS = st.lists(JSON | st.dictionaries(st.sampled_from(["index", "length", "progress"]), JSON), max_size=3)


@given(BARS | JSON)
@example([{"index": "many", "length": [1]}])
@example([None, {"index": 1, "length": 2}])
@example([{"index": 10**400, "length": 1e-300}])
@example([{"progress": math.inf}])
async def test_any_progress_of_gradio_is_a_frame_or_nothing(found: Any) -> None:
    for item in gradio._progress({"msg": "progress", "progress_data": found}, 0, Waiting()):
        assert isinstance(item, Frame)
        assert 0 <= item.percent <= 100


@pytest.mark.parametrize("data", [5, "text", {"a": 1}, True])
def test_a_result_of_gradio_that_is_no_list_is_a_failure_in_words(data: object) -> None:
    with pytest.raises(TaskFailed, match="not a list"):
        gradio._completed({"output": {"data": data}})


@pytest.mark.parametrize("line", [b"data: {", b"data: \xff", b"data: " + b"[" * 5000])
def test_an_event_of_gradio_that_is_not_json_is_a_fault_of_the_app(line: bytes) -> None:
    with pytest.raises(EngineUnreachable, match="not JSON"):
        event_of(line, "Gradio")


KINDS = st.sampled_from(["execution_cached", "executing", "progress_state", "progress", "execution_success"])
NODES = st.dictionaries(st.text(max_size=3), JSON | st.dictionaries(st.sampled_from(["value", "max", "state"]), JSON))


@given(KINDS, st.dictionaries(st.sampled_from(["nodes", "node", "value", "max"]), JSON | NODES, max_size=4))
@example("progress_state", {"nodes": {"1": None}})
@example("execution_cached", {"nodes": 5})
@example("progress", {"node": "1", "value": -(10**400), "max": 1e300})
def test_any_message_of_comfyui_leaves_a_progress(kind: str, data: dict[str, Any]) -> None:
    progress = PromptProgress("k", {"1": {"class_type": "A"}}, NodeTimes(None))
    progress.take(kind, data)
    frame = progress.frame()
    assert 0 <= frame.percent <= 100
    orjson.dumps([frame.frame, frame.frames])
