"""Shows what the GPUs can do: all kinds as a table, or one kind with its inputs, parameters and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n.catalog import given, t
from wakestream.adapters.cli.i18n.catalog import known as has_text
from wakestream.adapters.cli.render.table import paragraphs, table, terminal_columns
from wakestream.adapters.client.hub_query import hub_kinds
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.runtime.printing import answer, say
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import UnknownKind
from wakestream.streams.protocol.known_kinds import GpuOfKind, KnownKind, KnownKinds

_LISTED = 6
"""Names in a cell of the table."""

_LONGEST = 60
"""Characters of a value that are shown."""

_CHOICES = 12
"""Choices of a parameter that are shown."""


def kind_rows(known: KnownKinds) -> list[list[str]]:
    """The rows of the table, with a heading."""
    heading = [t(f"kinds.{name}") for name in ("kind", "inputs", "params", "outputs")]
    return [[*heading, t("cost.gpu")], *(_row(known_kind) for known_kind in known.kinds)]


def _row(known_kind: KnownKind) -> list[str]:
    kind = known_kind.kind
    params = kind.params.get("properties", {})
    return [
        kind.name, _names(map(_slot_name, kind.inputs)), _names(params), _names(map(_slot_name, kind.outputs)),
        _gpus(known_kind.gpus),
    ]  # fmt: skip


def _slot_name(slot: Slot) -> str:
    return slot.name if slot.required else f"[{slot.name}]"


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = [t("kinds.more", count=len(listed) - _LISTED)] if len(listed) > _LISTED else []
    return t("list.comma").join([*listed[:_LISTED], *more]) or "-"


def _gpus(gpus: Iterable[GpuOfKind]) -> str:
    return _names(t("kinds.on" if gpu.online else "kinds.asleep", gpu=gpu.gpu) for gpu in gpus)


def kind_lines(known_kind: KnownKind) -> list[str]:
    """What a job of this kind takes and makes."""
    kind = known_kind.kind
    head = kind.name if not kind.title else f"{kind.name}: {given(kind.title)}"
    parts = [head, *([f"  {given(kind.help)}"] if kind.help else []), *([t("kinds.at", gpus=_gpus(known_kind.gpus))])]
    for heading, cells in (
        ("kinds.inputs_of", [_slot(slot) for slot in kind.inputs]),
        ("kinds.params_of", [*_params(kind)]),
        ("kinds.outputs_of", [_slot(slot) for slot in kind.outputs]),
    ):
        parts += ["", t(heading), *(f"  {line}" for line in table(cells))] if cells else []
    return [*parts, "", t("kinds.example"), f"  {_example(kind)}"]


def _slot(slot: Slot) -> list[str]:
    accepts = ", ".join(slot.accepts) or t("kinds.any_file")
    need = "" if slot.required else t("kinds.optional")
    return [slot.name, accepts, need, _text(slot.title, slot.help)]


def _params(kind: Kind) -> Iterator[list[str]]:
    required = kind.params.get("required", ())
    for name, schema in kind.params.get("properties", {}).items():
        default = t("kinds.default", value=_json(schema["default"])) if "default" in schema else ""
        need = t("kinds.required") if name in required and not default else default
        yield [name, _type(schema), need, _text(schema.get("title"), schema.get("description"))]


def _text(title: object, help_: object) -> str:
    return ": ".join(given(str(text)) for text in (title, help_) if text)


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a parameter and its range, or its choices."""
    if isinstance(choices := schema.get("enum"), list):
        more = [t("kinds.more", count=len(choices) - _CHOICES)] if len(choices) > _CHOICES else []
        return " | ".join([*map(_json, choices[:_CHOICES]), *more])
    given = schema.get("type", "")
    types = given if isinstance(given, list) else [given]
    said = "/".join(t(f"kinds.type.{name}") if has_text(f"kinds.type.{name}") else str(name) for name in types)
    least = _limit(schema, "minimum", "exclusiveMinimum")
    most = _limit(schema, "maximum", "exclusiveMaximum")
    return f"{said} {least}..{most}" if least or most else said


def _limit(schema: Mapping[str, Any], inclusive: str, exclusive: str) -> str:
    return _json(schema[inclusive]) if inclusive in schema else _json(schema[exclusive]) if exclusive in schema else ""


def _json(value: Any) -> str:
    text = value if isinstance(value, str) and value else orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _example(kind: Kind) -> str:
    inputs = [f"--in {slot.name}=FILE" for slot in kind.inputs if slot.required]
    schemas = kind.params.get("properties", {})
    needed = [name for name in kind.params.get("required", ()) if "default" not in schemas.get(name, {})]
    params = [f"--param {name}=VALUE" for name in needed]
    return " ".join(["wakestream submit --kind", kind.name, *inputs, *params])


async def known_kinds(settings: Settings, state: str | None) -> KnownKinds:
    """The kinds, from the daemon if one runs for this hub, else from the hub.

    Args:
        settings: Name the hub and the key.
        state: The daemon's folder, if it is not the usual one.

    Raises:
        HubUnreachable: No daemon runs, and the hub does not answer.
        HubRefused: The hub refuses the connection.
    """
    async with open_daemon_client(state) as client:
        health = await client.look()
        if health is not None and addresses.serves(health.get("hub"), settings.hub_url):
            return await client.kinds()
    return await hub_kinds(settings)


async def show_kinds(settings: Settings, state: str | None, *, as_json: bool) -> int:
    """Print the kinds as a table, or as JSON."""
    known = await known_kinds(settings, state)
    rows = table(kind_rows(known)) if known.kinds else []
    answer(known.plain(), *rows, as_json=as_json)
    if not as_json:
        said = [t("kinds.unknown")] if not known.known else [] if known.complete else [t("kinds.incomplete")]
        none = [t("kinds.none")] if known.complete and not known.kinds else []
        say(*paragraphs([*none, *said], terminal_columns()))
    return exit_codes.DONE


async def show_kind(kind: str, settings: Settings, state: str | None) -> int:
    """Print the inputs, parameters and outputs of a kind.

    Raises:
        UnknownKind: No GPU has it, as far as is known.
    """
    known = await known_kinds(settings, state)
    fitting = [known_kind for known_kind in known.kinds if known_kind.kind.name == kind]
    if not fitting:
        known.check(kind, {}, {}, ["result"])
        have = ", ".join(dict.fromkeys(known_kind.kind.name for known_kind in known.kinds))
        why = f"; known are {have}" if have else "" if known.known else "; the hub does not tell its kinds"
        raise UnknownKind("kind", f"nothing is known of the kind {kind!r}{why}")
    for number, known_kind in enumerate(fitting):
        say(*([""] if number else []), *paragraphs(kind_lines(known_kind), terminal_columns()))
    return exit_codes.DONE
