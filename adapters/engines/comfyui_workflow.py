"""ComfyUI workflows as kinds: which node inputs are files and parameters, and which nodes make the outputs.

A workflow is in the API format ("Save (API)" or "Export (API)" in ComfyUI): `{node id: {class_type, inputs}}`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.manifest import Entry, content_of, read_manifest
from wakestream.operators.model.engine import Kind
from wakestream.streams.protocol.kinds import digest_of

Workflow = Mapping[str, Mapping[str, Any]]

_TYPES: Final = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}
_LARGEST: Final = 2**53 - 1
"""JSON numbers are exact up to this one."""


@dataclass(frozen=True, slots=True)
class WorkflowKind:
    """A kind and its workflow. `inputs` and `params` are (node, input name), `outputs` are nodes."""

    kind: Kind
    workflow: Workflow
    inputs: Mapping[str, tuple[str, str]]
    params: Mapping[str, tuple[str, str]]
    outputs: Mapping[str, str]

    def prompt(self, inputs: Mapping[str, str], params: Mapping[str, Any], mark: str = "") -> dict[str, Any]:
        """The prompt for one work.

        Args:
            inputs: The names of the uploaded files.
            params: The parameters.
            mark: Goes into the names of the files that are saved. ComfyUI does not run a node again whose inputs are
                those of the prompt before: without a mark it names the old file, even if that was removed since.

        Returns:
            A changed copy of the workflow.
        """
        prompt = copy.deepcopy(dict(self.workflow))
        for node in self.outputs.values() if mark else ():
            prefix = prompt[node]["inputs"].get("filename_prefix")
            if isinstance(prefix, str):
                prompt[node]["inputs"]["filename_prefix"] = f"{prefix}_{mark}"
        for places, values in ((self.inputs, inputs), (self.params, params)):
            for name, value in values.items():
                node, field = places[name]
                prompt[node]["inputs"][field] = value
        return prompt

    def field_at(self, node: str, name: str) -> str | None:
        """The job's field that fills this input of a node, such as `params.seed`."""
        for part, places in (("inputs", self.inputs), ("params", self.params)):
            for field, place in places.items():
                if place == (node, name):
                    return f"{part}.{field}"
        return None

    def with_schema(self, info: Mapping[str, Any]) -> WorkflowKind:
        """The same kind, with what `/object_info` says of its parameters; the manifest's own words come first."""
        own = self.kind.params.get("properties", {})
        properties = {name: described(self.workflow, place, info) for name, place in self.params.items()}
        if self.kind.seed:  # the workflow's own seed would be that of all jobs
            properties[self.kind.seed].pop("default", None)
        properties = {name: {**schema, **own[name]} for name, schema in properties.items()}
        schema = {**self.kind.params, "properties": properties} if properties else {}
        return replace(self, kind=replace(self.kind, params=schema))


def load_kinds(manifest: Path) -> dict[str, WorkflowKind]:
    """Read a manifest and the workflows that it names. Raises `SettingsError`."""
    entries = read_manifest(manifest, own=("workflow",), needed=("workflow",), node="node", many=True)
    return {entry.kind.name: _kind(manifest, entry) for entry in entries}


def _kind(manifest: Path, entry: Entry) -> WorkflowKind:
    at = f"{manifest}: kinds.{entry.kind.name}"
    workflow = load_workflow(manifest.parent / str(entry.own["workflow"]))
    places: dict[str, dict[str, tuple[str, str]]] = {}
    for part in ("inputs", "params"):
        places[part] = {name: place_of(f"{at}.{part}.{name}", text, workflow) for name, text in entry.of[part].items()}
    if (many := next((slot.name for slot in entry.kind.inputs if slot.many), None)) is not None:
        raise SettingsError(f"{at}.inputs.{many}: a node of ComfyUI takes one file; leave out many")
    for name, node in entry.of["outputs"].items():
        if node not in workflow:
            raise SettingsError(f"{at}.outputs.{name}: the workflow has no node {node!r}; correct the node's number")
    kind = replace(entry.kind, version=digest_of([entry.kind.version, workflow]))
    return WorkflowKind(kind, workflow, places["inputs"], places["params"], entry.of["outputs"])


def load_workflow(path: Path) -> dict[str, dict[str, Any]]:
    """Read a workflow in API format. Raises `SettingsError` with what to do for any other file."""
    try:
        found = orjson.loads(content_of(path, "workflow"))
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"the workflow {path} is not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("nodes"), list):
        raise SettingsError(
            f"the workflow {path} is in the editor's format; in ComfyUI use Workflow > Export (API) and give that file"
        )
    if isinstance(found, dict) and isinstance(found.get("prompt"), dict):
        found = found["prompt"]
    nodes = found.values() if isinstance(found, dict) else ()
    if not nodes or not all(map(_is_node, nodes)):
        raise SettingsError(f"the workflow {path} is not a workflow in API format: {{node: {{class_type, inputs}}}}")
    return dict(found)


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("inputs"), dict) and isinstance(node.get("class_type"), str)


def place_of(at: str, text: str, workflow: Workflow) -> tuple[str, str]:
    """The node and the input of `3.inputs.seed` (or `3.seed`). Raises `SettingsError`."""
    node, _, field = text.partition(".")
    field = field.removeprefix("inputs.")
    if node not in workflow or field not in workflow[node]["inputs"]:
        have = ", ".join(f"{node}.inputs.{name}" for name in workflow[node]["inputs"]) if node in workflow else ""
        hint = f"this node has {have}" if have else f"its nodes are {', '.join(workflow)}"
        raise SettingsError(f"{at}: the workflow has no input {text!r}; {hint}")
    return node, field


def described(workflow: Workflow, place: tuple[str, str], info: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of one input of a node, from `/object_info` and the workflow's own value as the default."""
    node, field = place
    value = workflow[node]["inputs"][field]
    declared = input_of(info, workflow[node]["class_type"], field)
    schema: dict[str, Any] = {}
    if declared is not None:
        of, options = declared
        choices = of if isinstance(of, list) else options.get("options") if of == "COMBO" else None
        if choices:
            schema = {"enum": choices}
        elif isinstance(of, str) and of in _TYPES:
            schema = {"type": _TYPES[of], **_limits(options)}
        if options.get("multiline"):
            schema["format"] = "multiline"
        if options.get("tooltip"):
            schema["description"] = str(options["tooltip"])
    if not schema and isinstance(value, bool | int | float | str):
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
        schema = {"type": kinds[type(value)]}
    exact = not isinstance(value, list) and (not isinstance(value, int) or abs(value) <= _LARGEST)
    return {**schema, "default": value} if exact else schema


def _limits(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {"minimum": options.get("min"), "maximum": options.get("max"), "x-step": options.get("step")}
    limits = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return {name: value for name, value in limits.items() if abs(value) <= _LARGEST}


def input_of(info: Mapping[str, Any], class_type: str, field: str) -> tuple[Any, Mapping[str, Any]] | None:
    """The declared type and options of a node's input; None if ComfyUI does not know them."""
    inputs = (info.get(class_type) or {}).get("input", {})
    for group in ("required", "optional"):
        declared = (inputs.get(group) or {}).get(field)
        if declared:
            return declared[0], declared[1] if len(declared) > 1 and isinstance(declared[1], Mapping) else {}
    return None
