"""The disorder of `make disorder` is there: two sockets that are ready together come in both orders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, socket
async def order():
    loop, came, pairs = asyncio.get_running_loop(), [], [socket.socketpair() for _ in range(2)]
    for number, (mine, other) in enumerate(pairs):
        loop.add_reader(mine, lambda number=number: (came.append(str(number)), loop.remove_reader(pairs[number][0])))
        other.send(b"x")
    while len(came) < 2:
        await asyncio.sleep(0)
    return "".join(came)
async def main():
    print(*{await order() for _ in range(50)})
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="its loops have no readers")
@pytest.mark.parametrize(("more", "orders"), [({}, 1), ({"DISORDER": "1"}, 2)], ids=["as usual", "disorder"])
def test_sockets_that_are_ready_together_come_in_any_order(more: dict[str, str], orders: int) -> None:
    paths = {"PYTHONPATH": str(Path(__file__).parent / "disorder"), **more}
    environment = {name: value for name, value in os.environ.items() if name != "DISORDER"} | paths
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert len(ran.stdout.split()) == orders
