"""Adds a ComfyUI workflow to a manifest: the names of its inputs, parameters and outputs, written as TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wakestream.adapters.config.setting_files import SettingsError, toml_text
from wakestream.adapters.disk.atomic import replace_file, temporary_beside, write_atomic
from wakestream.adapters.engines import comfyui_workflow as workflows
from wakestream.adapters.engines.http_engine import HttpEngine, seed_of
from wakestream.adapters.engines.manifest import content_of
from wakestream.adapters.engines.model_files import Model
from wakestream.streams.protocol.kinds import NAME
from wakestream.streams.protocol.printable import printable

Places = Mapping[str, str]
"""Names with node inputs or nodes, as the user gives them: `{"seed": "3.inputs.seed"}`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow as a kind, before it is written.

    Attributes:
        name: The name of the kind.
        title: A few words for people, or empty.
        path: The workflow's file.
        manifest: The manifest that it is for.
        workflow: The workflow's nodes.
        inputs: The input files by name.
        params: The parameters by name.
        outputs: The outputs by name.
        info: ComfyUI's `/object_info`; empty if it was not asked.
        models: The models that the worker fetches.
    """

    name: str
    title: str
    path: Path
    manifest: Path
    workflow: workflows.Workflow
    inputs: Mapping[str, workflows.Place]
    params: Mapping[str, workflows.Place]
    outputs: Mapping[str, workflows.Place]
    info: Mapping[str, Any]
    models: Sequence[Model] = ()

    @property
    def file(self) -> Path:
        """The workflow beside the manifest: the file itself if it is there, else a copy with the kind's name."""
        folder = self.manifest.parent
        beside = self.path.resolve().parent == folder.resolve()
        return folder / (self.path.name if beside else f"{self.name}.json")

    def toml(self) -> str:
        """The tables of the kind. What ComfyUI says of a parameter is a comment: the engine asks at each start."""
        lines = [f"[kinds.{self.name}]"]
        if self.title:
            lines.append(f"title = {toml_text(self.title)}")
        lines.append(f"workflow = {toml_text(self.file.name)}")
        if seed := seed_of(self.params):
            lines.append(f"seed = {toml_text(seed)}  # a job that leaves it out gets a seed of its own")
        for part, places in (("inputs", self.inputs), ("params", self.params), ("outputs", self.outputs)):
            for name, place in places.items():
                lines += ["", f"[kinds.{self.name}.{part}.{name}]"]
                lines.append(f"node = {toml_text(place.place)}  # {printable(self._about(place))}")
                if place.accepts:
                    lines.append(f"accepts = [{toml_text(place.accepts)}]")
        for model in self.models:
            lines += ["", f"[kinds.{self.name}.models.{toml_text(model.file)}]", f"url = {toml_text(model.url)}"]
            lines += [f"size = {model.size}", f"sha256 = {toml_text(model.sha256)}"]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The kind for a program."""
        parts = {"inputs": self.inputs, "params": self.params, "outputs": self.outputs}
        return {
            "kind": self.name, "manifest": str(self.manifest), "workflow": str(self.file),
            **{part: {name: place.place for name, place in places.items()} for part, places in parts.items()},
            "models": [asdict(model) for model in self.models],
            "missing": list(self.lacks()) if self.info else None,
        }  # fmt: skip

    def lacks(self) -> Iterator[str]:
        """What this ComfyUI does not have: nodes, and files such as models that the workflow names."""
        for node, made in self.workflow.items() if self.info else ():
            class_type = str(made["class_type"])
            if class_type not in self.info:
                yield f"node {node}: {class_type}"
                continue
            for name, value in made["inputs"].items():
                choices = _choices(self.info, class_type, name)
                fetched = any(model.name == str(value).rpartition("/")[2] for model in self.models)
                if isinstance(value, str) and choices is not None and value not in choices and not fetched:
                    yield f"node {node}, {name}: {value}"

    def _about(self, place: workflows.Place) -> str:
        """The class of the node, and what a parameter may be."""
        node, _, name = (place.place, "", "") if place.place in self.workflow else place.place.partition(".")
        about = str(self.workflow[node]["class_type"])
        if not name or place.accepts:
            return about
        schema = workflows.described(self.workflow, workflows.place_of("", place.place, self.workflow), self.info)
        return f"{about}: {_words(schema)}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the user says of a kind; what is left empty is proposed.

    Attributes:
        name: The kind's name; None for one from the file's name.
        title: A few words for people.
        inputs: Input files, such as `{"image": "5.inputs.image"}`.
        params: Parameters, such as `{"seed": "3.inputs.seed"}`.
        outputs: Outputs, such as `{"video": "9"}`.
        models: Models that the worker fetches.
    """

    name: str | None = None
    title: str = ""
    inputs: Places = field(default_factory=dict)
    params: Places = field(default_factory=dict)
    outputs: Places = field(default_factory=dict)
    models: Sequence[Model] = ()


def draft(path: Path, manifest: Path, wanted: Chosen, info: Mapping[str, Any]) -> Draft:
    """Read a workflow and propose names for what the user did not name.

    Args:
        path: The workflow in API format.
        manifest: The manifest that the kind is for.
        wanted: What the user says.
        info: ComfyUI's `/object_info`; empty without a server to ask.

    Returns:
        The kind, ready to be shown and written.

    Raises:
        SettingsError: The workflow cannot be used, or a name or a place is wrong.
    """
    workflow = workflows.load_workflow(path)
    proposed = workflows.propose(workflow, info)
    made = Draft(
        wanted.name if wanted.name is not None else _name_from(path), wanted.title, path, manifest, workflow,
        {key: _input(key, text, workflow, info) for key, text in wanted.inputs.items()} or proposed.inputs,
        {key: _param(key, text, workflow) for key, text in wanted.params.items()} or proposed.params,
        {key: _output(key, node, workflow, proposed.outputs) for key, node in wanted.outputs.items()}
        or proposed.outputs, info, wanted.models,
    )  # fmt: skip
    for name in (made.name, *made.inputs, *made.params, *made.outputs):
        if NAME.fullmatch(name) is None:
            raise SettingsError(
                f"the name {name[:40]!r} is not allowed; use 1 to 32 lower-case letters, digits or underscores, and "
                "begin with a letter"
            )
    if not made.outputs:
        nodes = ", ".join(f"{node} ({content['class_type']})" for node, content in workflow.items())
        raise SettingsError(f"no node of the workflow {path} saves a file; name one by --out NAME=NODE, of {nodes}")
    return made


