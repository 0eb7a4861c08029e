"""README's pipeline and README's test of it, as a newcomer tries them: both files in one folder, the commands as they
stand there."""

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.support.programs.client_scene import WITHIN, User, clean_environment
from tests.support.programs.examples_scene import receiver
from tests.support.programs.our_peers import Joining, Place, gpu_online

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# file: (\S+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))


def commands(heading: str) -> list[str]:
    """The first block of commands beneath a heading that runs README's pipeline."""
    section = README.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    return [line.strip() for line in next(block for block in blocks if "announced.py" in block).splitlines()]


async def typed(user: User, line: str) -> str:
    """What a command of the page prints; it has to succeed."""
    here = clean_environment() | user.environment
    process = await asyncio.create_subprocess_shell(
        re.sub(r"^CHAT=\S+ ", "", line), cwd=user.folder, env=here | {"PATH": f"{Path(sys.executable).parent}:/bin"},
        stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{line}\n{out.decode()}"
    return out.decode()


@pytest.mark.skipif(shutil.which("sh") is None, reason="the page's commands are a shell's")
async def test_the_test_of_the_page_passes_after_the_pipeline_of_the_page(user: User, place: Place) -> None:
    for name, code in FILES.items():
        (user.folder / name).write_text(code, encoding="utf-8")
    record, *afterwards = commands("A replay test")
    async with asyncio.timeout(55), receiver() as (chat, news), place.hub() as hub, place.worker(Joining()):
        await gpu_online(hub)
        user.environment |= place.client_settings() | {"CHAT": chat, "WAKESTREAM_POLL_EVERY": "0.05"}
        await typed(user, record)
        assert [each["video"] for each in news] == ["clip.synced.mp4"]
        said = "".join([await typed(user, line) for line in afterwards])
    assert "1 passed" in said, said
    assert "same as recorded" in said, said
    assert len(news) == 1
