"""The settings of all programs, each with its source.

Precedence: flags, environment, `config.dat`, `.env`, `wakestream.toml`, defaults. Files of the current folder take
precedence over those of the user's own folder, but are trusted less (see `config.trust`).

The command line imports this module for the names of the settings, so what only `load` needs is imported there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from wakestream.adapters.config import addresses, setting_values, trust
from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.setting_files import (
    SHORT,
    Given,
    Secret,
    SettingsError,
    Source,
    key,
    key_in,
    naming,
    read_config,
    read_env,
    read_toml,
    secret,
)

if TYPE_CHECKING:
    from wakestream.operators.model.policy import Policy

__all__ = [
    "USER_FOLDER", "WAITS", "Secret", "Settings", "SettingsError", "flag_of", "load", "variables",
]  # fmt: skip

USER_FOLDER = "WAKESTREAM_CONFIG"
"""The environment variable with the folder of the user's own settings."""

_WAITS = (
    "hub", "reply", "online", "line_every", "health_every", "ready", "lost", "transfer", "poll_every", "execution",
    "total", "release",
)  # fmt: skip
WAITS = {field: field if field.endswith("_every") else f"{field}_timeout" for field in _WAITS}
"""Fields of `Policy` by setting (`--online-timeout`, `WAKESTREAM_ONLINE_TIMEOUT`, `online_timeout = 60`)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, validated, each with the function that reads it. None where the user set nothing."""

    hub_url: str | None = None
    """The hub's WebSocket address, or those of several hubs, separated by commas."""
    worker_url: str | None = None
    """The worker's address, where the hub does not name one."""
    api_secret: str | None = None
    """The secret that the workers require."""
    no_secret: bool = False
    """A file has an empty `HEYGEM_API_SECRET=`: the worker requires no secret."""
    secret_hosts: Annotated[tuple[str, ...], setting_values.hosts] = ()
    """Further hosts that may receive `api_secret`."""
    key: str | None = None
    """This program's key at the hub."""
    log_level: Annotated[str, setting_values.level] = "INFO"
    """One of `setting_values.LEVELS`."""
    log_format: Annotated[str, setting_values.log_format] = "text"
    """`text` or `json`."""
    log_file: Annotated[Path | None, setting_values.path] = None
    """A file for log lines."""
    record: Annotated[Path | None, setting_values.path] = None
    """A folder for recordings."""
    metrics: Annotated[tuple[str, int] | None, setting_values.listen_address] = None
    """Host and port of the metrics server."""
    trace: Annotated[bool, setting_values.yes] = False
    """Whether traces are sent to OpenTelemetry."""
    probe: Annotated[bool, setting_values.yes] = True
    """Whether input files are checked before a job."""
    webhook_url: Annotated[Secret | None, setting_values.webhook] = None
    """The address of the daemon's webhook."""
    power_webhook_url: Annotated[Secret | None, setting_values.webhook] = None
    """The address of the hub's webhook."""
    webhook_secret: str | None = None
    """Signs webhook messages."""
    waits: Mapping[str, float] = field(default_factory=dict)
    """The fields of `Policy` that the user set, in seconds."""
    power: Annotated[str | None, setting_values.plain_text] = None
    """The name of the power provider."""
    power_machine: Annotated[str | None, setting_values.plain_text] = None
    """The id or name of the machine at its provider."""
    power_option: Annotated[Mapping[str, str], setting_values.options] = field(default_factory=dict)
    """Options of the power provider."""
    power_program: Annotated[tuple[str, ...] | None, setting_values.command_line] = None
    """The program that switches a machine, as an argument list without a shell."""
    power_start: Annotated[tuple[str, ...] | None, setting_values.command_line] = None
    """The command that starts the machine."""
    power_stop: Annotated[tuple[str, ...] | None, setting_values.command_line] = None
    """The command that stops it."""
    power_inspect: Annotated[tuple[str, ...] | None, setting_values.command_line] = None
    """The command that prints its state."""
    power_timeout: Annotated[float | None, seconds] = None
    """Seconds that such a command may take."""
    idle_after: Annotated[float | None, seconds] = None
    """Seconds without jobs after which the machine is stopped."""
    gpu: Annotated[str | None, setting_values.gpu_name] = None
    """The name of this GPU."""
    label: Annotated[Mapping[str, str], setting_values.labels] = field(default_factory=dict)
    """The labels of this GPU, which jobs may require."""
    slots: Annotated[int, setting_values.slots] = 1
    """How many tasks this worker does at one time."""
    journal: Annotated[str | None, setting_values.plain_text] = None
    """The address of the hub's database; without one, its journal is in its folder."""
    listen: Annotated[tuple[str, int] | None, setting_values.listen_address] = None
    """Host and port of this server."""
    public_url: Annotated[str | None, setting_values.worker_url] = None
    """The address under which clients reach this worker."""
    engine: Annotated[str | None, setting_values.plain_text] = None
    """`ffmpeg` or `command`."""
    engine_command: Annotated[tuple[str, ...] | None, setting_values.command_line] = None
    """The engine's command, as an argument list without a shell."""
    engine_timeout: Annotated[float | None, seconds] = None
    """Seconds that a task may take."""
    tls_cert: Annotated[Path | None, setting_values.path] = None
    """This server's certificate."""
    tls_key: Annotated[Path | None, setting_values.path] = None
    """The certificate's key."""
    ca: Annotated[Path | None, setting_values.path] = None
    """A certificate authority that is trusted beside the system's."""
    warnings: tuple[str, ...] = ()
    """Sentences for the user."""
    given: Mapping[str, Given] = field(default_factory=dict, repr=False, compare=False)
    """The credentials and where they may go to, with their sources."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no log may show."""
        known = (self.api_secret, self.key, self.webhook_secret, self.webhook_url, self.power_webhook_url)
        return tuple(secret for secret in known if secret)

    def policy(self, base: Policy | None = None) -> Policy:
        """`base` (the defaults without it), with the waits that the user set."""
        import dataclasses

        from wakestream.operators.model.policy import Policy

        given: Mapping[str, Any] = self.waits
        policy = dataclasses.replace(base or Policy(), **given)
        if self.worker_url is None or (self.api_secret is None and not self.no_secret):
            return policy
        return dataclasses.replace(policy, straight=policy.health_every)

    def check_sent(self, credential: str | Given, *receivers: str) -> None:
        """Check that a credential may be sent where these settings say.

        Args:
            credential: The setting, such as `api_secret`, or a credential that is no setting.
            receivers: The settings that decide where it is sent, such as `worker`.

        Raises:
            SettingsError: A less trusted source says where; the message names both sources.
        """
        given = self.given.get(credential) if isinstance(credential, str) else credential
        for receiver in (*receivers, "ca"):
            trust.check(given, self.given.get(receiver))

    def needs_hub(self) -> str:
        """The hub's address, if the key may be sent there. Raises `SettingsError` when it may not, or none is set."""
        self.check_sent("key", "hub")
        if self.hub_url is None:
            raise SettingsError(
                "no hub is set; give --hub URL or set WAKESTREAM_HUB, join one with `wakestream join HOST CODE`, "
                "or try everything on this machine with `wakestream demo` or `wakestream up`; "
                "`wakestream help` lists all commands"
            )
        return self.hub_url

    def needs_power(self) -> str:
        """The name of the power provider. Raises `SettingsError` when none is set."""
        if self.power is None:
            raise SettingsError(
                "no power provider is set; give --power NAME: process (a program on this machine), command "
                "(three commands of yours), or a provider of docs/power"
            )
        return self.power

    def needs_key(self) -> str:
        """This program's own key. Raises `SettingsError` when none is set."""
        if self.key is None:
            raise SettingsError(
                "no key is set; give --key-file FILE, set WAKESTREAM_KEY, or put the key into .license "
                "(`wakestream license issue` on the hub's machine makes one)"
            )
        return self.key


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting: its name in TOML (and as a flag), its variable, its parser, its field of `Settings`."""

    name: str
    variable: str
    read: Callable[[Any], object]
    field: str


_HINTS = get_type_hints(Settings, include_extras=True)


def _ours(name: str, read: Callable[[Any], object]) -> _Setting:
    return _Setting(name, f"WAKESTREAM_{name.upper()}", read, name)


_PLAIN = (
    _Setting("hub", "WAKESTREAM_HUB", lambda value: addresses.hub_urls(setting_values.plain_text(value)), "hub_url"),
    _Setting("worker", "HEYGEM_SERVER_URL", setting_values.worker_url, "worker_url"),
    *(_ours(name, *hint.__metadata__) for name, hint in _HINTS.items() if hasattr(hint, "__metadata__")),
)
_OLD_HUB = "API_SERVER_URL"
"""The variable of deployed programs for `WAKESTREAM_HUB`."""
_TIMES = tuple(_ours(name, seconds) for name in WAITS.values())
_KEY = _ours("key", key)
_KEY_FILE = _ours("key_file", setting_values.path)
_API_SECRET = _Setting("api_secret", "HEYGEM_API_SECRET", secret, "api_secret")
_WEBHOOK_SECRET = _ours("webhook_secret", secret)
_ALL = (*_PLAIN, *_TIMES, _KEY, _KEY_FILE, _API_SECRET, _WEBHOOK_SECRET)
_FLAGS = {
    "worker": "--worker-url", "probe": "--no-probe", "webhook_url": "--webhook", "log_format": "--log-json",
    "power_webhook_url": "--power-webhook", "engine_command": "--command",
    "power_program": "--program", "power_start": "--start", "power_stop": "--stop", "power_inspect": "--inspect",
    "power_timeout": "--call-timeout", "power_machine": "--machine",
}  # fmt: skip
"""Settings whose flag has another name."""
_SECRET = {_KEY.name, _API_SECRET.name, _WEBHOOK_SECRET.name}
_PATHS = {setting.name for setting in _ALL if setting.read is setting_values.path}

_Layer = Mapping[str, Given]


def load(
    flags: Mapping[str, object],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    program: str = "",
) -> Settings:
    """Read the settings from all sources.

    Args:
        flags: Values by name, as argparse has them. None and unknown names are ignored.
        environment: The environment variables; those of this process by default.
        folder: The folder of `config.dat`, `.env`, `wakestream.toml` and `.license`. By default the current folder,
            then the user's own (`user_folder`).
        program: The program, such as `worker`: the folder of this name in the user's own folder comes before that.

    Raises:
        SettingsError: a value is wrong; the message names its source.

    Example:
        >>> load({"hub": "https://hub.example.com"}).hub_url
        'wss://hub.example.com/dsp'
    """
    environment = os.environ if environment is None else environment
    own = user_folder(environment)
    owns = [*_readable(own / program), *_readable(own)] if program else _readable(own)
    here = Path() if folder is None else folder
    files = [*_of_folder(here, here, owns), *(layer for path in owns if folder is None for layer in _of_folder(path))]
    layers = _layers(flags, environment, files)
    values: dict[str, Any] = {
        setting.field: value for setting in _PLAIN if (value := _value(setting, layers)) is not None
    }
    by_setting = {setting: name for name, setting in WAITS.items()}
    values["waits"] = {
        by_setting[setting.name]: value for setting in _TIMES if (value := _value(setting, layers)) is not None
    }
    given = {setting.name: source for setting in _ALL if (source := _first(layers, setting)) is not None}
    warnings: list[str] = []
    if (held := _key(layers, warnings, here, owns)) is not None:
        given[_KEY.name] = held
    for setting in (_API_SECRET, _KEY, _WEBHOOK_SECRET):
        if setting.name in given:
            value = values[setting.field] = _read(setting, given[setting.name])
            if len(value) < SHORT:
                said = f"this secret has {len(value)} characters and can be guessed; use {SHORT} or more"
                warnings.append(f"{given[setting.name].where}: {said}")
    no_secret = _API_SECRET.name not in given and any(_API_SECRET.name in layer for layer in files)
    return Settings(**values, no_secret=no_secret, warnings=tuple(warnings), given=given)


def variables() -> frozenset[str]:
    """The names of all environment variables that are settings."""
    return frozenset({USER_FOLDER, _OLD_HUB, *(setting.variable for setting in _ALL)})


def user_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of the user's own settings: `WAKESTREAM_CONFIG`, else the system's folder for settings."""
    named = (os.environ if environment is None else environment).get(USER_FOLDER)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_config_path

    return user_config_path("wakestream", appauthor=False)


