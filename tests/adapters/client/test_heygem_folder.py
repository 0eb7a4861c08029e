"""The folder that an engine shares with us, without the engine."""

from pathlib import Path

from wakestream.adapters.client.heygem_folder import SharedFolder
from wakestream.operators.model.events import Done


async def test_a_result_may_have_the_longest_name_that_the_disk_takes(tmp_path: Path) -> None:
    folder, output = SharedFolder(tmp_path), tmp_path / f"{'语' * 83}.mp4"  # 253 of 255 bytes
    folder.result("code").write_bytes(b"film")
    steps = [step async for step in folder.fetch("code", output)]
    assert (steps[-1], output.read_bytes()) == (Done(output, 4), b"film")
    assert set(tmp_path.iterdir()) == {output, folder.result("code")}
