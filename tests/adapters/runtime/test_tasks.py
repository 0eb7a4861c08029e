"""No task ends unseen: background tasks of a program, and tasks of one block."""

import ast
import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.runtime.tasks import STEADY, background, end, first_of, supervised, tasks_of_block
from wakestream.operators.model.errors import HubUnreachable, JournalError, WakestreamError

pytestmark = pytest.mark.virtual


@pytest.fixture
def said() -> Iterator[list[str]]:
    with logged("ERROR") as lines:
        yield lines


async def forever() -> None:
    await asyncio.Event().wait()


async def program(work: Callable[[], Awaitable[None]], ended: list[str]) -> None:
    """A program that needs one task."""
    async with supervised("the hub") as tasks:
        tasks.needs("the clock", work)
        try:
            await forever()
        finally:
            ended.append("the block")


async def test_a_task_that_the_program_needs_ends_it_with_the_reason(said: list[str]) -> None:
    async def clock() -> None:
        await asyncio.sleep(1.0)
        raise OSError("lost")

    ended = list[str]()
    with pytest.raises(JournalError, match=r"the hub cannot continue \(OSError: lost\); see its log"):
        await program(clock, ended)
    assert ended == ["the block"]
    assert said[0].startswith("the hub cannot continue: the clock failed\nTraceback")
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()  # the program's own clean-up runs undisturbed


async def test_our_own_error_is_the_reason_itself() -> None:
    async def link() -> None:
        raise HubUnreachable("no answer")

    with pytest.raises(HubUnreachable, match="no answer"):
        await program(link, [])


async def test_a_task_that_cancels_itself_is_not_taken_for_one_that_was_stopped() -> None:
    async def plugin() -> None:
        raise asyncio.CancelledError

    with pytest.raises(WakestreamError, match="the clock cancelled itself"):
        await program(plugin, [])


async def test_a_task_that_is_kept_starts_again_with_backoff_and_says_so(said: list[str]) -> None:
    loop, runs = asyncio.get_running_loop(), list[float]()

    async def tidy() -> None:
        runs.append(round(loop.time() - began, 1))
        if len(runs) == 4:
            await asyncio.sleep(STEADY)
        if len(runs) < 6:
            raise ValueError("a folder has no name")
        await forever()

    async with supervised("the worker") as tasks:
        began = loop.time()
        tasks.keeps("the removal of old files", tidy)
        await asyncio.sleep(2 * STEADY)
    assert runs == [0, 1, 3, 7, 8 + STEADY, 10 + STEADY]
    first = "the removal of old files failed: ValueError('a folder has no name'). It starts again in 1 s\nTraceback"
    assert said[0].startswith(first)


async def test_the_end_of_the_block_ends_its_tasks_before_and_after_they_began() -> None:
    ended = list[str]()

    async def lasting() -> None:
        try:
            await forever()
        finally:
            ended.append("ended")
            raise OSError("while it ends")

    async with tasks_of_block() as start:
        start(lasting())
        await asyncio.sleep(0)
        start(forever())  # cancelled before it runs
    assert ended == ["ended"]


@pytest.mark.parametrize("error", [HubUnreachable("away"), asyncio.CancelledError()])
async def test_an_error_of_the_block_is_raised_as_it_is(error: BaseException) -> None:
    async def lasting() -> None:
        try:
            await forever()
        finally:
            raise OSError("while it ends")

    with pytest.raises(type(error)) as raised:  # noqa: PT012
        async with tasks_of_block() as start:
            start(lasting())
            await asyncio.sleep(0)
            raise error
    assert raised.value is error


async def test_an_error_of_a_task_that_its_owner_ends_is_logged_or_told(said: list[str]) -> None:
    async def failing() -> None:
        raise OSError("no answer")

    told = list[Exception]()
    await asyncio.wait((background("a question", failing()), background("another", failing(), told.append)))
    assert said[0].startswith("a question failed: OSError('no answer')\nTraceback")
    assert (len(said), len(told)) == (1, 1)
    lasting = background("a third", forever())
    await end(lasting)
    assert (len(said), lasting.cancelled()) == (1, True)


