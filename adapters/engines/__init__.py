from wakestream.adapters.engines.command import Command, lipsync_program
from wakestream.adapters.engines.ffmpeg import Ffmpeg

__all__ = ["Command", "Ffmpeg", "lipsync_program"]
