"""What the fake ComfyUI runs: its nodes with their descriptions, the check of a prompt, the order, and the cache.

It copies ComfyUI 0.3.64 (`nodes.py`, `comfy_extras/nodes_video.py`, `execution.py`, `comfy_execution/graph.py` and
`caching.py`): what `/object_info` says, the errors of `/prompt`, the order in which nodes run, and that a node with the
same inputs as in the prompt before is not run again. Images and videos are files, and ffmpeg changes them. The nodes
`Test…` are those of `comfyui_nodes.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg

Prompt = Mapping[str, Mapping[str, Any]]
Report = Callable[[int, int], Awaitable[None]]
"""Reports a step of the node that runs; raises `Interrupted` if that is wanted."""


class Interrupted(Exception):
    """The prompt was interrupted."""


@dataclass(frozen=True)
class Folders:
    """ComfyUI's folders, and one for what passes between nodes."""

    root: Path

    def __post_init__(self) -> None:
        for name in ("input", "output", "temp", "between"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def of(self, kind: str) -> Path:
        """The folder `input`, `output` or `temp`."""
        return self.root / kind

    def saved(self, kind: str, prefix: str, ending: str) -> tuple[Path, dict[str, str]]:
        """The path of a new file, and how ComfyUI speaks of it."""
        subfolder, _, name = prefix.rpartition("/")
        folder = self.of(kind) / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        count = max((int(path.stem[len(name) + 1 : -1]) for path in folder.glob(f"{name}_*_*")), default=0)
        path = folder / f"{name}_{count + 1:05}_{ending}"
        return path, {"filename": path.name, "subfolder": subfolder, "type": kind}


def _link(of: str) -> list[Any]:
    return [of]


def _info(
    name: str, required: Mapping[str, Any], *outputs: str, saves: bool = False, **optional: Any
) -> dict[str, Any]:
    inputs = {"required": dict(required), **({"optional": optional} if optional else {})}
    return {
        "input": inputs, "input_order": {group: list(fields) for group, fields in inputs.items()},
        "output": list(outputs), "output_is_list": [False] * len(outputs), "output_name": list(outputs), "name": name,
        "display_name": name, "description": "", "python_module": "nodes", "category": "image", "output_node": saves,
    }  # fmt: skip


_PREFIX = ["STRING", {"default": "ComfyUI", "tooltip": "The prefix for the file to save."}]
INFO = {
    each["name"]: each
    for each in (
        _info("LoadImage", {"image": [[], {"image_upload": True}]}, "IMAGE", "MASK"),
        _info("ImageInvert", {"image": _link("IMAGE")}, "IMAGE"),
        _info("SaveImage", {"images": _link("IMAGE"), "filename_prefix": _PREFIX}, saves=True),
        _info("PreviewImage", {"images": _link("IMAGE")}, saves=True),
        _info("LoadVideo", {"file": ["COMBO", {"multiselect": False, "options": [], "video_upload": True}]}, "VIDEO"),
        _info(
            "SaveVideo",
            {
                "video": _link("VIDEO"), "filename_prefix": _PREFIX,
                "format": ["COMBO", {"default": "auto", "multiselect": False, "options": ["auto", "mp4"]}],
                "codec": ["COMBO", {"default": "auto", "multiselect": False, "options": ["auto", "h264"]}],
            },
            saves=True,
        ),
        _info(
            "TestSteps",
            {
                "image": _link("IMAGE"),
                "steps": ["INT", {"default": 4, "min": 1, "max": 1000, "step": 1, "tooltip": "How many steps."}],
                "seconds": ["FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0, "step": 0.01}],
            },
            "IMAGE",
        ),
        _info(
            "TestWait",
            {"image": _link("IMAGE"), "seconds": ["FLOAT", {"default": 0.0, "min": 0.0, "max": 3600.0}]},
            "IMAGE",
            note=["STRING", {"default": "", "multiline": True}],
            how=[["long", "short"]],
        ),
        _info("PrimitiveString", {"value": ["STRING", {"multiline": False}]}, "STRING"),
        _info("PreviewAny", {"source": ["*", {}]}, saves=True),
        _info("TestFail", {"image": _link("IMAGE"), "text": ["STRING", {"default": "it broke"}]}, "IMAGE"),
        _info(
            "TestFile",
            {"image": _link("IMAGE"), "megabytes": ["INT", {"default": 1, "min": -1, "max": 4096}]},
            saves=True,
        ),
    )
}  # fmt: skip
"""`/object_info`, without the files that are there now."""


def is_link(value: object) -> bool:
    """Whether an input comes from another node."""
    return isinstance(value, list)


def links(node: Mapping[str, Any]) -> list[str]:
    """The nodes that a node takes something from."""
    return [value[0] for value in node["inputs"].values() if is_link(value)]


def check(prompt: Prompt, folders: Folders) -> tuple[dict[str, Any] | None, dict[str, Any], list[str]]:
    """As `validate_prompt`: the error, the errors of nodes, and the outputs that can run. A bad output is left out."""
    for name, node in prompt.items():
        kind = node.get("class_type")
        if kind not in INFO:
            return _error("invalid_prompt", f"Cannot execute because node {kind} does not exist.", f"Node ID '#{name}'")
    outputs = [name for name, node in prompt.items() if INFO[node["class_type"]]["output_node"]]
    if not outputs:
        return _error("prompt_no_outputs", "Prompt has no outputs", "")
    found: dict[str, Any] = {}
    good = []
    for output in outputs:
        wrong = {name: errors for name in ancestors(prompt, output) if (errors := list(_errors(prompt[name], folders)))}
        for name, errors in wrong.items():
            entry = {"errors": errors, "dependent_outputs": [], "class_type": prompt[name]["class_type"]}
            found.setdefault(name, entry)["dependent_outputs"].append(output)
        if not wrong:
            good.append(output)
    if good:
        return None, found, good
    return _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", found)


def _error(
    kind: str, message: str, details: str, nodes: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    return {"type": kind, "message": message, "details": details, "extra_info": {}}, nodes or {}, []


def _errors(node: Mapping[str, Any], folders: Folders) -> Iterator[dict[str, Any]]:
    declared = INFO[node["class_type"]]["input"]
    for name in (*declared["required"], *declared.get("optional", ())):
        if name not in node["inputs"]:
            if name in declared["required"]:
                yield _problem("required_input_missing", "Required input is missing", name, name)
        elif not is_link(node["inputs"][name]):
            of, options = [*({**declared["required"], **declared.get("optional", {})}[name]), {}][:2]
            yield from _value_errors(node["inputs"], name, of, options, folders)


def _value_errors(
    inputs: dict[str, Any], name: str, of: Any, options: Mapping[str, Any], folders: Folders
) -> Iterator[dict[str, Any]]:
    value = inputs[name]
    if options.get("image_upload") or options.get("video_upload"):
        if not (folders.of("input") / str(value)).is_file():
            media = "image" if options.get("image_upload") else "video"
            text = f"{name} - Invalid {media} file: {value}"
            yield _problem("custom_validation_failed", "Custom validation failed for node", text, name)
        return
    try:
        inputs[name] = value = {"INT": int, "FLOAT": float, "STRING": str}.get(str(of), lambda same: same)(value)
    except (TypeError, ValueError) as error:
        words = f"Failed to convert an input value to a {of} value"
        yield _problem("invalid_input_type", words, f"{name}, {value}, {error}", name)
        return
    if "min" in options and value < options["min"]:
        yield _problem("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, name)
    if "max" in options and value > options["max"]:
        yield _problem("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, name)
    if isinstance(of, list) and value not in of:
        yield _problem("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {of}", name)


def _problem(kind: str, message: str, details: str, name: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": name}}


def ancestors(prompt: Prompt, node: str) -> list[str]:
    """A node and all that it needs."""
    found = [node]
    for name in found:
        found += [each for each in links(prompt[name]) if each not in found]
    return found


@dataclass
class Cache:
    """What the nodes of the last prompt gave; the next prompt keeps what it has in common with it."""

    folders: Folders
    known: dict[str, tuple[list[Any], dict[str, Any] | None]] = field(default_factory=dict)

    def keys(self, prompt: Prompt) -> dict[str, str]:
        """The signature of each node: class, inputs, and those of all that it needs. Forgets all other nodes."""
        found: dict[str, str] = {}

        def key(name: str) -> str:
            if name not in found:
                node = prompt[name]
                parts = [str(node["class_type"]), _changed(node, self.folders)]
                for field_, value in sorted(node["inputs"].items()):
                    parts.append(f"{field_}={key(value[0]) if is_link(value) else value!r}")
                found[name] = hashlib.sha256("|".join(parts).encode()).hexdigest()
            return found[name]

        for name in prompt:
            key(name)
        self.known = {each: value for each, value in self.known.items() if each in found.values()}
        return found


def _changed(node: Mapping[str, Any], folders: Folders) -> str:
    """A node that loads a file runs again when the file is another one."""
    name = node["inputs"].get("image" if node["class_type"] == "LoadImage" else "file")
    path = folders.of("input") / str(name)
    if not node["class_type"].startswith("Load") or not path.is_file():
        return ""
    return str(path.stat().st_mtime_ns) if node["class_type"] == "LoadVideo" else str(hash(path.read_bytes()))


def order(prompt: Prompt, outputs: list[str], done: Callable[[str], bool]) -> Iterator[str]:
    """The nodes in the order in which ComfyUI runs them: outputs first, then what leads to one directly."""
    waiting: dict[str, set[str]] = {}
    for output in outputs:
        stack = [output]
        while stack:
            name = stack.pop()
            if name not in waiting:
                waiting[name] = {each for each in links(prompt[name]) if not done(each)}
                stack += [each for each in links(prompt[name]) if not done(each)]

    def saves(name: str) -> bool:
        return bool(INFO[prompt[name]["class_type"]]["output_node"])

    def leads(name: str) -> bool:
        return any(name in waiting[each] and saves(each) for each in waiting)

    while waiting:
        free = [name for name, needs in waiting.items() if not needs]
        name = next(filter(saves, free), None) or next(filter(leads, free), None) or free[0]
        yield name
        del waiting[name]
        for needs in waiting.values():
            needs.discard(name)


async def run_node(
    kind: str, inputs: Mapping[str, Any], folders: Folders, report: Report
) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a node; returns its outputs and what it shows."""
    return await _RUN[kind](inputs, folders, report)


async def _load_image(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], None]:
    path = folders.of("input") / inputs["image"]
    if not await _ffmpeg("-i", str(path), "-frames:v", "1", "-pix_fmt", "rgb24", str(made := _between(folders))):
        raise ValueError(f"cannot identify image file '{path}'")
    return [made, None], None


async def _invert(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], None]:
    await _ffmpeg("-i", str(inputs["image"]), "-vf", "format=rgb24,negate", str(made := _between(folders)))
    return [made], None


async def _save_image(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], dict[str, Any]]:
    temporary = "filename_prefix" not in inputs
    kind, prefix = ("temp", "ComfyUI_temp_fakes") if temporary else ("output", inputs["filename_prefix"])
    path, said = folders.saved(kind, prefix, ".png")
    path.write_bytes(inputs["images"].read_bytes())
    return [], {"images": [said]}


async def _load_video(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], None]:
    return [folders.of("input") / inputs["file"]], None


async def _save_video(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], dict[str, Any]]:
    path, said = folders.saved("output", inputs["filename_prefix"], ".mp4")
    if not await _ffmpeg("-i", str(inputs["video"]), "-c", "copy", str(path)):
        raise ValueError(f"[Errno 1094995529] Invalid data found when processing input: '{inputs['video']}'")
    return [], {"images": [said], "animated": [True]}


async def _steps(inputs: Mapping[str, Any], _: Folders, report: Report) -> tuple[list[Any], None]:
    for step in range(inputs["steps"]):
        await asyncio.sleep(inputs["seconds"])
        await report(step + 1, inputs["steps"])
    return [inputs["image"]], None


async def _wait(inputs: Mapping[str, Any], _: Folders, __: Report) -> tuple[list[Any], None]:
    await asyncio.sleep(inputs["seconds"])
    while Path(inputs.get("note") or "-").exists():  # noqa: ASYNC110 - the test removes it
        await asyncio.sleep(0.01)
    return [inputs["image"]], None


async def _fail(inputs: Mapping[str, Any], _: Folders, __: Report) -> tuple[list[Any], None]:
    raise ValueError(inputs["text"])


async def _string(inputs: Mapping[str, Any], _: Folders, __: Report) -> tuple[list[Any], None]:
    return [inputs["value"]], None


async def _preview_any(inputs: Mapping[str, Any], _: Folders, __: Report) -> tuple[list[Any], dict[str, Any]]:
    return [], {"text": [str(inputs["source"])]}


async def _file(inputs: Mapping[str, Any], folders: Folders, _: Report) -> tuple[list[Any], dict[str, Any]]:
    if inputs["megabytes"] < 0:
        return [], {"files": []}
    path, said = folders.saved("output", "file", ".bin")
    with path.open("wb") as file:
        file.truncate(inputs["megabytes"] * 1024 * 1024)
    return [], {"files": [said]}


_RUN: Mapping[str, Callable[..., Awaitable[tuple[list[Any], dict[str, Any] | None]]]] = {
    "LoadImage": _load_image, "ImageInvert": _invert, "SaveImage": _save_image, "PreviewImage": _save_image,
    "LoadVideo": _load_video, "SaveVideo": _save_video, "TestSteps": _steps, "TestWait": _wait, "TestFail": _fail,
    "TestFile": _file, "PrimitiveString": _string, "PreviewAny": _preview_any,
}  # fmt: skip


def _between(folders: Folders) -> Path:
    return folders.of("between") / f"{len(list(folders.of('between').iterdir()))}.png"


async def _ffmpeg(*arguments: str) -> bool:
    command = (found_ffmpeg(), "-loglevel", "error", "-nostdin", "-y", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    return await process.wait() == 0
