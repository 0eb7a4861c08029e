"""The parts of the house under the emulation, in one process: what is in `under`, and tests that others wrote."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest
from as_on_windows import HERE, environment

TESTS = HERE.parent
SHARED = (
    "adapters/test_client_download.py", "adapters/test_licenses.py", "adapters/test_logs_on_disk.py",
    "adapters/test_recorder.py", "adapters/test_sink.py", "adapters/test_store.py", "acceptance/test_straight.py",
    "acceptance/test_worker_tasks.py",
)  # fmt: skip
"""Those that touch disks and connections most."""

NOT_THERE = ("power_cut", "on_the_disk_name_and_all")
"""Folders cannot be synced there."""

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
        str(HERE / "under"), *(str(TESTS / each) for each in SHARED),
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
