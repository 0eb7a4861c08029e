from wakestream.adapters.engines.command import BadTemplateError, Command, checked_template
from wakestream.adapters.engines.ffmpeg import Ffmpeg

__all__ = ["BadTemplateError", "Command", "Ffmpeg", "checked_template"]