def _readable(folder: Path) -> list[Path]:
    # A service may have no access to home folders, not even to its own.
    return [folder] if os.access(folder, os.R_OK | os.X_OK) else []


def flag_of(name: str) -> str:
    """The command line flag of a setting."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _layers(flags: Mapping[str, object], environment: Mapping[str, str], files: Iterable[_Layer]) -> tuple[_Layer, ...]:
    """The sources by precedence, each by the name of the setting."""
    given = {name: Given(value, flag_of(name)) for name, value in flags.items() if name not in _SECRET}
    variables = {name: Given(value, f"the environment variable {name}") for name, value in environment.items()}
    layers = (given, trust.from_source(_by_name(variables), trust.ENVIRONMENT), *files)
    return tuple({name: entry for name, entry in layer.items() if entry.value not in (None, "")} for layer in layers)


def _of_folder(folder: Path, here: Path | None = None, owns: Collection[Path] = ()) -> tuple[_Layer, ...]:
    """The settings of a folder: the user's own, or with `here` the current one."""

    def source(name: str) -> Source:
        return trust.OWN if here is None else trust.source_of(folder / name, here, owns)

    file = read_toml(folder / "wakestream.toml")
    _check_names(file)
    held = str(folder / ".license")
    license_file = {_KEY_FILE.name: Given(held, held)} if os.path.exists(held) else {}  # noqa: PTH110 - exists raises no error
    named = {
        "config.dat": _from(folder, _by_name(read_config(folder / "config.dat"))),
        ".env": _from(folder, _by_name(read_env(folder / ".env"))),
        "wakestream.toml": _from(folder, file),
        ".license": license_file,
    }
    return tuple(trust.from_source(layer, source(name)) for name, layer in named.items())


