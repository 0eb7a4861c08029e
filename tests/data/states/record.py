"""Makes `VERSION.json`, the state folders of the last release's programs: python tests/data/states/record.py

Run `make released` before. The four programs are killed while one job renders and another one waits for the GPU. Paths
and addresses are placeholders; a later format has checksums over its rows, so there they must be made again.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.programs.mixed_versions import PROGRAMS, RELEASED, House
from tests.support.programs.state_folders import taken

HERE = Path(__file__).parent


async def record(folder: Path) -> dict[str, object]:
    async with House(folder, dict.fromkeys(PROGRAMS, RELEASED)).open() as house:
        house.words = 20
        assert await house.runs("done") == "done"
        house.hold.touch()
        async with house.submitted("rendering") as rendering:
            await rendering.event("running")
            for name in ("monitor", "worker"):
                await house.kill(name)
            async with house.submitted("waiting") as waiting:
                await waiting.event("queued")
                for name in ("daemon", "hub"):
                    await house.kill(name)
        keys = {f"{role}.key": (folder / f"{role}.key").read_text() for role in ("client", "worker", "monitor")}
        found = {name: taken(folder / name, house.names) for name in PROGRAMS}
        events = found["daemon"]["timeline.jsonl"].splitlines(keepends=True)
        found["daemon"]["timeline.jsonl"] = "".join(events[:8])
        return {"jobs": ["done", "rendering", "waiting"], "words": house.words, "keys": keys, **found}


if __name__ == "__main__":
    ask = "from importlib.metadata import version; print(version('wakestream'))"
    version = subprocess.run([RELEASED, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as found:
        state = asyncio.run(record(Path(found)))
    (HERE / f"{version}.json").write_text(json.dumps(state, indent=1) + "\n")
