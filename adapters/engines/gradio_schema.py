"""The endpoints of a Gradio app as kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from wakestream.adapters.engines.http_engine import param_name, seed_of, slot_name, taken_by
from wakestream.operators.model.engine import Kind, Slot, files_of
from wakestream.streams.protocol.kinds import MEDIA, can_be_accepted, lists_of

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("image",), "video": ("video",), "audio": ("audio",), "file": (), "model3d": (), "imageeditor": ("image",),
    "gallery": ("image", "video"), "downloadbutton": (), "uploadbutton": (),
}  # fmt: skip
"""The components whose value is a file or a list of files, and what each accepts."""

Form = Literal["value", "file", "files", "gallery", "editor"]
"""What an argument is: a value, a file, a list of files, a gallery, a picture in an editor."""

Described = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a function.

    Attributes:
        form: What it is.
        name: The job's parameter, or its input; empty for what the app keeps itself.
        default: The value if the job gives none.
    """

    form: Form = "value"
    name: str = ""
    default: Any = None

    def value(self, params: Mapping[str, Any], uploaded: Mapping[str, Described]) -> Any:
        """The argument, from the job's parameters and its uploaded files."""
        if self.form == "value":
            return params.get(self.name, self.default)
        files = [uploaded[name] for name in files_of(self.name, uploaded)]
        if not files:
            return self.default
        match self.form:
            case "files":
                return files
            case "gallery":
                return [{_media(file): file, "caption": None} for file in files]
            case "editor":
                return {"background": files[0], "layers": [], "composite": files[0]}
            case _:
                return files[0]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One function of an app.

    Attributes:
        kind: Its kind.
        fn_index: Its number in the app.
        arguments: Its arguments.
        results: The output of each result; empty for what the app keeps itself.
    """

    kind: Kind
    fn_index: int
    arguments: tuple[Argument, ...]
    results: tuple[str, ...]

    def made(self, data: list[Any]) -> dict[str, list[Any]]:
        """The function's results by the names of the kind's outputs: several for a list, none for None."""
        values_by_output: dict[str, list[Any]] = {}
        for name, value in zip(self.results, data, strict=False):
            values = value if name in lists_of(self.kind.outputs) and isinstance(value, list) else [value]
            values_by_output[name] = [item for item in values if item is not None]
        return values_by_output


def endpoints_of(info: Described, config: Described) -> dict[str, Endpoint]:
    """Return the named endpoints of an app by the names of their kinds.

    Args:
        info: The answer to `/gradio_api/info`.
        config: The answer to `/config`, which has the limits and choices of components.
    """
    components = {component["id"]: component for component in config.get("components") or ()}
    endpoints: dict[str, Endpoint] = {}
    for dependency in config.get("dependencies") or ():
        api_name = str(dependency.get("api_name") or "")
        described = (info.get("named_endpoints") or {}).get(f"/{api_name}")
        if described is not None and described.get("returns"):
            endpoint = _endpoint(slot_name(api_name, endpoints), dependency, described, components)
            endpoints[endpoint.kind.name] = endpoint
    return endpoints


def _endpoint(name: str, dependency: Described, described: Described, components: Mapping[int, Described]) -> Endpoint:
    inputs: dict[str, Slot] = {}
    params: dict[str, Any] = {}
    arguments = []
    needed = []
    for component, given in _pairs(dependency.get("inputs"), described.get("parameters"), components):
        label = str(given.get("parameter_name", ""))
        default = given.get("parameter_default")
        if not given:
            arguments.append(Argument())
        elif _component(given) in FILES:
            slot = _slot(label, given, component, inputs)
            inputs[slot.name] = slot
            arguments.append(Argument(_form(given, component), slot.name, default))
        else:
            param = param_name(label, params)
            params[param] = _schema(given, component.get("props") or {})
            needed += [] if given.get("parameter_has_default") else [param]
            arguments.append(Argument("value", param, default))
    outputs: dict[str, Slot] = {}
    results = []
    for component, given in _pairs(dependency.get("outputs"), described["returns"], components):
        if given:
            slot = _slot(str(given.get("label") or "output"), given, component, outputs, main=not outputs)
            outputs[slot.name] = slot
        results.append(slot.name if given else "")
    schema = {"type": "object", "properties": params, **({"required": needed} if needed else {})}
    help_ = str(described.get("description") or dependency.get("api_description") or "")
    random = any("random" in param.lower() and params[param].get("default") is True for param in params)
    kind = Kind(
        name, tuple(inputs.values()), tuple(outputs.values()), schema if params else {}, help=help_,
        deterministic=False if random else None,
        seed=seed_of([param for param in params if "default" not in params[param]]),
    )  # fmt: skip
    return Endpoint(kind, int(dependency["id"]), tuple(arguments), tuple(results))


def _pairs(ids: Any, described: Any, components: Mapping[int, Described]) -> list[tuple[Described, Described]]:
    """Each component of a function with its description; an empty one for what the app keeps itself."""
    rest = iter(described or ())
    own = [components.get(id_) or {} for id_ in ids or ()]
    return [
        (component, {} if component.get("skip_api") or component.get("type") == "state" else next(rest, {}))
        for component in own
    ]


def _component(described: Described) -> str:
    return str(described.get("component", "")).lower()


def _form(described: Described, component: Described) -> Form:
    if _component(described) in ("gallery", "imageeditor"):
        return "gallery" if _component(described) == "gallery" else "editor"
    return "files" if (component.get("props") or {}).get("file_count") in ("multiple", "directory") else "file"


def _slot(
    label: str, described: Described, component: Described, slots: Mapping[str, Slot], *, main: bool = True
) -> Slot:
    """The slot of an input or a result; one that has a default may be left out."""
    is_file = _component(described) in FILES
    plain = (".txt",) if (described.get("type") or {}).get("type") == "string" else (".json",)
    accepts = _accepted(_component(described), component.get("props") or {}) if is_file else plain
    needed = main and described.get("parameter_has_default") is not True
    many = is_file and _form(described, component) in ("files", "gallery")
    name = slot_name(label, taken_by(slots.values()), many=many)
    return Slot(name, accepts, title=str(described.get("label", "")), required=needed, many=many)


def _accepted(component: str, props: Described) -> tuple[str, ...]:
    """What a component accepts; a file's own types are words such as `image`, and endings."""
    types = tuple(str(file_type).lower() for file_type in props.get("file_types") or ())
    return types if types and all(map(can_be_accepted, types)) else FILES[component]


