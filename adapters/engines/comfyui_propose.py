"""Proposals for the inputs, parameters and outputs of a ComfyUI workflow, by the types of its nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wakestream.adapters.engines.comfyui_workflow import Workflow, input_of
from wakestream.adapters.engines.http_engine import slot_name
from wakestream.streams.protocol.kinds import NAME

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
    "seed": "seed", "noise_seed": "seed", "steps": "steps", "cfg": "cfg", "denoise": "denoise", "width": "width",
    "height": "height", "batch_size": "batch_size", "length": "length", "fps": "fps", "prompt": "prompt",
    "scale_by": "scale",
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
    for node, made in sorted(workflow.items(), key=lambda each: (len(each[0]), each[0])):
        for field, media in _file_inputs(made, info or {}):
            inputs[slot_name(media or field, inputs)] = Place(f"{node}.inputs.{field}", media)
        for field, name in _params(node, workflow):
            params[slot_name(name, params)] = Place(f"{node}.inputs.{field}")
        if (found := _output(made, info or {})) is not None:
            outputs[slot_name(found[0], outputs)] = Place(node, found[1])
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
