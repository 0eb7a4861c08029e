"""The configuration that every engine gets, and the form of an engine plugin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wakestream.adapters.config.plugins import Plugins
from wakestream.adapters.engines.box import Box
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


EngineFactory = Callable[[EngineConfig], Engine]
"""What an entry point of the group `wakestream.engines` names. It raises `SettingsError` for wrong options."""