async def object_info(url: str) -> Mapping[str, Any]:
    """What the nodes of the ComfyUI at this address take and give. Raises `EngineUnreachable`."""
    http = HttpEngine(url, "ComfyUI")
    try:
        return await http.object("/object_info", f"{url} is not a ComfyUI server")
    finally:
        await http.close()


def _input(name: str, text: str, workflow: workflows.Workflow, info: Mapping[str, Any]) -> workflows.Place:
    node, field = workflows.place_of(f"--in {name}", text, workflow)
    return workflows.Place(
        f"{node}.inputs.{field}", workflows.file_input(str(workflow[node]["class_type"]), field, info) or ""
    )


def _param(name: str, text: str, workflow: workflows.Workflow) -> workflows.Place:
    node, field = workflows.place_of(f"--param {name}", text, workflow)
    if isinstance(workflow[node]["inputs"][field], list):
        raise SettingsError(f"--param {name}: {text} comes from another node; name an input with a value of its own")
    return workflows.Place(f"{node}.inputs.{field}")


def _output(
    name: str, node: str, workflow: workflows.Workflow, proposed: Mapping[str, workflows.Place]
) -> workflows.Place:
    if node not in workflow:
        raise SettingsError(f"--out {name}: the workflow has no node {node!r}; its nodes are {', '.join(workflow)}")
    return next((place for place in proposed.values() if place.place == node), workflows.Place(node))


def write(made: Draft, *, replace: bool = False) -> None:
    """Add the kind to its manifest, and put the workflow beside it. Other kinds and comments stay as they are.

    Args:
        made: The kind.
        replace: Whether a kind of this name, and its workflow, may be replaced.

    Raises:
        SettingsError: There is such a kind already, or a file cannot be read or written.
    """
    manifest = made.manifest
    try:
        text = content_of(manifest, "manifest").decode("utf-8-sig") if manifest.exists() else ""
        if made.name in tomllib.loads(text).get("kinds", {}):
            if not replace:
                raise SettingsError(
                    f"the manifest {manifest} has a kind {made.name!r}; give --replace, or another name by --name"
                )
            text = _without(text, made.name)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with _copied(made.path, made.file, replace=replace), temporary_beside(manifest, ".new") as fresh:
            fresh.write_text(f"{text.rstrip()}\n\n{made.toml()}".lstrip(), encoding="utf-8")
            try:
                workflows.load_kinds(fresh)
            except SettingsError as error:
                raise SettingsError(str(error).replace(fresh.name, manifest.name)) from None
            replace_file(fresh, manifest)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"the manifest {manifest} cannot be written: {why}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the manifest {manifest} is not valid TOML: {error}") from None


@contextmanager
def _copied(source: Path, target: Path, *, replace: bool) -> Iterator[None]:
    """The workflow is beside its manifest in this block; an error in the block puts back what was there."""
    data = content_of(source, "workflow")
    before = content_of(target, "workflow") if target.exists() else None
    if before not in (None, data) and not replace:
        raise SettingsError(f"{target} is another workflow; give --replace, or another name by --name")
    if before != data:
        write_atomic(target, data, mode=0o644)
    try:
        yield
    except BaseException:
        if before is None:
            target.unlink()
        elif before != data:
            write_atomic(target, before, mode=0o644)
        raise


def _without(text: str, name: str) -> str:
    """The manifest without the tables of one kind, each of which begins with its own header."""
    kept: list[str] = []
    before: list[str] = []  # blank lines and comments, which belong to the table that follows
    own = False
    for line in text.splitlines(keepends=True):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            own = header[1].replace(" ", "").split(".")[:2] == ["kinds", name]
        elif own and re.match(r"\s*(#|$)", line):
            before.append(line)
            continue
        kept += [] if own else [*before, line]
        before = []
    left = "".join([*kept, *before])
    if name in tomllib.loads(left).get("kinds", {}):
        raise SettingsError(f"the kind {name!r} is not written as tables [kinds.{name}]; remove it from the manifest")
    return left


def _choices(info: Mapping[str, Any], class_type: str, name: str) -> list[Any] | None:
    """What a node's input may be; None if it is no choice, or files are uploaded for it."""
    declared = workflows.input_of(info, class_type, name)
    if declared is None or workflows.file_input(class_type, name, info) is not None:
        return None
    of, options = declared
    return of if isinstance(of, list) else options.get("options") or None


def _name_from(path: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:32]
    return name if NAME.fullmatch(name) else f"workflow_{name}".rstrip("_")[:32]


def _words(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "enum" in schema:
        names = [str(choice) for choice in schema["enum"]]
        kind = f"one of {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
    else:
        kind = str(schema.get("type", "any value"))
    limits = [
        f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if schema.get(key) is not None
    ]
    default = [f"default {json.dumps(schema['default'], ensure_ascii=False)[:60]}"] if "default" in schema else []
    return ", ".join((" ".join((kind, *limits)), *default))
