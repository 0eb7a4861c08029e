"""streams/ and operators/ are the same on every run: held by a rule over their source, not by trust."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.support.streams.purity import faults, set_names

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for room in ("operators", "streams") for path in (ROOT / room).rglob("*.py"))

ON_THE_LOOP = "it is the time of the loop that it is given: virtual in a replay"

EXEMPT: Mapping[tuple[str, str], str] = {
    ("operators/lazy_names.py", ".read_text()"): "a package's own lines, when it is imported",
    ("operators/rx/core/scheduler.py", "from datetime import datetime"): "reactivex wants its `now` as a datetime",
    ("operators/rx/core/scheduler.py", ".time()"): f"the one scheduler; {ON_THE_LOOP}",
    ("operators/rx/from_async.py", "asyncio.sleep"): "of 0 seconds: lets others have their turn",
    ("streams/replay/programs.py", ".time()"): ON_THE_LOOP,
    ("streams/replay/row_order.py", ".time()"): ON_THE_LOOP,
    ("streams/replay/network.py", ".time()"): ON_THE_LOOP,
    ("streams/simulation/simulated_gpu.py", "asyncio.sleep"): f"a modelled worker takes a while; {ON_THE_LOOP}",
    ("operators/rx/interval.py", ".time()"): ON_THE_LOOP,
    ("streams/jobs/effects.py", ".now()"): "a call that ends at once, not a clock",
    ("streams/placement/simulate.py", "from datetime import date"): "the calendar; the time is an argument",
    ("streams/hub/local_time.py", "from datetime import date"): "the calendar; the time is an argument",
    ("streams/hub/local_time.py", "from datetime import datetime"): "the calendar; the time is an argument",
    ("streams/hub/evolve.py", "id"): "asks whether it is the same account; never an order, and never shown",
    ("streams/diagram/groups.py", "id"): "asks whether it is the same lane; never an order, and never shown",
}
"""What a module may do by exception, and why."""


@cache
def in_our_modules() -> list[tuple[str, str, int]]:
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in MODULES}
    sets = frozenset(name for source in sources.values() for name in set_names(source))
    return [(path, fault.what, fault.line) for path, source in sources.items() for fault in faults(source, sets)]


def test_no_module_of_streams_and_operators_has_a_clock_chance_environment_or_order_of_its_own() -> None:
    assert [f"{path}:{line}: {what}" for path, what, line in in_our_modules() if (path, what) not in EXEMPT] == []


def test_every_exemption_is_still_needed() -> None:
    used = {(path, what) for path, what, _ in in_our_modules()}
    assert set(EXEMPT) - used == set()


def test_the_rule_has_read_both_rooms() -> None:
    assert len(MODULES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == {"operators", "streams"}


SEEDED = {
    "import time": "import time",
    "import os.path": "import os.path",
    "import random": "import random",
    "from random import random": "from random import random",
    "from random import Random, choice": "from random import choice",
    "from datetime import UTC": "from datetime import UTC",
    "from uuid import uuid4 as new": "from uuid import uuid4",
    "def f():\n    import secrets": "import secrets",
    "from asyncio import sleep": "from asyncio import sleep",
    "r = Random()": "Random() without a seed",
    "f = open('x')": "open",
    "key = {id(x): x}": "id",
    "order = sorted(xs, key=hash)": "hash",
    "async def f(): await asyncio.sleep(1)": "asyncio.sleep",
    "t = asyncio.create_task(f())": "asyncio.create_task",
    "t = asyncio.get_running_loop().time()": ".time()",
    "d = datetime.now()": ".now()",
    "t = Path('x').read_text()": ".read_text()",
    "h = Path.home()": ".home()",
    "loop.run_in_executor(None, f)": ".run_in_executor()",
}


@pytest.mark.parametrize("source", SEEDED)
def test_the_rule_catches(source: str) -> None:
    assert SEEDED[source] in [fault.what for fault in faults(source)]


LEAKS = (
    "for x in {1, 2}: pass",
    "for x in set(xs): pass",
    "ys = [x for x in frozenset(xs)]",
    "ys = tuple(set(xs))",
    "ys = list({x for x in xs})",
    "y = ', '.join({str(x) for x in xs})",
    "ys = [*set(xs)]",
    "y = next(iter({1, 2}))",
    "for x in a.keys() | b.keys(): pass",
    "for x in a.keys() - {'x'}: pass",
    "def f(xs: set[str]):\n    for x in xs: pass",
    "def f(*, xs: frozenset[str] | None):\n    return [x for x in xs]",
    "def f():\n    xs = {1} | ys\n    for x in xs: pass",
    "def f():\n    xs: set[int] = g()\n    return tuple(xs)",
    "d = {x: 1 for x in set(xs)}",
    "for x in link.features: pass",
    "def f():\n    yield from {1, 2}",
)


@pytest.mark.parametrize("source", LEAKS)
def test_the_rule_catches_the_order_of_a_set_that_gets_out(source: str) -> None:
    assert [fault.what for fault in faults(source, frozenset({"features"}))] == [
        "a set is gone through in its own order"
    ]


HARMLESS = (
    "from random import Random\nr = Random(7)",
    "from random import Random\nr = Random(f'{seed}/x')",
    "import asyncio\nf = asyncio.get_running_loop().create_future()",
    "for x in sorted({1, 2}): pass",
    "ok = all(x in y for x in set(xs))",
    "n = len({x for x in xs})",
    "ys = {x for x in {1, 2}}",
    "ok = 3 in {1, 2}",
    "ys = sorted(x for x in link.features)",
    "def f(xs: list[str]):\n    for x in xs: pass",
    "def f(xs: set[str]): pass\ndef g(xs):\n    for x in xs: pass",
    "t = machine.now\nu = self.now()",
)


@pytest.mark.parametrize("source", HARMLESS)
def test_the_rule_lets_pass(source: str) -> None:
    assert faults(source, frozenset({"features"})) == []