def _from(folder: Path, layer: _Layer) -> _Layer:
    """A relative path in a settings file is relative to that file."""
    return {name: _placed(folder, given) if name in _PATHS else given for name, given in layer.items()}


def _placed(folder: Path, given: Given) -> Given:
    text = given.value
    return Given(str(folder / Path(text).expanduser()), given.where) if isinstance(text, str) and text else given


def _by_name(variables: _Layer) -> _Layer:
    layer = {setting.name: variables[setting.variable] for setting in _ALL if setting.variable in variables}
    old = variables.get(_OLD_HUB)
    return layer if old is None or ("hub" in layer and layer["hub"].value) else {**layer, "hub": old}


def _check_names(file: _Layer) -> None:
    known = [setting.name for setting in _ALL if setting.name not in _SECRET]
    for name, given in file.items():
        if name in _SECRET:
            variable = next(setting.variable for setting in _ALL if setting.name == name)
            raise SettingsError(f"{given.where}: this file must not contain secrets; write {variable}=… into .env")
        if name not in known:
            raise SettingsError(f"{given.where}: there is no setting {name!r}; {_nearest(name, known)}")


def _nearest(name: str, known: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def _first(layers: tuple[_Layer, ...], setting: _Setting) -> Given | None:
    return next((layer[setting.name] for layer in layers if setting.name in layer), None)


def _value(setting: _Setting, layers: tuple[_Layer, ...]) -> Any:
    given = _first(layers, setting)
    return None if given is None else _read(setting, given)


def _read(setting: _Setting, given: Given) -> Any:
    with naming(given.where):
        return setting.read(given.value)


def _key(layers: tuple[_Layer, ...], warnings: list[str], here: Path, owns: Collection[Path]) -> Given | None:
    """The key, and where it is; a key in a file belongs to the folder of that file."""
    for layer in layers:
        if _KEY.name in layer:
            return layer[_KEY.name]
        if _KEY_FILE.name in layer:
            given = layer[_KEY_FILE.name]
            path = _read(_KEY_FILE, given)
            source = given.source if given.source == trust.OWN else trust.source_of(path, here, owns)
            return Given(key_in(path, given.where, warnings), str(path), source)
    return None
