"""Proves to a worker that we have a file that another license has uploaded, which saves another upload."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef, Fingerprint

FEATURE = "proof"
"""Workers that accept proofs announce this feature."""

LEAST = 1024 * 1024
"""Smaller files are uploaded, which is faster."""

Call = Callable[[dict[str, str]], Awaitable[dict[str, Any]]]


async def proved(call: Call, file: Fingerprint, ref: FileRef, executor: Executor, within: float) -> bool:
    """Whether the worker has the file and accepts our proof; `call` sends a request to it.

    False also when it lacks the file, or when the proof takes longer than `within` seconds. Then the file is uploaded.
    """
    try:
        async with asyncio.timeout(within):
            return await _proved(call, file, ref, executor)
    except (WorkerRefused, TimeoutError, OSError):
        return False


async def _proved(call: Call, file: Fingerprint, ref: FileRef, executor: Executor) -> bool:
    named = {"hash": ref.hash, "ext": ref.ext}
    answer = await call(named)
    challenge = answer.get("challenge")
    if isinstance(challenge, str) and re.fullmatch(r"[0-9a-f]{64}", challenge):
        key = bytes.fromhex(challenge)
        hashing = asyncio.get_running_loop().run_in_executor(executor, hash_of, file.path, file.size, key)
        answer = await call({**named, "proof": (await hashing).hexdigest()})
    return answer.get("here") is True
