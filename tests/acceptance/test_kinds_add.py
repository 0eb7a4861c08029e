"""`wakestream kinds add`, without a ComfyUI and with one, and a worker's engine that reads what it wrote."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines.comfyui_server import FakeComfyUi
from wakestream.adapters.cli import exit_codes, main
from wakestream.adapters.engines import comfyui
from wakestream.adapters.engines.comfyui_workflow import load_kinds
from wakestream.adapters.engines.config import EngineConfig
from wakestream.operators.model.engine import Slot

PAGE = (Path(__file__).parents[2] / "docs" / "engines" / "comfyui.md").read_text(encoding="utf-8")
NOWHERE = ("--url", "http://127.0.0.1:9")
WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 20, "positive": ["6", 0], "negative": ["10", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "big.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": 'a "cat"\n\x7f', "clip": ["4", 1]}},
    "10": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
    "9": {"class_type": "SaveVideo", "inputs": {"video": ["3", 0], "filename_prefix": "v"}},
    "12": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
SIMPLE = {
    "1": WORKFLOW["1"],
    "2": {"class_type": "TestSteps", "inputs": {"image": ["1", 0], "steps": 4, "seconds": 0.0}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put("Portrait (API).json", WORKFLOW)
    return tmp_path


def put(name: str, workflow: object) -> None:
    Path(name).write_text(json.dumps(workflow), encoding="utf-8")


def test_names_are_proposed_and_the_manifest_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["kinds", "add", "Portrait (API).json", "--title", "Portrait", *NOWHERE]) == exit_codes.DONE
    said = capsys.readouterr()
    assert 'node = "3.inputs.seed"  # KSampler: integer, default 7' in said.out
    assert "written to kinds.toml; its workflow is Portrait (API).json" in said.out
    assert "limits and choices are not shown: ComfyUI at http://127.0.0.1:9 does not answer" in said.err
    (kind,) = load_kinds(folder / "kinds.toml").values()
    assert (kind.kind.name, kind.kind.title) == ("portrait_api", "Portrait")
    assert kind.inputs == {"image": ("1", "image")}
    assert kind.kind.inputs == (Slot("image", ("image",)),)
    assert kind.params == {
        "seed": ("3", "seed"), "steps": ("3", "steps"), "checkpoint": ("4", "ckpt_name"), "prompt": ("6", "text"),
        "negative_prompt": ("10", "text"),
    }  # fmt: skip
    assert kind.outputs == {"video": "9"}, "a preview only if nothing is saved"
    assert kind.kind.outputs == (Slot("video", (".mp4",), many=True),), "a list, unless the manifest says many = false"


def test_what_is_named_replaces_the_proposals_and_other_kinds_stay(folder: Path) -> None:
    Path("m").mkdir()
    Path("m/kinds.toml").write_text(
        '# mine\n[kinds.old]\nworkflow = "old.json"\n[kinds.old.outputs.image]\nnode = "3"\n'
    )
    put("m/old.json", SIMPLE)
    words = ["kinds", "add", "Portrait (API).json", "--manifest", "m/kinds.toml", "--name", "face", *NOWHERE]
    more = ["--param", "noise=3.seed", "--in", "photo=1.inputs.image", "--out", "preview=12", "--out", "video=9"]
    assert main.main([*words, *more]) == exit_codes.DONE
    kinds = load_kinds(folder / "m" / "kinds.toml")
    assert list(kinds) == ["old", "face"]
    assert kinds["face"].params == {"noise": ("3", "seed")}
    assert kinds["face"].inputs == {"photo": ("1", "image")}
    assert list(kinds["face"].outputs.items()) == [("preview", "12"), ("video", "9")]
    assert Path("m/face.json").read_bytes() == Path("Portrait (API).json").read_bytes(), "it is copied there"
    assert Path("m/kinds.toml").read_text().startswith("# mine\n")


def test_a_kind_is_replaced_on_request_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("a.json", SIMPLE)
    put("b.json", SIMPLE)
    for name in ("a", "b"):
        assert main.main(["kinds", "add", f"{name}.json", *NOWHERE]) == exit_codes.DONE
    again = ["kinds", "add", "a.json", "--param", "pause=2.seconds", *NOWHERE]
    assert main.main(again) == exit_codes.USAGE
    assert "has a kind 'a'; give --replace" in capsys.readouterr().err
    assert main.main([*again, "--replace"]) == exit_codes.DONE
    kinds = load_kinds(folder / "kinds.toml")
    assert {name: dict(kind.params) for name, kind in kinds.items()} == {
        "b": {"steps": ("2", "steps")}, "a": {"pause": ("2", "seconds")},
    }  # fmt: skip
    put("elsewhere.json", WORKFLOW)
    Path("sub").mkdir()
    Path("elsewhere.json").rename("sub/b.json")
    assert main.main(["kinds", "add", "sub/b.json", "--name", "b", "--replace", *NOWHERE]) == exit_codes.DONE
    assert json.loads(Path("b.json").read_text()) == WORKFLOW


def test_a_manifest_that_cannot_be_used_leaves_everything_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("new.json", SIMPLE)
    put("old.json", SIMPLE)
    assert main.main(["kinds", "add", "old.json", *NOWHERE]) == exit_codes.DONE
    manifest = folder / "kinds.toml"
    manifest.write_text(manifest.read_text() + '[kinds.gone]\nworkflow = "gone.json"\n')
    Path("sub").mkdir()
    for name, data in (("new", SIMPLE), ("old", WORKFLOW)):
        put(f"sub/{name}.json", data)
    Path("new.json").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in ("new", "old"):
        again = ["kinds", "add", f"sub/{name}.json", "--name", name, "--replace", *NOWHERE]
        assert main.main(again) == exit_codes.USAGE
        assert "wakestream: kinds.toml: kinds.gone: kind gone: it needs 1 to 64 outputs" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_nothing_is_written_in_a_dry_run_and_json_is_for_programs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["kinds", "add", "Portrait (API).json", "--dry-run", "--json", *NOWHERE]) == exit_codes.DONE
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "portrait_api"
    assert said["params"]["seed"] == "3.inputs.seed"
    assert said["missing"] is None, "nobody was asked"
    assert not (folder / "kinds.toml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ui.json"], "is in the editor's format; in ComfyUI use Workflow > Export (API)"),
        (["lost.json"], "the workflow lost.json cannot be read: No such file"),
        (["endless"], "endless has more than 16777216 bytes, so it is not a workflow; give another file"),
        (["a.json", "--manifest", "endless"], "endless has more than 16777216 bytes, so it is not a manifest"),
        (["none.json"], "saves a file; name one by --out NAME=NODE, of 1 (LoadImage)"),
        (["a.json", "--name", "Big"], "the name 'Big' is not allowed"),
        (["a.json", "--param", "seed"], "--param 'seed': write NAME=VALUE"),
        (["a.json", "--param", "seed=9.seed"], "the workflow has no input '9.seed'; its nodes are 1, 2, 3"),
        (["a.json", "--param", "seed=2.seed"], "this node has 2.inputs.image, 2.inputs.steps, 2.inputs.seconds"),
        (["a.json", "--param", "image=2.image"], "comes from another node"),
        (["a.json", "--out", "video=9"], "the workflow has no node '9'"),
        (["a.json", "--manifest", "broken.toml"], "the manifest broken.toml is not valid TOML"),
        (["a.json", "--manifest", "a.json/kinds.toml"], "cannot be written"),
        (["a.json", "--name", "x", "--manifest", "inline.toml", "--replace"], "is not written as tables"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    put("a.json", SIMPLE)
    with Path("endless").open("wb") as endless:  # like /dev/zero, but no test fills the memory with it
        endless.truncate(16 * 1024 * 1024 + 1)
    put("ui.json", {"nodes": [], "links": []})
    put("none.json", {"1": SIMPLE["1"]})
    Path("broken.toml").write_text("[kinds")
    Path("inline.toml").write_text('kinds = { x = { workflow = "a.json" } }\n')
    assert main.main(["kinds", "add", *words, *NOWHERE]) == exit_codes.USAGE
    assert said in capsys.readouterr().err
    assert not list(folder.glob("*.new"))


def test_the_page_shows_what_its_commands_write(folder: Path) -> None:
    blocks = re.findall(r"```(\w*).*\n((?:.*\n)*?) *```", PAGE)
    shown = {kind: textwrap.dedent(text) for kind, text in blocks if kind in ("json", "toml")}
    (folder / "invert.json").write_text(shown["json"])
    commands = [shlex.split(line) for _, text in blocks for line in text.splitlines() if "wakestream " in line]
    for _, *words in commands:
        main.parser_of().parse_args(words)
    assert main.main([*commands[0][1:], *NOWHERE]) == exit_codes.DONE
    assert (folder / "kinds.toml").read_text() == shown["toml"]


async def test_a_comfyui_is_asked_for_limits_and_for_what_it_lacks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("a.json", SIMPLE)
    lacking = {
        "7": {"class_type": "TestWait", "inputs": {"image": ["1", 0], "how": "twice"}},
        "8": {"class_type": "Fancy", "inputs": {}},
    }
    put("b.json", {**SIMPLE, **lacking})
    async with FakeComfyUi(folder / "comfyui").runs() as server:
        for name in ("a", "b"):
            words = ["kinds", "add", f"{name}.json", "--url", server.url]
            assert await asyncio.to_thread(main.main, words) == exit_codes.DONE
        said = capsys.readouterr()
        assert 'node = "2.inputs.steps"  # TestSteps: integer from 1 to 1000, default 4' in said.out
        assert said.err.splitlines() == [
            "this ComfyUI does not have node 7, how: twice",
            "this ComfyUI does not have node 8: Fancy",
        ]
        engine = comfyui.create(EngineConfig({"url": server.url, "manifest": "kinds.toml"}))
        try:
            assert [kind.name for kind in await engine.describe()] == ["a", "b"]
            assert (await engine.ready()).ready
            assert [kind.name for kind in await engine.describe()] == ["a"], "b lacks its node Fancy"
        finally:
            await engine.close()