async def test_of_several_waits_the_first_ends_all_but_futures() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    event = asyncio.Event()
    event.set()
    await first_of(event.wait(), forever(), future)
    assert not future.cancelled()


# The rule over the source

ADAPTERS = Path(__file__).parents[3] / "adapters"
IN_A_GENERATOR = "a generator must not yield inside `tasks_of_block`"
RAISED_BY_ITS_CALLER = "its caller awaits it behind a shield, which raises its error"
BARE: Mapping[str, str] = {
    "client/upload.py: send(meter)": f"`Meter.follow` raises its error; {IN_A_GENERATOR}",
    "engines/cog.py: self._health()": f"`Prediction` looks at it; {IN_A_GENERATOR}",
    "engines/comfyui.py: self._http.json('POST', '/prompt', json=asked)": RAISED_BY_ITS_CALLER,
    "engines/gradio.py: self._join(asked)": RAISED_BY_ITS_CALLER,
    "power/ec2.py: self._made()": RAISED_BY_ITS_CALLER,
    "runtime/decider_runner.py: self._work()": "`_work` catches its errors, and they end the program through `failed`",
    "runtime/windows_loop.py: self._accepted(listener)": "asyncio asks for this future and awaits it",
    "worker/task_queue.py: self._render(task)": "`_work` waits for the rendering and reports how it ended",
}
"""What may start as a task by itself, outside of runtime/tasks.py, and why its end is seen."""


def bare_tasks(tree: ast.AST) -> list[str]:
    """What the module starts as a task outside of a `TaskGroup`."""
    nodes = [*ast.walk(tree)]
    groups = {
        ast.unparse(item.optional_vars)
        for block in nodes
        if isinstance(block, ast.AsyncWith)
        for item in block.items
        if item.optional_vars is not None and ast.unparse(item.context_expr) == "asyncio.TaskGroup()"
    }
    started = {id(node.func): node.args[0] for node in nodes if isinstance(node, ast.Call) and node.args}
    found = list[str]()
    for use in nodes:
        name = use.attr if isinstance(use, ast.Attribute) else use.id if isinstance(use, ast.Name) else ""
        if name in ("create_task", "ensure_future") and ast.unparse(use).rpartition(".")[0] not in groups:
            found.append(ast.unparse(started[id(use)]) if id(use) in started else name)
    return found


def hidden_cancels(tree: ast.AST) -> bool:
    """Whether the module suppresses a `CancelledError`, which may be its own."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(
        "suppress" in (getattr(call.func, "attr", ""), getattr(call.func, "id", ""))
        and any("CancelledError" in ast.unparse(arg) for arg in call.args)
        for call in calls
    )


def test_adapters_start_tasks_by_the_supervisor_alone_and_suppress_no_cancel() -> None:
    sources = {path.relative_to(ADAPTERS).as_posix(): path.read_text("utf-8") for path in ADAPTERS.rglob("*.py")}
    words = ("create_task", "ensure_future", "suppress")
    trees = {path: ast.parse(source) for path, source in sources.items() if any(word in source for word in words)}
    found = [f"{path}: {what}" for path, tree in trees.items() for what in bare_tasks(tree)]
    assert sorted(each for each in found if not each.startswith("runtime/tasks.py: ")) == sorted(BARE)
    assert [path for path, tree in trees.items() if hidden_cancels(tree)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("asyncio.create_task(work())", True),
        ("loop.create_task(work())", True),
        ("start = asyncio.ensure_future", True),
        ("from asyncio import create_task\ncreate_task(work())", True),
        ("async def f():\n async with asyncio.TaskGroup() as both:\n  both.create_task(work())", False),
        ("background('a question', work())", False),
    ],
)
def test_the_rule_finds_a_bare_task(source: str, found: bool) -> None:
    assert bool(bare_tasks(ast.parse(source))) == found


def test_the_rule_finds_a_cancel_that_is_suppressed() -> None:
    assert hidden_cancels(ast.parse("with contextlib.suppress(OSError, asyncio.CancelledError): pass"))
