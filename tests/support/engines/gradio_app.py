"""An app without a model, for a real Gradio server. Run by the Python of `make engines`, never by that of the tests."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr


def wait_for(gate: str) -> None:
    """Until this file is there; at once without a name."""
    while gate and not Path(gate).exists():
        time.sleep(0.02)


def copy(
    image: str, steps: int = 0, name: str = "out.png", size: int = 0, fail: str = "", gate: str = "",
    seed: int | None = None, progress: Any = gr.Progress(),  # noqa: B008 - so Gradio wants it
) -> tuple[str, str]:  # fmt: skip
    """Copies a file, with progress."""
    with Path("began").open("a") as file:
        file.write("x")
    for step in range(steps):
        progress((step + 1, steps), desc="copying")
        time.sleep(0.1)
    wait_for(gate)
    if fail == "hidden":
        raise ValueError(fail)
    if fail:
        raise gr.Error(fail)
    if name == "nothing":
        return None, "nothing"
    made = Path("made") / name
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(os.urandom(1) * size if size >= 0 else b"")
    if size == 0:
        made.write_bytes(Path(image).read_bytes())
    return str(made), f"seed {seed}"


def many(files: list[str], one: str | None = None) -> tuple[list[str], list[tuple[str, str]]]:
    """Gives the files back, as files and as images."""
    return files, [(each, Path(each).name) for each in files]


def count(upto: int, gate: str = "") -> Iterator[str]:
    """Counts, one number at a time."""
    text = ""
    for n in range(upto):
        text += f"{n} "
        gr.Info(f"at {n}")
        yield text
        time.sleep(0.05)
    wait_for(gate)


def say(text: str, times: int) -> tuple[str, Any, float]:
    """Says a text many times."""
    return text * int(times), {"text": text}, times


def scale(size: int, factors: list[float]) -> dict[str, Any]:
    """Returns what was chosen."""
    return {"size": size, "factors": factors}


def talk(letters: int) -> str:
    """Says a long text."""
    return "x" * letters


def same(file: str) -> str:
    """Returns its file."""
    return file


with gr.Blocks() as app:
    if os.environ.get("MORE"):
        other = gr.Textbox()
        gr.Button().click(lambda text: text, other, other, api_name="first")
    with gr.Row():
        image = gr.File(label="An image", file_types=["image"])
        steps = gr.Slider(0, 20, value=0, step=1, label="Steps")
        name, fail, gate = gr.Textbox("out.png"), gr.Textbox(""), gr.Textbox("")
        size, seed = gr.Number(0, precision=0), gr.Number(None, precision=0)
        out, said = gr.File(label="Bild größe"), gr.Textbox(label="Said")
        gr.Button().click(copy, [image, steps, name, size, fail, gate, seed], [out, said], api_name="copy")
        files, one = gr.File(file_count="multiple", label="Files"), gr.Image(type="filepath", label="One")
        back, gallery = gr.File(file_count="multiple", label="Back"), gr.Gallery(label="Gallery")
        gr.Button().click(many, [files, one], [back, gallery], api_name="many")
        upto, numbers = gr.Number(3, precision=0), gr.Textbox(label="Numbers")
        gr.Button().click(count, [upto, gate], numbers, api_name="count")
        mode = gr.Dropdown(["a", "b"], label="Mode")
        text, value, number = gr.Textbox(label="Text"), gr.JSON(label="Value"), gr.Number(label="Number")
        letters, long = gr.Number(3, precision=0), gr.Textbox(label="Long")
        gr.Button().click(talk, letters, long, api_name="talk")
        given, returned = gr.File(label="Given"), gr.File(label="File")
        gr.Button().click(same, given, returned, api_name="same")
        gr.Button().click(say, [mode, steps], [text, value, number], api_name="say")
        size = gr.Dropdown([256, 512, ("large", 1024)], value=512, label="Size")
        factors = gr.CheckboxGroup([0.5, 2], value=[], label="Factors")
        gr.Button().click(scale, [size, factors], gr.JSON(label="Chosen"), api_name="scale")

app.queue(max_size=2).launch(
    server_name="127.0.0.1", quiet=True, max_file_size=os.environ.get("MAX_FILE"),
    auth=("ada", os.environ["PASSWORD"]) if "PASSWORD" in os.environ else None,
)  # fmt: skip
