"""The file that describes the kinds of an engine: TOML, one table for each kind.

Example:
    [kinds.upscale]
    title = "Upscale an image"
    command = ["upscale", "{in:image}", "{out:image}", "--scale", "{param:scale}"]

    [kinds.upscale.inputs.image]
    accepts = ["image"]

    [kinds.upscale.params.scale]
    type = "integer"
    minimum = 1
    maximum = 8
    default = 2

    [kinds.upscale.outputs.image]
    accepts = [".png"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.adapters.config.setting_files import SettingsError, naming
from wakestream.operators.model.engine import Kind
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.kinds import digest_of, fitting, kind_from, output_ext
from wakestream.streams.protocol.param_schema import check_own

_IDENTITY = ("version", "deterministic", "seed")
"""What says whether a job may get the result of another one."""

MAX_FILE = 16 * 1024 * 1024
"""The most bytes of a manifest, and of a workflow."""

_SLOT = ("accepts", "title", "help", "required", "many")


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of a manifest.

    Attributes:
        kind: Its description.
        own: The engine's own keys of the kind.
        of: The engine's own key of each input, parameter and output, as `{"inputs": {"image": …}, …}`.
    """

    kind: Kind
    own: Mapping[str, Any]
    of: Mapping[str, Mapping[str, str]]


def content_of(path: Path, what: str) -> bytes:
    """The content of a manifest or workflow. Raises `SettingsError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SettingsError(f"the {what} {path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_FILE:
        raise SettingsError(f"{path} has more than {MAX_FILE} bytes, so it is not a {what}; give another file")
    return content


@dataclass(frozen=True, slots=True)
class Keys:
    """What an engine reads of a manifest.

    Attributes:
        own: The engine's own keys of a kind.
        needed: Those that each kind must have.
        node: The engine's own key that each input, parameter and output must have; None: no such key is known.
        output: The engine's own key that an output may have; None: no such key is known.
        many: Whether an output is a list if the file does not say it.
        tasks: What a kind has by its key `task`, as tables of a manifest, unless the file says otherwise.
    """

    own: Collection[str] = ()
    needed: Collection[str] = ()
    node: str | None = None
    output: str | None = None
    many: bool = False
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_manifest(path: Path, keys: Keys) -> list[Entry]:
    """Read a manifest.

    Args:
        path: The file.
        keys: What the engine reads of it.

    Returns:
        Its kinds, in the order of the file.

    Raises:
        SettingsError: The file is missing or not valid; the message names the place.
    """
    return [entry_of(f"{path}: kinds.{name}", name, table, keys) for name, table in tables_of(path).items()]


def tables_of(path: Path) -> dict[str, Any]:
    """The tables of a manifest's kinds, by name. Raises `SettingsError`."""
    try:
        tables = tomllib.loads(content_of(path, "manifest").decode("utf-8-sig"))  # some editors begin with a mark
    except RecursionError:
        raise SettingsError(f"the manifest {path} is nested too deeply") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        advice = "; write texts with backslashes in 'single quotes'" if "Unescaped" in str(error) else ""
        raise SettingsError(f"the manifest {path} is not valid TOML: {error}{advice}") from None
    kinds = tables.get("kinds")
    if not isinstance(kinds, dict) or not kinds or len(tables) > 1:
        raise SettingsError(f"the manifest {path} must have tables [kinds.NAME] and nothing else")
    return kinds


