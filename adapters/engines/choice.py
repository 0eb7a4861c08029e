"""The engines, by the names that `--engine` takes: entry points of the group `wakestream.engines`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.config import EngineConfig, EngineFactory
from wakestream.operators.model.engine import Engine

GROUP = "wakestream.engines"
DEFAULT = "ffmpeg"


def installed() -> dict[str, EntryPoint]:
    """The installed engines by name, those of this package first."""
    found = sorted(entry_points(group=GROUP), key=lambda each: not each.value.startswith("wakestream."))
    return {each.name: each for each in reversed(found)}


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
    engines = installed()
    found = EntryPoint(name, name, GROUP) if name and ":" in name else engines.get(name or DEFAULT)
    if found is None:
        have = ", ".join(sorted(engines))
        raise SettingsError(f"engine is {str(name)[:40]!r}; write one of {have}, or MODULE:FUNCTION of your own")
    try:
        factory: EngineFactory = found.load()
        return factory(config)
    except SettingsError:
        raise
    except Exception as error:
        logger.opt(exception=error).debug("the engine {} cannot be made", name)
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"the engine {found.name} ({found.value}) cannot be used: {why}") from error
