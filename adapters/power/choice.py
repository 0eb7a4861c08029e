"""The power providers, by the names that `--power` takes: entry points of the group `wakestream.power`."""

from __future__ import annotations

from wakestream.adapters.power.config import PROVIDERS, PowerConfig, Provider

installed = PROVIDERS.installed


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
    made: Provider = PROVIDERS.make(name, config)
    return made