def entry_of(at: str, name: str, table: object, keys: Keys) -> Entry:
    """The kind `name` of a manifest's table; `at` is its place, for messages. Raises `SettingsError`."""
    fields = _table(at, table, ("title", "help", "inputs", "params", "outputs", "models", *_IDENTITY, *keys.own))
    missing = [key for key in keys.needed if key not in fields]
    if missing:
        raise SettingsError(f'{at}: "{missing[0]}" is missing')
    if keys.tasks:
        fields = _of_task(at, fields, keys)
    of: dict[str, dict[str, str]] = {"inputs": {}, "params": {}, "outputs": {}}
    slots = {part: _slots(f"{at}.{part}", fields.get(part, {}), keys, of[part]) for part in ("inputs", "outputs")}
    plain: dict[str, Any] = {key: fields[key] for key in ("title", "help", *_IDENTITY) if key in fields}
    plain["version"] = digest_of({key: str(value) for key, value in fields.items() if key not in ("title", "help")})
    if params := _params(f"{at}.params", fields.get("params", {}), keys, of["params"]):
        plain["params"] = params
    with naming(f"{at}:"):
        kind = kind_from({"name": name, **plain, **slots}, own=True)
    if kind.name == LIPSYNC:
        _check_lipsync(at, kind)
    return Entry(kind, {key: fields[key] for key in keys.own if key in fields}, of)


def _of_task(at: str, fields: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """The table with what its task has, parameter by parameter."""
    if (task := keys.tasks.get(fields["task"]) if isinstance(fields["task"], str) else None) is None:
        raise SettingsError(f'{at}: "task" is {fields["task"]!r}; use {", ".join(keys.tasks)}')
    own = _table(f"{at}.params", fields.get("params", {}))
    params = {name: {**task["params"].get(name, {}), **_table(f"{at}.params.{name}", own.get(name, {}))}
              for name in (*task["params"], *own)}  # fmt: skip
    return {**task, **fields, "params": params}


def _check_lipsync(at: str, kind: Kind) -> None:
    """Deployed clients send a video and an audio file and get an MP4 file."""
    try:
        fitting(kind, {"video": ".mp4", "audio": ".wav"}, {}, ["video"])
        fault = "" if output_ext(kind.outputs[0]) == ".mp4" else "the output video must accept .mp4 first"
    except WrongInput as error:
        fault = str(error)
    if fault:
        raise SettingsError(f"{at}: this name is for jobs of a video and an audio file; take another name, or: {fault}")


def _slots(at: str, table: object, keys: Keys, of: dict[str, str]) -> list[dict[str, Any]]:
    slots = []
    for name, value in _table(at, table).items():
        fields = _without(f"{at}.{name}", value, keys.node, of, name)
        if at.endswith("outputs") and keys.output in fields:
            fields = _without(f"{at}.{name}", fields, keys.output, of, name)
        listed = {"many": True} if keys.many and at.endswith("outputs") else {}
        slots.append({"name": name, **listed, **_table(f"{at}.{name}", fields, _SLOT)})
    return slots


def _params(at: str, table: object, keys: Keys, of: dict[str, str]) -> dict[str, Any]:
    """The JSON Schema of all parameters; empty without parameters."""
    params: dict[str, Any] = {}
    required: list[str] = []
    for name, value in _table(at, table).items():
        schema = _without(f"{at}.{name}", value, keys.node, of, name)
        if schema.pop("required", False) is True:
            required.append(name)
        try:
            check_own(schema)
        except ValueError as error:
            raise SettingsError(f"{at}.{name}{error}") from None
        params[name] = schema
    return {"type": "object", "properties": params, **({"required": required} if required else {})} if params else {}


def _table(at: str, value: object, known: Collection[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{at} must be a table")
    unknown = [key for key in value if known is not None and key not in known]
    if unknown:
        raise SettingsError(f'{at}: "{unknown[0]}" is unknown; use {", ".join(known or ())}')
    return value


def _without(at: str, value: object, key: str | None, of: dict[str, str], name: str) -> dict[str, Any]:
    """The table of one input, parameter or output without the engine's own `key`, which goes into `of`."""
    fields = dict(_table(at, value))
    if key is not None:
        if not isinstance(fields.get(key), str):
            raise SettingsError(f'{at}: "{key}" is missing, a text')
        of[name] = fields.pop(key)
    return fields
