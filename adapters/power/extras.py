"""Libraries that only some providers need, and what a blocking library's call becomes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from wakestream.adapters.config.setting_files import SettingsError


def needs(module: str, extra: str) -> Any:
    """Import a library of an extra.

    Args:
        module: The module's name.
        extra: The extra that installs it.

    Raises:
        SettingsError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"--power {extra} needs the library {module.partition('.')[0]}, which cannot be imported ({error}); run: "
            f'pip install "wakestream[{extra}]"'
        ) from None
