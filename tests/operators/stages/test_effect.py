"""The stage `effect` alone."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.support.streams.stage_scene import Stage
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.model.ports import Effects


class Noted(Effects):
    """Carries effects out and keeps what they were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append((label, args))
        return await effect()


async def test_it_emits_the_effects_return_value_through_the_effects_port() -> None:
    async def publish() -> str:
        return "at https://x.example"

    stage, door = Stage(), Noted()
    assert await stage.run(stage.of(effects=door).effect("publish", {"n": 1}, publish)) == ["at https://x.example"]
    assert door.calls == [("publish", {"n": 1})]


async def test_a_retryable_error_is_retried_by_the_policy_and_others_are_not() -> None:
    failures: list[Exception] = [WorkerUnreachable("gone")]

    async def publish() -> str:
        if failures:
            raise failures.pop()
        return "at last"

    stage, door = Stage(), Noted()
    assert await stage.run(stage.of(effects=door).effect("publish", {}, publish)) == ["at last"]
    assert len(door.calls) == 2
    failures.append(ValueError("a bug"))
    await stage.run(stage.of(effects=door).effect("publish", {}, publish))
    assert str(stage.end) == "a bug"
    assert len(door.calls) == 3
