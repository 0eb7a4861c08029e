"""A command line with placeholders, and the arguments that a program gets for one work.

`{in:NAME}` and `{out:NAME}` are the paths of files, `{param:NAME}` is the value of a parameter, `{folder}` is a folder
that is removed at the end, `{preview}` the path of a picture for people who look on. A list within the list is a group:
it is left out if one of its files or parameters is missing, or if it has a word `{if:NAME}` and the parameter NAME is
false. No shell is used: each word is one argument.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.operators.model.engine import PREVIEW_FILE, Kind, files_of
from wakestream.operators.model.errors import WrongInput

_PLACE: Final = re.compile(r"\{(?:(\w+):(\w+)|folder|preview)\}")
_NAMES: Final = {"inputs": "input", "params": "parameter", "outputs": "output"}
_PARTS: Final = {"in": "inputs", "param": "params", "out": "outputs", "if": "params"}
_UNSAFE_IN_BATCH: Final = re.compile(r'[\r\n"%&|<>^!()]')

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """What a work has for the placeholders.

    Attributes:
        inputs: The input files by name.
        params: The parameters by name.
        outputs: Where to write each output of the kind.
        wanted: The outputs that the job wants.
        folder: The work's folder.
    """

    inputs: Mapping[str, Path]
    params: Mapping[str, Any]
    outputs: Mapping[str, Path]
    wanted: Collection[str]
    folder: Path

    def text(self, part: str, name: str) -> str | None:
        """The text for a placeholder; None if the work has no value for it. Raises `WrongInput`."""
        if part == "params":
            value = self.params.get(name)
            return None if value is None else _text_of(name, value)
        path = (self.inputs if part == "inputs" else self.outputs).get(name)
        return None if path is None else str(path.absolute())


@dataclass(frozen=True, slots=True)
class Template:
    """The words of a command, checked against its kind. Make it with `template_of`.

    Attributes:
        program: The program; it has no placeholders.
        words: The arguments: texts and groups.
    """

    program: str
    words: tuple[str | Group, ...]

    def argv(self, values: Values, *, batch: bool = False) -> list[str]:
        """Return the program and its arguments.

        Args:
            values: The files and parameters of the work.
            batch: Whether the program is a batch file of Windows. Its arguments are read by a shell, which no quoting
                makes safe.

        Raises:
            WrongInput: A parameter cannot be an argument; it names the parameter.
        """
        argv = [self.program]
        for word in self.words:
            for argument in (word,) if isinstance(word, str) else _active(word, values):
                for its_values in _repeated(argument, values):
                    argv.append(_filled(argument, its_values, plain="--" in argv, batch=batch))
        return argv


def template_of(words: object, kind: Kind, searched: Collection[str] = ()) -> Template:
    """Read the words of a command.

    Args:
        words: The program and its arguments; an argument may be a list, which is a group.
        kind: The kind, which has the names of inputs, parameters and outputs.
        searched: The outputs that are looked for in the work's folder, so that no placeholder is needed.

    Returns:
        The template.

    Raises:
        ValueError: It does not fit the kind; `str()` says what is wrong.

    Example:
        >>> template_of(["resize", "{in:image}", ["--width", "{param:width}"], "{out:image}"], kind)
    """
    if not isinstance(words, list | tuple) or not words or not isinstance(words[0], str) or not words[0]:
        raise ValueError('must be a list of texts that begins with the program, such as ["python", "run.py"]')
    if _PLACE.search(words[0]):
        raise ValueError(f"the program {words[0]!r} must not have a placeholder")
    read = tuple(_word(word) for word in words[1:])
    _check_names(read, kind, searched)
    for word in read:
        # What a job may leave out stands in a group, and `{if:NAME}` is a word of its own there.
        for argument in (word,) if isinstance(word, str) else word:
            if "{if:" in argument and (isinstance(word, str) or not re.fullmatch(r"\{if:\w+\}", argument)):
                raise ValueError(
                    f'{argument!r}: write {{if:NAME}} as a word of a group, such as ["{{if:fast}}", "--fast"]'
                )
        if isinstance(word, str):
            optional = {("in", slot.name) for slot in kind.inputs if not slot.required}
            optional |= {("param", name) for name in _may_be_missing(kind)}
            for place in _places(word):
                if place in optional:
                    or_else = ", or give it a default, or required = true" if place[0] == "param" else ""
                    raise ValueError(f"{{{':'.join(place)}}} may have no value; put it into a list of its own{or_else}")
    return Template(words[0], read)


def _word(word: object) -> str | Group:
    if isinstance(word, str):
        return word
    if not isinstance(word, list | tuple) or not word or not all(isinstance(part, str) for part in word):
        raise ValueError(f"{word!r} must be a text, or a list of texts that may be left out")
    return tuple(word)


def _places(word: str | Group) -> Iterator[tuple[str, str]]:
    for argument in (word,) if isinstance(word, str) else word:
        for match in _PLACE.finditer(argument):
            if match[1]:
                yield match[1], match[2]


def _check_names(words: Sequence[str | Group], kind: Kind, searched: Collection[str]) -> None:
    """Each placeholder has a name that the kind has, and each name of the kind is used."""
    names: dict[str, Sequence[str]] = {
        "inputs": [slot.name for slot in kind.inputs],
        "params": list(kind.params.get("properties", {})),
        "outputs": [slot.name for slot in kind.outputs],
    }
    unused = {(part, name) for part, of_part in names.items() for name in of_part}
    unused -= {("outputs", name) for name in searched}
    for what, name in (place for word in words for place in _places(word)):
        part = _PARTS.get(what)
        if part is None:
            raise ValueError(f"{{{what}:{name}}}: write {{in:NAME}}, {{param:NAME}}, {{out:NAME}} or {{if:NAME}}")
        if name not in names[part]:
            have = ", ".join(names[part]) or "none"
            raise ValueError(f"{{{what}:{name}}}: the kind has no such {_NAMES[part]}; it has {have}")
        unused.discard((part, name))
    for part, name in sorted(unused):
        what = next(key for key, value in _PARTS.items() if value == part)
        raise ValueError(f"no argument uses the {_NAMES[part]} {name}; add {{{what}:{name}}}")


def _may_be_missing(kind: Kind) -> set[str]:
    schemas: Mapping[str, Any] = kind.params.get("properties", {})
    return {name for name, schema in schemas.items() if "default" not in schema} - {*kind.params.get("required", ())}


def _repeated(word: str, values: Values) -> Iterator[Values]:
    """The values for a word; one with a list of files is repeated for each of them."""
    lists = [name for what, name in _places(word) if what == "in"]
    for file in files_of(lists[0], values.inputs) if len(lists) == 1 else ():
        yield replace(values, inputs={**values.inputs, lists[0]: values.inputs[file]})
    if len(lists) != 1:
        yield values


def _active(group: Group, values: Values) -> list[str]:
    """The words of a group, without `{if:NAME}`; none if the group is left out."""
    for what, name in _places(group):
        if what == "if" and _is_off(values.params.get(name)):
            return []
        if values.text(_PARTS[what], name) is None or (what == "out" and name not in values.wanted):
            return []
    return [word for word in group if not word.startswith("{if:")]


def _is_off(value: object) -> bool:
    return value is None or value is False or value == ""


def _filled(word: str, values: Values, *, plain: bool, batch: bool) -> str:
    """One argument. `plain`: a `--` stands before it, after which programs expect no options."""
    texts: list[tuple[str, str]] = []

    def fill(place: re.Match[str]) -> str:
        if place[1] is None:
            folder = values.folder.absolute()
            return str(folder if place[0] == "{folder}" else folder / PREVIEW_FILE)
        text = values.text(_PARTS[place[1]], place[2]) or ""
        if place[1] == "param":
            texts.append((place[2], text))
        return text

    filled = _PLACE.sub(fill, word)
    if filled.startswith("-") and not word.startswith("-") and not plain:
        name = next(name for name, text in texts if text)
        if word != f"{{param:{name}}}" or isinstance(values.params[name], str):
            raise WrongInput(
                f"params.{name}",
                f"parameter {name}: {filled[:60]!r} begins with '-', so the program would read it as an option; begin "
                "it with another character",
            )
    for name, text in texts if batch else ():
        if (unsafe := _UNSAFE_IN_BATCH.search(text)) is not None:
            raise WrongInput(
                f"params.{name}",
                f"parameter {name}: the character {unsafe[0]!r} is not safe for a batch file; leave it out",
            )
    return filled


def _text_of(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise WrongInput(
            f"params.{name}", f"parameter {name} has a character that no argument can have (NUL, or half of a pair)"
        )
    return text
