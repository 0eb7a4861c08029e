"""Plugins by the entry points of a group, and the options that users give them: engines and power providers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of one kind.

    Attributes:
        group: The group of their entry points, such as `wakestream.engines`.
        flag: The flag that names one, such as `--engine`; its options are given with `--engine-option`.
        kind: What one is called, such as `engine`.
    """

    group: str
    flag: str
    kind: str

    def installed(self) -> dict[str, EntryPoint]:
        """The installed plugins by name; one of this package takes precedence over another of the same name."""
        plugins = sorted(entry_points(group=self.group), key=lambda plugin: plugin.value.startswith("wakestream."))
        return {plugin.name: plugin for plugin in plugins}

    def make(self, name: str, config: Any) -> Any:
        """Call the factory of a plugin with its configuration.

        Args:
            name: Its name, or `MODULE:FUNCTION` of a factory that is importable.
            config: The configuration.

        Returns:
            What the factory returns.

        Raises:
            SettingsError: There is no such plugin, it cannot be imported, or an option is wrong.
        """
        installed = self.installed()
        plugin = EntryPoint(name, name, self.group) if ":" in name else installed.get(name)
        if plugin is None:
            have = ", ".join(sorted(installed)) or "none (run `pip install -e .` again)"
            raise SettingsError(
                f"{self.flag} is {name[:40]!r}; installed are {have}; MODULE:FUNCTION names one of your own"
            )
        try:
            return plugin.load()(config)
        except SettingsError:
            raise
        except Exception as error:
            logger.opt(exception=error).debug("the {} {} cannot be made", self.kind, name)
            why = f"{type(error).__name__}: {error}"
            raise SettingsError(f"the {self.kind} {plugin.name} ({plugin.value}) cannot be used: {why}") from error

    def known(
        self, options: Mapping[str, str], plugin: str, names: Collection[str], needed: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Return the options, if the plugin has all of them. `SettingsError`: one is unknown or missing."""
        unknown = [name for name in options if name not in names]
        if unknown:
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise SettingsError(
                f"{self.flag}-option {unknown[0][:40]}: the {self.kind} {plugin} has no such option; {has}"
            )
        missing = [name for name in needed if not options.get(name)]
        if missing:
            raise SettingsError(f"the {self.kind} {plugin} needs {self.flag}-option {missing[0]}=...")
        return options
