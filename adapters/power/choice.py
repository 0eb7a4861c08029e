"""The power providers, by the names that `--power` takes: entry points of the group `wakestream.power`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import PowerConfig, PowerFactory, Provider

GROUP = "wakestream.power"


def installed() -> dict[str, EntryPoint]:
    """The installed providers by name; one of this package takes precedence over another of the same name."""
    found = sorted(entry_points(group=GROUP), key=lambda each: each.value.startswith("wakestream."))
    return {each.name: each for each in found}


def make_power(name: str, config: PowerConfig) -> Provider:
    """Make a power provider.

    Args:
        name: Its name, or `MODULE:FUNCTION` of a factory that is importable.
        config: Its configuration.

    Returns:
        The provider. Nothing is called yet.

    Raises:
        SettingsError: There is no such provider, it cannot be imported, or an option is wrong.
    """
    providers = installed()
    found = EntryPoint(name, name, GROUP) if ":" in name else providers.get(name)
    if found is None:
        have = ", ".join(sorted(providers)) or "none (run `pip install -e .` again)"
        raise SettingsError(f"--power is {name[:40]!r}; installed are {have}; MODULE:FUNCTION names one of your own")
    try:
        factory: PowerFactory = found.load()
        return factory(config)
    except SettingsError:
        raise
    except Exception as error:
        logger.opt(exception=error).debug("the power provider {} cannot be made", name)
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"the power provider {found.name} ({found.value}) cannot be used: {why}") from error
