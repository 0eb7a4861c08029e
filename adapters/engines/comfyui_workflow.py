"""ComfyUI workflows as kinds: which node inputs are files and parameters, and which nodes make the outputs.

A workflow is in the API format ("Save (API)" or "Export (API)" in ComfyUI): `{node id: {class_type, inputs}}`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.http_engine import slot_name
from wakestream.adapters.engines.manifest import Entry, Keys, content_of, read_manifest
from wakestream.operators.model.engine import Kind
from wakestream.streams.protocol.kinds import NAME, digest_of

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
    entries = read_manifest(manifest, Keys(("workflow",), ("workflow",), node="node", many=True))
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
        content = orjson.loads(content_of(path, "workflow"))
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"the workflow {path} is not JSON: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        raise SettingsError(
            f"the workflow {path} is in the editor's format; in ComfyUI use Workflow > Export (API) and give that file"
        )
    if isinstance(content, dict) and isinstance(content.get("prompt"), dict):
        content = content["prompt"]
    nodes = content.values() if isinstance(content, dict) else ()
    if not nodes or not all(map(_is_node, nodes)):
        raise SettingsError(f"the workflow {path} is not a workflow in API format: {{node: {{class_type, inputs}}}}")
    return dict(content)


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
        if choices:  # a model that is still to be fetched is a choice too
            schema = {"enum": [*choices, *([value] if isinstance(value, str) and value not in choices else [])]}
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
    values = {"minimum": options.get("min"), "maximum": options.get("max"), "x-step": options.get("step")}
    limits = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return {name: value for name, value in limits.items() if abs(value) <= _LARGEST}


def input_of(info: Mapping[str, Any], class_type: str, field: str) -> tuple[Any, Mapping[str, Any]] | None:
    """The declared type and options of a node's input; None if ComfyUI does not know them."""
    inputs = (info.get(class_type) or {}).get("input", {})
    for group in ("required", "optional"):
        declared = (inputs.get(group) or {}).get(field)
        if declared:
            return declared[0], declared[1] if len(declared) > 1 and isinstance(declared[1], Mapping) else {}
    return None


# Proposals for the inputs, parameters and outputs of a ComfyUI workflow, by the types of its nodes.

UPLOADS: Final = {"image_upload": "image", "video_upload": "video", "audio_upload": "audio", "file_upload": ""}
"""The options with which `/object_info` marks an input that takes an uploaded file, and the media type."""

FILE_NODES: Final = {
    "LoadImage": ("image", "image"), "LoadImageMask": ("image", "image"), "LoadVideo": ("file", "video"),
    "LoadAudio": ("audio", "audio"), "VHS_LoadVideo": ("video", "video"), "VHS_LoadAudioUpload": ("audio", "audio"),
}  # fmt: skip
"""Well-known nodes that load a file: the input and the media type."""

OUTPUT_NODES: Final = {
    "SaveImage": ("image", ".png"), "PreviewImage": ("image", ".png"), "SaveAnimatedWEBP": ("image", ".webp"),
    "SaveVideo": ("video", ".mp4"), "SaveWEBM": ("video", ".webm"), "VHS_VideoCombine": ("video", ".mp4"),
    "SaveAudio": ("audio", ".flac"), "SaveAudioMP3": ("audio", ".mp3"), "SaveAudioOpus": ("audio", ".opus"),
    "SaveGLB": ("mesh", ".glb"), "PreviewAny": ("text", ".txt"), "ShowText|pysssss": ("text", ".txt"),
}  # fmt: skip
"""Well-known nodes that save a file: the name that is proposed and the ending."""

PREVIEWS: Final = ("PreviewImage", "PreviewAny", "ShowText|pysssss")
"""Output nodes that are proposed only if nothing is saved."""

