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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.operators.model.engine import Kind
from wakestream.streams.protocol.kinds import kind_from

_SLOT = ("accepts", "title", "help", "required")


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of a manifest.

    Attributes:
        kind: Its description.
        own: The engine's own keys of the kind.
        of: The engine's own key `node` of each input, parameter and output, as `{"inputs": {"image": …}, …}`.
    """

    kind: Kind
    own: Mapping[str, Any]
    of: Mapping[str, Mapping[str, str]]


def read_manifest(path: Path, own: Collection[str], needed: Collection[str], node: str | None = None) -> list[Entry]:
    """Read a manifest.

    Args:
        path: The file.
        own: The engine's own keys of a kind.
        needed: Those that each kind must have.
        node: The engine's own key of each input, parameter and output; None if it has none.

    Returns:
        Its kinds, in the order of the file.

    Raises:
        SettingsError: The file is missing or not valid; the message names the place.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the manifest {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the manifest {path} is not valid TOML: {error}") from None
    kinds = found.get("kinds")
    if not isinstance(kinds, dict) or not kinds or len(found) > 1:
        raise SettingsError(f"the manifest {path} must have tables [kinds.NAME] and nothing else")
    return [_entry(f"{path}: kinds.{name}", name, table, own, needed, node) for name, table in kinds.items()]


def _entry(at: str, name: str, table: object, own: Collection[str], needed: Collection[str], node: str | None) -> Entry:
    known = ("title", "help", "inputs", "params", "outputs", *own)
    fields = _table(at, table, known)
    missing = [key for key in needed if key not in fields]
    if missing:
        raise SettingsError(f'{at}: "{missing[0]}" is missing')
    of: dict[str, dict[str, str]] = {"inputs": {}, "params": {}, "outputs": {}}
    slots: dict[str, list[dict[str, Any]]] = {}
    for part in ("inputs", "outputs"):
        given = _table(f"{at}.{part}", fields.get(part, {}))
        slots[part] = [
            {"name": one, **_plain(f"{at}.{part}.{one}", value, _SLOT, node, of[part], one)}
            for one, value in given.items()
        ]
    params: dict[str, Any] = {}
    required: list[str] = []
    for one, value in _table(f"{at}.params", fields.get("params", {})).items():
        declared = _plain(f"{at}.params.{one}", value, None, node, of["params"], one)
        if declared.pop("required", False) is True:
            required.append(one)
        params[one] = declared
    plain: dict[str, Any] = {key: fields[key] for key in ("title", "help") if key in fields}
    if params:
        plain["params"] = {"type": "object", "properties": params, **({"required": required} if required else {})}
    try:
        kind = kind_from({"name": name, **plain, **slots})
    except ValueError as error:
        raise SettingsError(f"{at}: {error}") from None
    return Entry(kind, {key: fields[key] for key in own if key in fields}, of)


def _table(at: str, value: object, known: Collection[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{at} must be a table")
    unknown = [key for key in value if known is not None and key not in known]
    if unknown:
        raise SettingsError(f'{at}: "{unknown[0]}" is unknown; use {", ".join(known or ())}')
    return value


def _plain(
    at: str, value: object, known: Collection[str] | None, node: str | None, of: dict[str, str], name: str
) -> dict[str, Any]:
    """The table of one input, parameter or output without the engine's own key, which goes into `of`."""
    own = () if node is None else (node,)
    fields = dict(_table(at, value, None if known is None else (*known, *own)))
    if node is not None:
        if not isinstance(fields.get(node), str):
            raise SettingsError(f'{at}: "{node}" is missing, a text')
        of[name] = fields.pop(node)
    return fields
