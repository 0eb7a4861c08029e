"""The engines, by the names that `--engine` takes. A new engine is a module of this room and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.engines.box import Box
from wakestream.adapters.engines.command import BadTemplateError, Command, checked_template
from wakestream.adapters.engines.ffmpeg import Ffmpeg
from wakestream.operators.model.ports import Engine


def _ffmpeg(_: Settings, limit: float, box: Box) -> Ffmpeg:
    return Ffmpeg(limit=limit, box=box)


def _command(settings: Settings, limit: float, box: Box) -> Command:
    if settings.engine_command is None:
        raise SettingsError('--engine command needs --command "python run.py {video} {audio} {output}"')
    try:
        return Command(checked_template(settings.engine_command), limit=limit, box=box)
    except BadTemplateError as error:
        raise SettingsError(f"--command {error}") from None


ENGINES: Mapping[str, Callable[[Settings, float, Box], Engine]] = {
    "ffmpeg": _ffmpeg,
    "command": _command,
}
"""Makes each engine from the settings, the time limit of one run in seconds, and what it may use."""


def engine_name(settings: Settings) -> str:
    """The name of the engine that is set, or the default. Raises `SettingsError` for an unknown one."""
    name = settings.engine or "ffmpeg"
    if name not in ENGINES:
        raise SettingsError(f"engine is {name[:40]!r}; write one of {', '.join(ENGINES)}")
    return name
