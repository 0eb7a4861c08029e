"""Proves to a worker that we have a file that another license has uploaded, which saves another upload."""

from __future__ import annotations

import asyncio
import re

from wakestream.adapters.client.worker_calls import WorkerCalls
from wakestream.adapters.disk.hashing_writer import hash_of
from wakestream.adapters.net.capabilities import is_token
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef, Fingerprint

FEATURE = "proof"
"""Workers that accept proofs announce this feature."""

LEAST = 1024 * 1024
"""Smaller files are uploaded, which is faster."""


async def proved(calls: WorkerCalls, file: Fingerprint, ref: FileRef) -> bool:
    """Whether the worker has the file and accepts our proof.

    False also when it lacks the file, or when the proof takes longer than half the idle timeout. Then the file is
    uploaded.
    """
    token = calls.authorization.get("Authorization", "").removeprefix("Bearer ")
    if FEATURE not in calls.features or file.size < LEAST or not is_token(token):
        return False
    try:
        async with asyncio.timeout(calls.session.idle / 2):
            return await _proved(calls, file, ref)
    except (WorkerRefused, TimeoutError, OSError):
        return False


async def _proved(calls: WorkerCalls, file: Fingerprint, ref: FileRef) -> bool:
    named = {"hash": ref.hash, "ext": ref.ext}
    answer = await calls.call("POST", "prove", json=named)
    challenge = answer.get("challenge")
    if isinstance(challenge, str) and re.fullmatch(r"[0-9a-f]{64}", challenge):
        key, loop = bytes.fromhex(challenge), asyncio.get_running_loop()
        proof = await loop.run_in_executor(calls.session.executor, hash_of, file.path, file.size, key)
        answer = await calls.call("POST", "prove", json={**named, "proof": proof.hexdigest()})
    return answer.get("here") is True
