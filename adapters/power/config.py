"""The configuration that every power provider gets, and the form of a provider plugin."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from wakestream.adapters.config import trust
from wakestream.adapters.config.plugins import Plugins
from wakestream.adapters.config.setting_files import Given, Secret, SettingsError, key_in, naming, read_env, secret
from wakestream.adapters.config.settings import Settings, user_folder
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.operators.model.errors import PowerError, Transient
from wakestream.operators.model.ports import Power, PowerState, Reading
from wakestream.streams.protocol.printable import printable

T = TypeVar("T")

PROVIDERS = Plugins("wakestream.power", "--power", "power provider")


_RECEIVES = re.compile("url|host|endpoint")
"""Options that say where credentials are sent: `base_url`, and arguments of libcloud's drivers."""


class CannotList(PowerError, code="cannot_list"):
    """The provider has no list of machines."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of an account.

    Attributes:
        id: What `--machine` takes.
        name: The name that the user gave it.
        state: Its state.
        gpu: Its GPUs, such as `2 x RTX 4090`; empty if the provider does not say.
        price: What an hour costs while it runs; None if the provider does not say.
        currency: The currency of the price.
        address: Where its worker can be reached, if the provider says so.
    """

    id: str
    name: str
    state: PowerState
    gpu: str = ""
    price: float | None = None
    currency: str = ""
    address: str | None = None


def plain_text(text: str, secrets: Sequence[str]) -> str:
    """A provider's message on one line, without credentials, and not too long.

    Args:
        text: What the provider says.
        secrets: The credentials that it may repeat.

    Returns:
        What may be logged and shown.
    """
    for credential in secrets:
        text = text.replace(credential, "***")
    return printable(" ".join(text.split()))[:400]


def id_of(machine: str, machines: Sequence[Machine]) -> str:
    """The id of the machine with this id or name.

    Args:
        machine: The id or name.
        machines: The machines of the account.

    Raises:
        PowerError: There is no such machine, or several have this name.
    """
    if any(listed.id == machine for listed in machines):
        return machine
    ids = [listed.id for listed in machines if listed.name == machine and listed.state != "terminated"]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise PowerError(f"{len(ids)} machines are named {machine!r}: give --machine one of {', '.join(ids[:5])}")
    have = ", ".join(f"{listed.id} ({listed.name})" if listed.name else listed.id for listed in machines[:5]) or "none"
    raise PowerError(f"no machine is named {machine!r}; the account has {have}")


def returned_nothing(call: str, returned: object) -> None:
    """Check what `start` or `stop` returned. `Transient`: it returned something, which has no meaning."""
    if returned is not None:
        raise Transient(
            f"`{call}` of the power provider returned {returned!r:.80}, which means nothing: let it return None, and "
            "raise a PowerError if the call was refused"
        )


def returned_reading(returned: object) -> Reading:
    """Check what `inspect` returned.

    Raises:
        PowerError: It is no `Reading`, or a field has another type.
    """
    why = "return a Reading"
    if isinstance(returned, Reading):
        try:
            return msgspec.convert(asdict(returned), Reading)
        except msgspec.ValidationError as error:
            why, returned = str(error), asdict(returned)
    raise PowerError(f"`inspect` of the power provider returned {returned!r:.160}: {why}")


class Provider(Power, Protocol):
    """One machine's power, and the list of the account's machines. The monitor closes it when it ends.

    A provider that reports the address of each machine that runs has `reports_address = True`; one whose `close` also
    ends the machine has `ends_with_monitor = True`.
    """

    async def machines(self) -> Sequence[Machine]:
        """Return the machines of the account.

        Raises:
            CannotList: The provider has no list.
            PowerError: As the other calls.
        """
        raise CannotList("this power provider cannot list machines; look for the id in its web console")

    async def close(self) -> None:
        """Free what the provider itself uses; with `ends_with_monitor`, also end the machine. May come twice."""


def secret_from_environment(name: str) -> Secret:
    """Read a credential and hide it in all logs.

    Its sources are the environment variable `name`, the file that the variable `name`_FILE names, and the `.env` of the
    current folder, of the monitor's and of the user's own.

    Args:
        name: The name of the environment variable, such as `RUNPOD_API_KEY`.

    Returns:
        The credential.

    Raises:
        SettingsError: It is set nowhere, or the file cannot be read.
    """
    return _credential(name)[0]


