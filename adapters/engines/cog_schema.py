"""A Cog model's OpenAPI schema as a kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from wakestream.operators.model.engine import Kind, Slot

_KEPT: Final = (
    "type", "title", "description", "default", "minimum", "maximum", "enum", "minLength", "maxLength", "pattern",
    "items",
)  # fmt: skip
_MORE: Final = 8
"""Outputs of a model that makes a list; the first is required."""


def kind_of_schema(name: str, openapi: Mapping[str, Any]) -> Kind | None:
    """Return the kind that a schema describes; None if it is no schema of a Cog model."""
    schemas = (openapi.get("components") or {}).get("schemas") or {}
    asked = schemas.get("Input")
    if not isinstance(asked, dict):
        return None
    slots, params = [], {}
    needed = asked.get("required") or []
    ordered = sorted((asked.get("properties") or {}).items(), key=lambda each: each[1].get("x-order", 0))
    for field, found in ordered:
        schema = resolved(found, schemas)
        if schema.get("format") == "uri":
            slots.append(Slot(_name(field), help=str(schema.get("description", "")), required=field in needed))
        else:
            params[field] = {key: schema[key] for key in _KEPT if key in schema}
    required = [field for field in needed if field in params]
    schema = {"type": "object", "properties": params, **({"required": required} if required else {})}
    info = openapi.get("info") or {}
    outputs = outputs_of(resolved(schemas.get("Output") or {}, schemas), schemas)
    return Kind(name, tuple(slots), outputs, schema if params else {}, title=str(info.get("title", "")))


def resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its `$ref`s and `allOf` put in: Cog writes choices as a type of their own."""
    found = dict(schema)
    for part in [*found.pop("allOf", ()), *([{"$ref": found.pop("$ref")}] if "$ref" in found else [])]:
        target = part
        if "$ref" in part:
            target = resolved(schemas.get(str(part["$ref"]).rpartition("/")[2]) or {}, schemas)
        found = {**target, **found}
    return found


def outputs_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The outputs of a model: one file or value, a list of them, or an object with one in each property."""
    properties = schema.get("properties")
    if isinstance(properties, dict) and properties:
        first = next(iter(properties))
        return tuple(
            Slot(_name(field), _accepts(resolved(each, schemas)), required=field == first)
            for field, each in properties.items()
        )
    if schema.get("type") == "array" and schema.get("x-cog-array-type") != "iterator":
        accepts = _accepts(resolved(schema.get("items") or {}, schemas))
        more = tuple(Slot(f"output_{n}", accepts, required=False) for n in range(2, _MORE + 1))
        return (Slot("output", accepts), *more)
    return (Slot("output", _accepts(schema)),)


def _accepts(schema: Mapping[str, Any]) -> tuple[str, ...]:
    if schema.get("format") == "uri":
        return ()
    return (".txt",) if schema.get("type") == "string" else (".json",)


def _name(field: str) -> str:
    """A field's name as a slot's name."""
    return re.sub(r"[^a-z0-9_]", "_", field.lower())[:32]
