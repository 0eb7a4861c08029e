"""The configuration that every engine gets.

An entry point of the group `wakestream.engines` names a function that takes an `EngineConfig` and returns an `Engine`.
It raises `SettingsError` for wrong options.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wakestream.adapters.config.plugins import Plugins
from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.engines.run_process import Box
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.operators.model.engine import Engine

ENGINES = Plugins("wakestream.engines", "--engine", "engine")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What a worker tells its engine.

    Attributes:
        options: The engine's own options (`--engine-option KEY=VALUE`), as text.
        command: The words of `--command`, for engines that run a program.
        limit: The most seconds for one work.
        box: Restrictions of programs that the engine runs; None for none.
        folder: A folder in which the engine may keep what it learns; None for a check that keeps nothing.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    limit: float = 4 * 3600.0
    box: Box | None = None
    folder: Path | None = None

    def known(self, engine: str, names: Collection[str], needed: Collection[str] = ()) -> Mapping[str, str]:
        """Return the options, if the engine has all of them.

        Args:
            engine: The engine's name, for the message.
            names: The options that it has.
            needed: Those that must be set.

        Raises:
            SettingsError: An option is unknown or missing.
        """
        return ENGINES.known(self.options, engine, names, needed)

    def secret(self, option: str, variable: str) -> Secret | None:
        """Return the content of the file that an option names, else an environment variable; None without both.

        Args:
            option: The option. No message shows its value, which may be the secret itself, in the wrong place.
            variable: The environment variable.

        Raises:
            SettingsError: The file cannot be read, or does not have one line of text.
        """
        text, file = os.environ.get(variable, ""), self.options.get(option)
        if file is not None:
            try:
                text = Path(file).expanduser().read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "not text in UTF-8"
                raise SettingsError(
                    f"--engine-option {option}: the file cannot be read: {why}; give the path of a file with it"
                ) from None
        text = text.strip()
        if (file is not None and not text) or not text.isprintable():
            raise SettingsError(f"--engine-option {option} or {variable}: the content is not one line; write one line")
        hide(text)
        return Secret(text) if text else None


# The engines, by the names that `--engine` takes: entry points of the group `wakestream.engines`.

DEFAULT = "ffmpeg"

installed = ENGINES.installed


def make_engine(name: str | None, config: EngineConfig) -> Engine:
    """Make an engine.

    Args:
        name: Its name, or `MODULE:FUNCTION` of a factory that is importable; None for the default.
        config: Its configuration.

    Returns:
        The engine. Nothing is started or opened yet.

    Raises:
        SettingsError: There is no such engine, it cannot be imported, or an option is wrong.
    """
    made: Engine = ENGINES.make(name or DEFAULT, config)
    return made
