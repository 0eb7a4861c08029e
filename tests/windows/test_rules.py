"""The parts of the house under the emulation, in one process: what is in `under`, and tests that others wrote."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.support.windows.as_on_windows import environment

TESTS = Path(__file__).parents[1]
SHARED = (
    "adapters/client/test_download.py",
    "adapters/hub/test_licenses.py",
    "adapters/telemetry/test_recordings.py",
    "adapters/telemetry/test_recorder.py",
    "adapters/disk/test_hashing_writer.py",
    "adapters/worker/test_file_store.py",
    "acceptance/test_direct_body.py",
    "acceptance/test_worker_tasks.py",
)
"""Those that touch disks and connections most."""

NOT_THERE = ("power_cut", "sync_file_and_folder", "at_the_start")
"""Folders cannot be synced there, and no shell holds a program back until the process that kills it is there."""

OTHERS_WARNINGS = ("EncodingWarning", "pytest.PytestUnraisableExceptionWarning")
"""Of libraries and tests; in `wakestream` the first is an error. The second is asyncio's, of connections that broke."""


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="what is emulated is emulated upon Linux")
async def test_the_parts_of_the_house_keep_the_rules_of_windows() -> None:
    warnings = [word for each in OTHERS_WARNINGS for word in ("-W", f"ignore::{each}")]
    process = await asyncio.create_subprocess_exec(
        # Plain: pytest must not load our modules itself, to rewrite their asserts.
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--assert=plain", *warnings,
        "-k", " and ".join(f"not {name}" for name in NOT_THERE),
        str(TESTS / "windows" / "under"), *(str(TESTS / each) for each in SHARED),
        env=environment(os.environ), cwd=TESTS.parent, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(280):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()[-6000:]
