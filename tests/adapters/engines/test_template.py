"""Command lines with placeholders: which arguments a program gets, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wakestream.adapters.engines.command import is_batch_file
from wakestream.adapters.engines.template import Template, Values, template_of
from wakestream.operators.model.engine import PREVIEW_FILE, Kind, Slot
from wakestream.operators.model.errors import WrongInput

KIND = Kind(
    "paint",
    (Slot("image"), Slot("mask", required=False)),
    (Slot("image", (".png",)), Slot("log", (".txt",), required=False)),
    {
        "properties": {
            "text": {"type": "string"},
            "seed": {"type": "integer"},
            "scale": {"type": "number", "default": 1.5},
            "fast": {"type": "boolean"},
        },
        "required": ["text"],
    },
)
WORDS: list[Any] = [
    "paint", "{in:image}", ["--mask", "{in:mask}"], ["--seed", "{param:seed}"], "--scale={param:scale}",
    ["{if:fast}", "--fast"], "--text={param:text}", "{out:image}", ["--log", "{out:log}"],
]  # fmt: skip
IN, OUT = Path("/in/a.png"), Path("/out")


def argv(
    words: Sequence[Any] = WORDS, *, batch: bool = False, wanted: Sequence[str] = ("image",), **params: Any
) -> Any:
    """The arguments, for the parameters and the text `x`."""
    return filled(template_of(words, KIND), {"text": "x", "scale": 1.5, **params}, wanted, batch=batch)


def filled(template: Template, params: Mapping[str, Any], wanted: Sequence[str], *, batch: bool = False) -> list[str]:
    outputs = {"image": OUT / "image.png", "log": OUT / "log.txt"}
    return template.argv(Values({"image": IN}, params, outputs, wanted, OUT), batch=batch)[1:]


def text_only(word: str, *before: str) -> Template:
    """A template whose last argument is `word`, with the parameter `text`."""
    kind = Kind("say", (), (Slot("image"),), {"properties": {"text": {}}, "required": ["text"]})
    return template_of(["say", "{out:image}", *before, word], kind)


def test_groups_are_left_out_if_a_value_is_missing() -> None:
    given_image, given_output = str(IN.absolute()), str((OUT / "image.png").absolute())
    assert argv() == [given_image, "--scale=1.5", "--text=x", given_output]
    assert argv(seed=0, fast=False) == [given_image, "--seed", "0", "--scale=1.5", "--text=x", given_output]
    assert argv(fast=True, wanted=("image", "log"))[2:] == [
        "--fast", "--text=x", given_output, "--log", str((OUT / "log.txt").absolute()),
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "used"), [(True, True), (0, True), ("x", True), (False, False), ("", False)])
def test_a_switch_is_set_unless_its_parameter_is_false_empty_or_missing(value: object, used: bool) -> None:
    assert ("--fast" in argv(fast=value)) is used


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (7, "7"),
        (-0.5, "-0.5"),
        ([1, "a"], '[1,"a"]'),
        ({"a": None}, '{"a":null}'),
    ],
)
def test_a_value_is_one_argument_as_it_is(value: object, text: str) -> None:
    assert filled(text_only("{param:text}"), {"text": value}, ["image"])[-1] == text


@example("$HOME; rm -rf / | x `y` {in:image} %PATH%")
@given(st.text().filter(lambda text: not text.startswith("-") and "\0" not in text))
def test_any_text_reaches_the_program_unchanged(text: str) -> None:
    try:
        assert filled(text_only("{param:text}"), {"text": text}, ["image"])[-1] == text
        assert filled(text_only("--text={param:text}!"), {"text": text}, ["image"])[-1] == f"--text={text}!"
    except WrongInput:
        assert any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parametrize("value", ["-rf", "--output=/etc/passwd", "-", "--"])
def test_a_text_that_looks_like_an_option_is_refused_where_it_stands_alone(value: str) -> None:
    for word in ("{param:text}", "{param:text}.png"):
        with pytest.raises(WrongInput, match=r"parameter text: '-.*' begins with '-', so the program") as refused:
            filled(text_only(word), {"text": value}, ["image"])
        assert refused.value.field == "params.text"
    assert filled(text_only("--text={param:text}"), {"text": value}, ["image"])[-1] == f"--text={value}"
    assert filled(text_only("{param:text}", "--"), {"text": value}, ["image"])[-1] == value


def test_a_negative_number_is_no_option() -> None:
    assert filled(text_only("{param:text}"), {"text": -5}, ["image"])[-1] == "-5"
    with pytest.raises(WrongInput):
        filled(text_only("{param:text}rf"), {"text": -5}, ["image"])


@pytest.mark.parametrize("value", ["a\0b", "half \ud83c"])
def test_a_character_that_no_argument_can_have_is_refused(value: str) -> None:
    with pytest.raises(WrongInput, match="parameter text has a character") as refused:
        argv(text=value)
    assert refused.value.field == "params.text"


@pytest.mark.parametrize("letter", ['"', "%", "&", "|", "<", ">", "^", "!", "(", "\n", "\r"])
def test_a_batch_file_gets_no_character_that_its_shell_would_read(letter: str) -> None:
    """Python's documentation of `subprocess`: batch files are run by a system shell, arguments may be parsed by it."""
    assert argv(text=f"a{letter}calc")
    with pytest.raises(WrongInput, match="is not safe for a batch file") as refused:
        argv(text=f"a{letter}calc", batch=True)
    assert refused.value.field == "params.text"
    assert argv(text="plain words, 说话", batch=True)


