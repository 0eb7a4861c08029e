"""The endpoints of a Gradio app as kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wakestream.operators.model.engine import Kind, Slot

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("image",), "video": ("video",), "audio": ("audio",), "file": (), "model3d": (), "imageeditor": ("image",),
    "downloadbutton": (), "uploadbutton": (),
}  # fmt: skip
"""The components whose value is a file, and what each accepts."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One function of an app.

    Attributes:
        kind: Its kind.
        fn_index: Its number in the app.
        arguments: The job's field of each argument, such as `inputs.image`; None for the app's own state.
        results: The output of each result; None for the app's own state.
    """

    kind: Kind
    fn_index: int
    arguments: tuple[str | None, ...]
    results: tuple[str | None, ...]


def endpoints_of(info: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Endpoint]:
    """Return the named endpoints of an app by the names of their kinds.

    Args:
        info: The answer to `/gradio_api/info`.
        config: The answer to `/config`, which has the limits and choices of components.
    """
    components = {each["id"]: each for each in config.get("components") or ()}
    found = {}
    for dependency in config.get("dependencies") or ():
        api_name = str(dependency.get("api_name") or "")
        described = (info.get("named_endpoints") or {}).get(f"/{api_name}")
        if described is not None and described.get("returns"):
            endpoint = _endpoint(_word(api_name), dependency, described, components)
            found[endpoint.kind.name] = endpoint
    return found


def _endpoint(
    name: str, dependency: Mapping[str, Any], described: Mapping[str, Any], components: Mapping[int, Mapping[str, Any]]
) -> Endpoint:
    inputs: dict[str, Slot] = {}
    params: dict[str, Any] = {}
    arguments: list[str | None] = []
    given = iter(described.get("parameters") or ())
    for one in dependency.get("inputs") or ():
        component = components.get(one) or {}
        parameter = None if component.get("type") == "state" else next(given, None)
        if parameter is None:
            arguments.append(None)
            continue
        if _is_file(parameter):
            slot = _slot(_word(str(parameter["parameter_name"])), parameter, inputs)
            inputs[slot.name] = slot
            arguments.append(f"inputs.{slot.name}")
        else:
            field = re.sub(r"\W", "_", str(parameter["parameter_name"]))[:32]
            params[field] = _schema(parameter, component.get("props") or {})
            arguments.append(f"params.{field}")
    outputs: dict[str, Slot] = {}
    results: list[str | None] = []
    returned = iter(described["returns"])
    for one in dependency.get("outputs") or ():
        made = None if (components.get(one) or {}).get("type") == "state" else next(returned, None)
        if made is not None:
            slot = _slot(_word(str(made.get("label") or "output")), made, outputs, required=not outputs)
            outputs[slot.name] = slot
        results.append(None if made is None else slot.name)
    required = [field for field, schema in params.items() if "default" not in schema]
    schema = {"type": "object", "properties": params, **({"required": required} if required else {})}
    help_ = str(dependency.get("api_description") or "")
    kind = Kind(name, tuple(inputs.values()), tuple(outputs.values()), schema if params else {}, help=help_)
    return Endpoint(kind, int(dependency["id"]), tuple(arguments), tuple(results))


def _slot(name: str, described: Mapping[str, Any], taken: Mapping[str, Slot], *, required: bool = True) -> Slot:
    component = str(described.get("component", "")).lower()
    accepts = FILES.get(component, (".json",) if component in ("json", "label") else (".txt",))
    free = name if name not in taken else next(f"{name}_{n}" for n in range(2, 99) if f"{name}_{n}" not in taken)
    optional = described.get("parameter_has_default") is True
    return Slot(free, accepts, title=str(described.get("label", "")), required=required and not optional)


def _is_file(described: Mapping[str, Any]) -> bool:
    return str(described.get("component", "")).lower() in FILES


def _schema(parameter: Mapping[str, Any], props: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's JSON Schema: the type by the info, limits and choices by the component."""
    declared = parameter.get("type") or {}
    schema = {key: declared[key] for key in ("type", "enum", "items") if key in declared}
    for key, word in (("minimum", "minimum"), ("maximum", "maximum"), ("step", "x-step")):
        if isinstance(props.get(key), int | float) and schema.get("type") in ("number", "integer"):
            schema[word] = props[key]
    if isinstance(schema.get("x-step"), int) and schema.get("type") == "number" and schema.get("x-step") == 1:
        schema["type"] = "integer"
    if "lines" in props and (props.get("lines") or 1) > 1:
        schema["format"] = "multiline"
    schema["title"] = str(parameter.get("label") or "")
    if parameter.get("parameter_has_default"):
        schema["default"] = parameter.get("parameter_default")
    return schema


def _word(text: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:32]
    return word if word[:1].isalpha() else f"f_{word}"[:32]
