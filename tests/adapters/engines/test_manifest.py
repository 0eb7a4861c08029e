"""The file that describes an engine's kinds, and ComfyUI workflows as kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.comfyui_prompt import NodeTimes, PromptProgress
from wakestream.adapters.engines.comfyui_workflow import Place, load_kinds, load_workflow, propose
from wakestream.adapters.engines.manifest import Keys, read_manifest
from wakestream.operators.model.engine import Frame, Kind, Slot

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "width": 64, "crop": "disabled"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}
INFO = {
    "ImageScale": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 0, "max": 16384, "step": 1, "tooltip": "pixels"}],
                "crop": [["disabled", "center"]],
            }
        }
    }
}
MANIFEST = """
[kinds.scale]
title = "Scale"
workflow = "scale.json"
[kinds.scale.inputs.image]
node = "1.inputs.image"
accepts = ["image"]
[kinds.scale.params.width]
node = "2.inputs.width"
maximum = 512
[kinds.scale.params.crop]
node = "2.crop"
[kinds.scale.outputs.image]
node = "3"
accepts = [".png"]
"""


def written(folder: Path, manifest: str = MANIFEST, workflow: object = WORKFLOW) -> Path:
    (folder / "scale.json").write_text(json.dumps(workflow))
    (folder / "kinds.toml").write_text(manifest)
    return folder / "kinds.toml"


def test_a_workflow_becomes_a_kind_with_the_limits_that_comfyui_knows(tmp_path: Path) -> None:
    kind = load_kinds(written(tmp_path))["scale"].with_schema(INFO).kind
    assert replace(kind, version="") == Kind(
        "scale",
        (Slot("image", ("image",)),),
        (Slot("image", (".png",), many=True),),
        {
            "type": "object",
            "properties": {
                "width": {
                    "type": "integer", "minimum": 0, "maximum": 512, "x-step": 1, "description": "pixels",
                    "default": 64,
                },
                "crop": {"enum": ["disabled", "center"], "default": "disabled"},
            },
        },
        "Scale",
    )  # fmt: skip


def test_a_prompt_has_the_works_files_and_parameters_and_leaves_the_workflow_as_it_was(tmp_path: Path) -> None:
    kind = load_kinds(written(tmp_path))["scale"]
    prompt = kind.prompt({"image": "a (1).png"}, {"width": 128})
    assert prompt["1"]["inputs"]["image"] == "a (1).png"
    assert prompt["2"]["inputs"] == {"image": ["1", 0], "width": 128, "crop": "disabled"}
    assert kind.workflow == WORKFLOW
    assert kind.field_at("2", "width") == "params.width"
    assert kind.field_at("1", "image") == "inputs.image"
    assert kind.field_at("3", "images") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("1.inputs.image", "9.inputs.image"), "its nodes are 1, 2, 3"),
        (("2.inputs.width", "2.inputs.height"), "this node has 2.inputs.image, 2.inputs.width, 2.inputs.crop"),
        (('node = "3"', 'node = "7"'), "the workflow has no node '7'"),
        (('node = "3"', ""), 'outputs.image: "node" is missing'),
        (('workflow = "scale.json"', ""), 'kinds.scale: "workflow" is missing'),
        (('title = "Scale"', 'titel = "Scale"'), '"titel" is unknown; use title'),
        (("[kinds.scale]", "[kinds.Scale]"), "kinds.Scale"),
        (("[kinds.scale]", "[kinds.scale"), "is not valid TOML"),
        (("scale.json", "lost.json"), "lost.json cannot be read"),
        (('accepts = ["image"]', 'accepts = ["image", "3d"]'), "kind scale: image cannot accept '3d'"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_place(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_kinds(written(tmp_path, MANIFEST.replace(*change, 1)))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        ({"nodes": [], "links": []}, "Workflow > Export (API)"),
        ({"1": {"class_type": "X"}}, "is not a workflow in API format"),
        ([], "is not a workflow in API format"),
    ],
)
def test_what_is_not_a_workflow_is_refused_with_the_remedy(tmp_path: Path, workflow: object, words: str) -> None:
    written(tmp_path, workflow=workflow)
    with pytest.raises(SettingsError) as refused:
        load_workflow(tmp_path / "scale.json")
    assert words in str(refused.value)


def test_names_are_proposed_by_the_types_of_the_nodes() -> None:
    two = {
        **WORKFLOW,
        "10": {"class_type": "LoadImage", "inputs": {"image": "b.png"}},
        "11": {"class_type": "EmptyLatentImage", "inputs": {"batch_size": 1}},
    }
    proposal = propose(two)
    assert proposal.inputs == {"image": Place("1.inputs.image", "image"), "image_2": Place("10.inputs.image", "image")}
    assert proposal.params == {"width": Place("2.inputs.width"), "batch_size": Place("11.inputs.batch_size")}
    assert proposal.outputs == {"image": Place("3", ".png")}


def test_custom_nodes_are_proposed_by_what_comfyui_says_of_them() -> None:
    workflow = {
        "1": {"class_type": "PickFile", "inputs": {"path": "a.wav", "steps": 3}},
        "2": {"class_type": "VHS_VideoCombine", "inputs": {"images": ["1", 0], "format": "image/gif"}},
        "3": {"class_type": "VHS_VideoCombine", "inputs": {"images": ["1", 0], "format": "video/h264-mp4"}},
        "4": {"class_type": "KeepIt", "inputs": {"data": ["1", 0], "filename_prefix": "x"}},
        "5": {"class_type": "ShowText", "inputs": {"text": ["1", 0]}},
    }
    info: dict[str, Any] = {
        "PickFile": {"input": {"required": {"path": [[], {"audio_upload": True}]}}},
        "KeepIt": {"output_node": True},
        "ShowText": {"output_node": True},
    }
    proposal = propose(workflow, info)
    assert proposal.inputs == {"audio": Place("1.inputs.path", "audio")}
    assert proposal.params == {"steps": Place("1.inputs.steps")}
    assert proposal.outputs == {"image": Place("2", ".gif"), "video": Place("3", ".mp4"), "output": Place("4")}
    assert propose({"1": {"class_type": "PreviewImage", "inputs": {}}}).outputs == {"image": Place("1", ".png")}


def test_a_value_of_its_own_is_named_by_its_title_and_a_text_is_a_result() -> None:
    proposal = propose(
        {
            "1": {"class_type": "PrimitiveInt", "inputs": {"value": 3}, "_meta": {"title": "Number of faces"}},
            "2": {"class_type": "PrimitiveString", "inputs": {"value": "x"}, "_meta": {"title": "文字"}},
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        }
    )
    assert proposal.params == {"number_of_faces": Place("1.inputs.value"), "value": Place("2.inputs.value")}
    assert proposal.outputs == {"text": Place("3", ".txt")}


def test_a_manifest_of_an_engine_without_nodes_has_the_schema_as_written(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text(
        '[kinds.say]\ncommand = ["say"]\n[kinds.say.params.text]\ntype = "string"\nrequired = true\n'
        '[kinds.say.outputs.audio]\naccepts = [".wav"]\n'
    )
    (entry,) = read_manifest(path, Keys(("command",), ("command",)))
    assert entry.own == {"command": ["say"]}
    assert entry.kind.params == {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def test_progress_counts_nodes_by_what_they_took_before() -> None:
    times, now = NodeTimes(), [0.0]
    progress = PromptProgress("scale", WORKFLOW, times, lambda: now[0])
    assert progress.frame() == Frame(0, 0, 0.0)
    for node, seconds in (("1", 1.0), ("2", 8.0), ("3", 1.0)):
        progress.take("executing", {"node": node})
        now[0] += seconds
    progress.take("executing", {"node": None})
    assert progress.frame().percent == 100.0
    times.learn(progress)
    again = PromptProgress("scale", WORKFLOW, times, lambda: now[0])
    again.take("execution_cached", {"nodes": ["1"]})
    again.take("progress_state", {"nodes": {"2": {"value": 10, "max": 20, "state": "running"}}})
    assert again.frame() == Frame(10, 20, 50.0)
    again.take("progress_state", {"nodes": {"2": {"value": 5, "max": 20, "state": "running"}}})
    assert again.frame().percent == 50.0, "it does not go backwards"


LIPSYNC = """
[kinds.lipsync.inputs.video]
accepts = ["video"]
[kinds.lipsync.inputs.audio]
accepts = ["audio"]
[kinds.lipsync.params.steps]
type = "integer"
default = 4
[kinds.lipsync.outputs.video]
accepts = [".mp4"]
"""


def test_a_kind_named_lipsync_must_do_what_deployed_clients_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text(LIPSYNC)
    (entry,) = read_manifest(path, Keys())
    assert entry.kind.name == "lipsync"
    for change, words in (
        (("inputs.audio", "inputs.speech"), "kind lipsync has no input 'audio'"),
        (("default = 4", "required = true"), "needs the parameter 'steps'"),
        ((".mp4", ".mkv"), "the output video must accept .mp4 first"),
        (("outputs.video", "outputs.result"), "kind lipsync has no output 'video'"),
    ):
        path.write_text(LIPSYNC.replace(*change))
        with pytest.raises(SettingsError, match=f"this name is for jobs of a video and an audio file; .*{words}"):
            read_manifest(path, Keys())


def test_a_manifest_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_bytes(b"\xef\xbb\xbf" + LIPSYNC.replace("\n", "\r\n").encode())
    assert read_manifest(path, Keys())[0].kind.name == "lipsync"


def test_a_text_with_backslashes_in_double_quotes_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text('[kinds.a]\nprogress = "step \\d+"\n')
    with pytest.raises(SettingsError, match=r"line 2, .*; write texts with backslashes in 'single quotes'"):
        read_manifest(path, Keys(("progress",)))


def test_a_changed_workflow_or_manifest_has_another_version_and_a_changed_title_has_not(tmp_path: Path) -> None:
    def version(change: str = "", workflow: object = WORKFLOW) -> str:
        manifest = MANIFEST.replace('title = "Scale"', change) if change else MANIFEST
        return load_kinds(written(tmp_path, manifest, workflow))["scale"].kind.version

    other = {**WORKFLOW, "1": {"class_type": "LoadImage", "inputs": {"image": "other.png"}}}
    assert version() == version('title = "Another"')
    assert len({version(), version(workflow=other), version('version = "2"'), version("deterministic = false")}) == 4


def test_the_seed_of_a_workflow_is_no_default_where_the_manifest_names_it(tmp_path: Path) -> None:
    manifest = MANIFEST.replace('title = "Scale"', 'seed = "width"')
    kind = load_kinds(written(tmp_path, manifest))["scale"].with_schema(INFO).kind
    assert kind.seed == "width"
    assert "default" not in kind.params["properties"]["width"]
    with pytest.raises(SettingsError, match="its seed 'seed' is none of its parameters"):
        load_kinds(written(tmp_path, MANIFEST.replace('title = "Scale"', 'seed = "seed"')))
