"""A Cog model's OpenAPI schema as a kind, and between the two: what the server is asked, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from wakestream.adapters.engines.http_engine import param_name, seed_of, slot_name, taken_by
from wakestream.operators.model.engine import Kind, Slot, files_of
from wakestream.streams.protocol.kinds import digest_of, lists_of

_KEPT: Final = (
    "type", "title", "description", "default", "minimum", "maximum", "enum", "minLength", "maxLength", "pattern",
    "items", "anyOf", "format", "writeOnly",
)  # fmt: skip

Shape = Literal["value", "files", "text", "object", "unknown"]
"""What a model returns: one value or file, a list of files, a text in pieces, an object with an output in each
property; unknown for a model without a schema."""


@dataclass(frozen=True, slots=True)
class CogModel:
    """A model as a kind.

    Attributes:
        kind: The kind.
        inputs: The model's field of each input file.
        params: The model's field of each parameter.
        outputs: The model's property of each output, if it returns an object.
        texts: The outputs that are never files, whatever they look like.
        shape: What it returns.
    """

    kind: Kind
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    shape: Shape = "unknown"

    def asked(self, params: Mapping[str, Any], urls: Mapping[str, str]) -> dict[str, Any]:
        """The model's input, from the job's parameters and the addresses of its files."""
        model_input: dict[str, Any] = {self.params.get(name, name): value for name, value in params.items()}
        for slot in self.kind.inputs:
            if files := [urls[name] for name in files_of(slot.name, urls)]:
                model_input[self.inputs.get(slot.name, slot.name)] = files if slot.many else files[0]
        return model_input

    def name_of(self, of: str) -> str:
        """The job's field for a field of the model, such as `params.steps`."""
        for part, names in (("inputs", self.inputs), ("params", self.params)):
            for name, model_field in names.items():
                if model_field == of:
                    return f"{part}.{name}"
        return f"params.{of}"

    def made(self, output: Any) -> dict[str, list[Any]]:
        """The values of the model's output by the names of the kind's outputs: several for a list, none for None."""
        slots = [slot.name for slot in self.kind.outputs]
        if isinstance(output, dict) and (self.shape == "object" or (self.shape == "unknown" and len(slots) > 1)):
            return {name: _all(output.get(self.outputs.get(name, name)), name in self.lists) for name in slots}
        if isinstance(output, list):
            output = self._joined(output)
        if isinstance(output, list) and slots[0] not in self.lists and self.shape != "value":
            return {name: [value] for name, value in zip(slots, output, strict=False)}
        return {slots[0]: _all(output, slots[0] in self.lists)}

    def _joined(self, pieces: list[Any]) -> Any:
        """A list that is one output, as this output."""
        accepts = self.kind.outputs[0].accepts
        alone = self.shape == "unknown" and len(self.kind.outputs) == 1
        if self.shape == "text" or (alone and accepts[:1] == (".txt",)):
            return "".join(str(piece) for piece in pieces)
        return [pieces] if alone and accepts[:1] == (".json",) else pieces  # a list of one output, the whole list

    @property
    def lists(self) -> set[str]:
        """The outputs that are lists of files."""
        return lists_of(self.kind.outputs)


def _all(value: Any, many: bool) -> list[Any]:
    values = value if many and isinstance(value, list) else [value]
    return [item for item in values if item is not None]


def model_of_schema(name: str, openapi: Mapping[str, Any]) -> CogModel | None:
    """Return the model that a schema describes, as a kind of this name; None if it is no schema of a Cog model."""
    schemas = (openapi.get("components") or {}).get("schemas") or {}
    if not isinstance(asked := schemas.get("Input"), dict):
        return None
    slots: dict[str, Slot] = {}
    schema: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    params: dict[str, str] = {}
    needed = asked.get("required") or []
    for of, given in sorted((asked.get("properties") or {}).items(), key=lambda item: item[1].get("x-order", 0)):
        field_schema = resolved(given, schemas)
        is_file, many = _files(field_schema, schemas)
        if is_file:
            slot = Slot(
                slot_name(of, taken_by(slots.values()), many=many), accepted(field_schema),
                help=str(field_schema.get("description", "")), required=of in needed, many=many,
            )  # fmt: skip
            slots[slot.name], inputs[slot.name] = slot, of
        else:
            param = param_name(of, schema)
            params[param] = of
            schema[param] = {key: field_schema[key] for key in _KEPT if field_schema.get(key) is not None}
    required = [param for param, of in params.items() if of in needed]
    whole = {"type": "object", "properties": schema, **({"required": required} if required else {})}
    made, shape, outputs = outputs_of(resolved(schemas.get("Output") or {}, schemas), schemas)
    title = str((openapi.get("info") or {}).get("title", ""))
    kind = Kind(
        name, tuple(slots.values()), made, whole if schema else {}, title="" if title == "Cog" else title,
        version=digest_of(openapi), seed=seed_of([param for param, rules in schema.items() if "default" not in rules]),
    )  # fmt: skip
    texts = frozenset(slot.name for slot in made if slot.accepts)
    return CogModel(kind, inputs, params, outputs, texts, shape)


def resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its `$ref`s and `allOf` put in: Cog writes choices as a type of their own."""
    whole = dict(schema)
    for part in [*whole.pop("allOf", ()), *([{"$ref": whole.pop("$ref")}] if "$ref" in whole else [])]:
        target = part
        if "$ref" in part:
            target = resolved(schemas.get(str(part["$ref"]).rpartition("/")[2]) or {}, schemas)
        whole = {**target, **whole}
    return whole


def outputs_of(
    schema: Mapping[str, Any], schemas: Mapping[str, Any]
) -> tuple[tuple[Slot, ...], Shape, Mapping[str, str]]:
    """The outputs of a model, its shape, and the property of each output of an object."""
    properties = schema.get("properties")
    if isinstance(properties, dict) and properties:
        slots: dict[str, Slot] = {}
        names = {}
        media_by_property = {of: _made(resolved(given, schemas), schemas) for of, given in properties.items()}
        # The server sorts them by name; files come first.
        for of in sorted(media_by_property, key=lambda of: bool(media_by_property[of][0])):
            accepts, many = media_by_property[of]
            slot = Slot(slot_name(of, taken_by(slots.values()), many=many), accepts, required=not slots, many=many)
            slots[slot.name], names[slot.name] = slot, of
        return tuple(slots.values()), "object", names
    if schema.get("type") == "array" and schema.get("x-cog-array-display") == "concatenate":
        return (Slot("output", (".txt",)),), "text", {}
    accepts, many = _made(schema, schemas)
    return (Slot("output", accepts, many=many),), "files" if many else "value", {}


def accepted(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The media types of `x-cog-accept`, such as `image/png,audio/*`; none: any file."""
    types = [media_type.strip().partition("/")[0] for media_type in str(schema.get("x-cog-accept") or "").split(",")]
    known = [media_type for media_type in types if media_type in ("image", "audio", "video", "text")]
    return tuple(dict.fromkeys(known)) if len(known) == len(types) else ()


def _files(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a schema is that of files, and whether it is that of a list."""
    many = schema.get("type") == "array"
    item = resolved(schema.get("items") or {}, schemas) if many else schema
    return item.get("format") == "uri", many


def _made(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """What an output accepts (nothing for files, as their ending is the model's own), and whether it is a list."""
    match _files(schema, schemas):
        case True, many:
            return (), many
        case _:
            return (".txt",) if schema.get("type") == "string" else (".json",), False