def _credential(name: str) -> tuple[Secret, Given]:
    """A credential, hidden in all logs, and where it is."""
    given = _given(name)
    with naming(given.where):
        credential = secret(given.value)
    hide(credential)
    return credential, given


def _given(name: str) -> Given:
    if value := os.environ.get(name):
        return Given(value, f"the environment variable {name}", trust.ENVIRONMENT)
    if file := os.environ.get(f"{name}_FILE"):
        path = Path(file).expanduser()
        key = key_in(path, f"{name}_FILE", [])
        if os.name == "posix" and path.stat().st_mode & stat.S_IROTH:
            raise SettingsError(
                f"{path} holds a credential and every account on this machine can read it; run: chmod 600 {path}"
            )
        return Given(key, f"{name}_FILE", trust.ENVIRONMENT)
    own = (user_folder() / "monitor", user_folder())
    for folder in (Path(), *own):
        readable = os.access(folder, os.R_OK | os.X_OK)  # a service may have no access to home folders
        if readable and (given := read_env(folder / ".env").get(name)):
            return replace(given, source=trust.source_of(folder / ".env", Path(), own))
    raise SettingsError(
        f"{name} is not set; write {name}=... into .env, or set {name}_FILE to a file that only you can read"
    )


@dataclass(frozen=True, slots=True)
class PowerConfig:
    """What a monitor tells its power provider.

    Attributes:
        machine: The id or name of the machine (`--machine`); None if only the list of machines is asked for.
        options: The provider's own options (`--power-option KEY=VALUE`), as text.
        secret: Reads a credential by the name of its environment variable; `SettingsError` says where to put it.
        timeout: The most seconds for one call.
        base_url: The address of the provider's API, instead of its own; None for its own.
        commands: The command lines `program`, `start`, `stop` and `inspect`, where they are set.
    """

    machine: str | None = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secret: Callable[[str], str] = secret_from_environment
    timeout: float = 60.0
    base_url: str | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def known(self, provider: str, names: Collection[str] = (), needed: Collection[str] = ()) -> Mapping[str, str]:
        """Return the options, if the provider has all of them.

        Args:
            provider: The provider's name, for the message.
            names: The options that it has.
            needed: Those that must be set.

        Raises:
            SettingsError: An option is unknown or missing.
        """
        return PROVIDERS.known(self.options, provider, names, needed)

    def option(self, name: str, default: str, read: Callable[[str], T]) -> T:
        """An option as `read` returns it. `SettingsError`: `read` raises a ValueError; its text says what to write."""
        text = self.options.get(name, default)
        with naming(f"--power-option {name}={text[:80]}:"):
            return read(text)

    def needs_machine(self, provider: str) -> str:
        """Return the machine's id or name, empty if only the list is asked for. `SettingsError`: it is not set."""
        if self.machine == "":
            raise SettingsError(
                f"--power {provider} needs --machine ID; `wakestream machines --power {provider}` lists them"
            )
        return self.machine or ""


def commands(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The command lines that are set, by the names of their flags."""
    names = ("program", "start", "stop", "inspect")
    return {name: command for name in names if (command := getattr(settings, f"power_{name}")) is not None}


def power_config(settings: Settings, *, only_list: bool = False) -> PowerConfig:
    """The configuration of the power provider that the settings name.

    Args:
        settings: The settings.
        only_list: Only the list of machines is asked for, so that none needs to be named.
    """
    options = dict(settings.power_option)

    def read(name: str) -> Secret:
        credential, given = _credential(name)
        if any(map(_RECEIVES.search, settings.power_option)):
            # All of the user's own sources are alike here; only a folder with files of others is not.
            settings.check_sent(replace(given, source=max(given.source, trust.OWN)), "power_option")
        return credential

    return PowerConfig(
        None if only_list else settings.power_machine or "",
        options,
        read,
        timeout=settings.power_timeout or 60.0,
        base_url=options.pop("base_url", None),
        commands=commands(settings),
    )


PowerFactory = Callable[[PowerConfig], Provider]
"""What an entry point of the group `wakestream.power` names. It raises `SettingsError` for wrong options."""


# The power providers, by the names that `--power` takes: entry points of the group `wakestream.power`.

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