PARAMS: Final = {
    "ckpt_name": "checkpoint", "unet_name": "model", "lora_name": "lora", "seed": "seed", "noise_seed": "seed",
    "steps": "steps", "cfg": "cfg", "denoise": "denoise", "width": "width", "height": "height",
    "batch_size": "batch_size", "length": "length", "fps": "fps", "prompt": "prompt", "scale_by": "scale",
}  # fmt: skip
"""Names of node inputs that people change from job to job, and the names that are proposed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node input such as `5.inputs.image`, or a node; `accepts` is the media type or the ending of the file."""

    place: str
    accepts: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The proposed names, each with its place."""

    inputs: Mapping[str, Place]
    params: Mapping[str, Place]
    outputs: Mapping[str, Place]


def propose(workflow: Workflow, info: Mapping[str, Any] | None = None) -> Proposal:
    """Propose names for the file inputs, the parameters and the outputs of a workflow.

    Args:
        workflow: The workflow.
        info: ComfyUI's `/object_info`, if there is one to ask.

    Returns:
        The names, in the order of the nodes.

    Example:
        >>> propose({"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}).inputs
        {'image': Place(place='1.inputs.image', accepts='image')}
    """
    inputs: dict[str, Place] = {}
    params: dict[str, Place] = {}
    outputs: dict[str, Place] = {}
    for node, made in sorted(workflow.items(), key=lambda item: (len(item[0]), item[0])):
        for field, media in _file_inputs(made, info or {}):
            inputs[slot_name(media or field, inputs)] = Place(f"{node}.inputs.{field}", media)
        for field, name in _params(node, workflow):
            params[slot_name(name, params)] = Place(f"{node}.inputs.{field}")
        if (output := _output(made, info or {})) is not None:
            outputs[slot_name(output[0], outputs)] = Place(node, output[1])
    saved = {name: place for name, place in outputs.items() if workflow[place.place]["class_type"] not in PREVIEWS}
    return Proposal(inputs, params, saved or outputs)


def file_input(class_type: str, field: str, info: Mapping[str, Any]) -> str | None:
    """The media type of an input that takes an uploaded file, empty for any file; None for another input."""
    known = FILE_NODES.get(class_type)
    if known is not None and known[0] == field:
        return known[1]
    declared = input_of(info, class_type, field)
    marks = [media for mark, media in UPLOADS.items() if declared is not None and declared[1].get(mark)]
    return marks[0] if marks else None


def _file_inputs(made: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, value in made["inputs"].items():
        media = None if isinstance(value, list) else file_input(str(made.get("class_type")), field, info)
        if media is not None:
            yield field, media


def _params(node: str, workflow: Workflow) -> Iterator[tuple[str, str]]:
    """The inputs of a node that have a value of their own and are worth a parameter."""
    made = workflow[node]
    for field, value in made["inputs"].items():
        if isinstance(value, list):
            continue
        if field in PARAMS:
            yield field, PARAMS[field]
        elif field == "text" and str(made.get("class_type")).startswith("CLIPTextEncode"):
            yield field, "negative_prompt" if _is_negative(node, workflow) else "prompt"
        elif field == "value" and str(made.get("class_type")).startswith("Primitive"):
            yield field, _titled(made)


def _titled(made: Mapping[str, Any]) -> str:
    """The title that a person gave a node, as a name."""
    title = re.sub(r"[^a-z0-9]+", "_", str(made.get("_meta", {}).get("title", "")).lower()).strip("_")[:32]
    return title if NAME.fullmatch(title) else "value"


def _is_negative(node: str, workflow: Workflow) -> bool:
    """Whether something takes this node as its negative conditioning."""
    return any(made["inputs"].get("negative", [None])[:1] == [node] for made in workflow.values())


def _output(made: Mapping[str, Any], info: Mapping[str, Any]) -> tuple[str, str] | None:
    """The proposed name of what a node saves, and its ending; None if it saves nothing."""
    class_type = str(made.get("class_type"))
    if class_type == "VHS_VideoCombine" and str(made["inputs"].get("format", "")).startswith("image/"):
        return "image", "." + str(made["inputs"]["format"]).partition("/")[2]
    if class_type in OUTPUT_NODES:
        return OUTPUT_NODES[class_type]
    saves = info.get(class_type, {}).get("output_node") and "filename_prefix" in made["inputs"]
    return ("output", "") if saves else None
