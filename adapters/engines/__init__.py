"""The engines that code of one's own uses. Each is imported when it is first used, since to probe a file needs none."""

# ruff: noqa: I001 - as in operators
from __future__ import annotations

from typing import TYPE_CHECKING

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.adapters.engines.command import Command as Command, lipsync_program as lipsync_program
    from wakestream.adapters.engines.ffmpeg import Ffmpeg as Ffmpeg
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