def test_batch_files_are_known_by_their_ending() -> None:
    assert all(is_batch_file(name) for name in (r"C:\x\Paint.BAT", "paint.cmd"))
    assert not any(is_batch_file(name) for name in ("paint.exe", "paint", "cmd"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "must be a list of texts"),
        ("paint {in:image}", "must be a list of texts"),
        ([["paint"], "{in:image}"], "must be a list of texts"),
        (["{param:text}", "x"], "the program '{param:text}' must not have a placeholder"),
        (["paint", 7], "7 must be a text"),
        (["paint", ["a", ["b"]]], "must be a text, or a list of texts"),
        ([*WORDS, "{in:picture}"], "{in:picture}: the kind has no such input; it has image, mask"),
        ([*WORDS, "{param:Seed}"], "{param:Seed}: the kind has no such parameter; it has text, seed, scale, fast"),
        ([*WORDS, "{out:video}"], "{out:video}: the kind has no such output; it has image, log"),
        ([*WORDS, ["{if:slow}", "x"]], "{if:slow}: the kind has no such parameter"),
        ([*WORDS, "{input:image}"], "{input:image}: write {in:NAME}"),
        ([word for word in WORDS if word != "--text={param:text}"], "uses the parameter text; add {param:text}"),
        ([word for word in WORDS if word != "{out:image}"], "no argument uses the output image; add {out:image}"),
        ([*WORDS, "--seed={param:seed}"], "{param:seed} may have no value; put it into a list of its own"),
        ([*WORDS, "{in:mask}"], "{in:mask} may have no value"),
        ([*WORDS, "{if:fast}"], "write {if:NAME} as a word of a group"),
        ([*WORDS, ["--x={if:fast}"]], "write {if:NAME} as a word of a group"),
    ],
)  # fmt: skip
def test_a_template_that_does_not_fit_its_kind_is_refused(words: object, reason: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole sentence is compared
        template_of(words, KIND)
    assert reason in str(refused.value)


def test_other_braces_are_text() -> None:
    kept = ['{"a": 1}', "{}", "{0}", "{name}", "%(x)s", "frame_{index:03d}.png"[:13] + ".png"]
    assert argv([*WORDS, *kept])[-len(kept) :] == kept


def test_the_works_folder_and_the_place_of_its_preview_can_be_arguments() -> None:
    words = ["say", "--dir={folder}", "{preview}"]
    template = template_of(words, Kind("say", (), (Slot("text"),)), searched=("text",))
    assert filled(template, {}, ["text"]) == [f"--dir={OUT.absolute()}", f"{OUT.absolute() / PREVIEW_FILE}"]


@pytest.mark.skipif(sys.platform == "win32", reason="the command line of Windows has a limit of its own")
def test_the_longest_parameters_fit_into_one_argument() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys; print(len(sys.argv[1]))", argv(text="x" * 16_000)[2]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == str(16_000 + len("--text="))
