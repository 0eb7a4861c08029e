"""Proof that we have a file which another license sent to the worker, in place of sending it again."""

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
"""What workers announce that take it."""

LEAST = 1024 * 1024
"""Bytes of a file for which this pays; smaller ones are sent."""

Call = Callable[[dict[str, str]], Awaitable[dict[str, Any]]]


async def proved(call: Call, file: Fingerprint, ref: FileRef, executor: Executor, within: float) -> bool:
    """Whether the worker has the file now and counts it as ours; what it asks and answers goes by `call`.

    False also when it has no such file, or when that takes longer than `within` seconds: then the file is sent.
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