def _media(file: Described) -> str:
    ending = "." + str(file.get("orig_name", "")).rpartition(".")[2].lower()
    return "video" if ending in MEDIA["video"] - {".gif"} else "image"


def _declared(type_: Described) -> dict[str, Any]:
    """The type by the info. Gradio calls all choices strings; of numbers, the choices themselves are the type."""
    schema = {key: type_[key] for key in ("type", "enum", "items") if type_.get(key)}
    if not all(isinstance(choice, str) for choice in schema.get("enum", ())):
        schema.pop("type", None)
    if "$ref" in str(schema.get("items")):  # the definitions are elsewhere
        del schema["items"]
    elif isinstance(schema.get("items"), dict):
        schema["items"] = _declared(schema["items"])
    return schema


def _schema(parameter: Described, props: Described) -> dict[str, Any]:
    """A parameter's JSON Schema: the type by the info, limits and choices by the component."""
    schema = _declared(parameter.get("type") or {})
    if props.get("allow_custom_value"):
        schema.pop("enum", None)
    for key, word in (("minimum", "minimum"), ("maximum", "maximum"), ("step", "x-step")):
        if isinstance(props.get(key), int | float) and schema.get("type") in ("number", "integer"):
            schema[word] = props[key]
    if _component(parameter) == "slider" and schema.get("type") == "number" and schema.get("x-step") == 1:
        schema["type"] = "integer"
    if "lines" in props and (props.get("lines") or 1) > 1:
        schema["format"] = "multiline"
    schema["title"] = str(parameter.get("label") or "")
    if parameter.get("parameter_default") is not None:
        schema["default"] = parameter["parameter_default"]
    return schema
