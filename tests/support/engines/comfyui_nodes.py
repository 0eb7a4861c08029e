"""Nodes for a real ComfyUI that the tests run against: slow, failing and large ones that need no model.

The tests copy this file into the folder `custom_nodes` of that ComfyUI. `comfyui_graph.py` has the same nodes for the
fake, so both run the same workflows.
"""

import time
from pathlib import Path

import comfy.utils
import folder_paths
from PIL import Image


class TestSteps:
    """Reports its progress with each step, and a preview. An interrupt ends it at the next step."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 4, "min": 1, "max": 1000, "step": 1, "tooltip": "How many steps."}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0, "step": 0.01}),
            }
        }

    def run(self, image, steps, seconds):
        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            time.sleep(seconds)
            bar.update_absolute(step + 1, steps, ("JPEG", Image.new("RGB", (8, 8)), 64))
        return (image,)


class TestWait:
    """Without a sign of life it takes its time, and waits while a file `note` exists. Only then an interrupt works."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        return {
            "required": {"image": ("IMAGE",), "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 3600.0})},
            "optional": {"note": ("STRING", {"default": "", "multiline": True}), "how": (["long", "short"],)},
        }

    def run(self, image, seconds, note="", how="long"):
        time.sleep(seconds)
        while Path(note or "-").exists():
            time.sleep(0.01)
        return (image,)


class TestFail:
    """Raises an error."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        return {"required": {"image": ("IMAGE",), "text": ("STRING", {"default": "it broke"})}}

    def run(self, image, text):
        raise ValueError(text)


class TestFile:
    """Saves a file of so many megabytes: 0 is an empty file, -1 none."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        return {"required": {"image": ("IMAGE",), "megabytes": ("INT", {"default": 1, "min": -1, "max": 4096})}}

    def run(self, image, megabytes):
        if megabytes < 0:
            return {"ui": {"files": []}}
        names = {path.name for path in Path(folder_paths.get_output_directory()).glob("file_*.bin")}
        name = f"file_{len(names) + 1:05}_.bin"
        with Path(folder_paths.get_output_directory(), name).open("wb") as file:
            file.writelines(bytes(1024 * 1024) for _ in range(megabytes))
        return {"ui": {"files": [{"filename": name, "subfolder": "", "type": "output"}]}}


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (TestSteps, TestWait, TestFail, TestFile)}
