"""Kinds of jobs as models of Replicate: their names and versions, their schema as OpenAPI, and the input of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.operators.model.engine import MAX_FILES, Kind, Slot, list_of
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.protocol.kinds import digest_of, fingerprint, lists_of
from wakestream.streams.protocol.known_kinds import KnownKinds
from wakestream.streams.protocol.param_schema import misfits

OWNER: Final = "wakestream"
"""The owner of all models. A program may name any other one: the name of the kind counts."""

COG: Final = "0.16.0"
"""The version of Cog whose schemas these are like: clients ask for it."""

IGNORED_MOST: Final = 100
"""Names of an input that are kept although the kind does not know them."""

_URI: Final = {"type": "string", "format": "uri"}
_OWN: Final[Mapping[tuple[str, ...], str]] = {(".txt",): "text", (".json",): "json"}
_VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "file": _URI, "files": {"type": "array", "items": _URI}, "text": {"type": "string"}, "json": {},
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A kind as a model.

    Attributes:
        kind: The kind.
        gpus: The GPUs that a version of it is tied to; none if there is only one version.
    """

    kind: Kind
    gpus: tuple[str, ...] = ()

    @cached_property
    def version(self) -> str:
        """The id of its version, which changes with all that changes its results."""
        return digest_of([self.kind.name, fingerprint(self.kind)])

    @cached_property
    def fields(self) -> dict[str, Slot | str]:
        """The input files and the names of the parameters by the field of the input."""
        files: dict[str, Slot | str] = {slot.name: slot for slot in self.kind.inputs}
        return files | {f"{name}_param" if name in files else name: name for name in self._properties}

    @property
    def _properties(self) -> Mapping[str, Mapping[str, Any]]:
        properties: Mapping[str, Mapping[str, Any]] = self.kind.params.get("properties", {})
        return properties

    @cached_property
    def shape(self) -> dict[str, str]:
        """What each output is for a program: see `Caller.shape`. A text of its own is no file, as in Cog."""
        return {slot.name: "files" if slot.many else _OWN.get(slot.accepts, "file") for slot in self.kind.outputs}

    def split(
        self, given: Mapping[str, Any]
    ) -> tuple[dict[str, tuple[Slot, list[Any]]], dict[str, Any], tuple[str, ...]]:
        """The values of the input files by field, the parameters by name, and what the kind does not know, of an input.

        Raises:
            WrongInput: There are too many files.
        """
        files: dict[str, tuple[Slot, list[Any]]] = {}
        params: dict[str, Any] = {}
        ignored: list[str] = []
        for name, value in given.items():
            field = self.fields.get(name)
            if isinstance(field, Slot):
                values = value if isinstance(value, list) else [] if value is None else [value]
                if len(values) > 1 and not field.many:
                    raise WrongInput(f"inputs.{name}", f"{name} is one file; give only one")
                files[name] = field, values
            elif field is None:
                ignored.append(name[:40])
            elif value is not None or not any(misfits(self._properties[field], None)):
                params[field] = value
        if (number := sum(len(values) for _, values in files.values())) > MAX_FILES:  # before one of them is stored
            raise WrongInput("inputs", f"the input has {number} files; {MAX_FILES} are allowed")
        return files, params, tuple(ignored[:IGNORED_MOST])

    def field_of(self, place: str) -> str:
        """The field of the input for a place in a job, such as `params.seed` or `inputs.images_2`."""
        part, _, name = place.partition(".")
        if part == "inputs":
            name = list_of(name, lists_of(self.kind.inputs)) or name
        else:
            name = next((field for field, of in self.fields.items() if of == name), name)
        return f"input.{name}" if name else "input"

    def openapi(self) -> dict[str, Any]:
        """The schema, as Cog has it."""
        properties, required = {}, []
        for order, (field, of) in enumerate(self.fields.items()):
            if isinstance(of, Slot):
                about = {"title": of.title or of.name, "description": of.help, "x-accepts": [*of.accepts]}
                schema = {**about, **_VALUES["files" if of.many else "file"]}
                required += [field] if of.required else []
            else:
                schema = {"title": of, **self._properties[of]}
                needed = of in self.kind.params.get("required", ()) and of != self.kind.seed
                required += [field] if needed and "default" not in schema else []
            properties[field] = {**schema, "x-order": order}
        outputs = {name: _VALUES[shape] for name, shape in self.shape.items()}
        output = {"type": "object", "properties": outputs} if len(outputs) > 1 else next(iter(outputs.values()))
        asked = {"title": "Input", "type": "object", "properties": properties, "required": required}
        return {
            "openapi": "3.0.2",
            "info": {"title": self.kind.title or self.kind.name, "version": self.version},
            "paths": {},
            "components": {"schemas": {"Input": asked, "Output": {"title": "Output", **output}}},
        }

    def plain_version(self, at: str) -> dict[str, Any]:
        """This version as JSON; `at` is the time that is given for its making."""
        return {"id": self.version, "created_at": at, "cog_version": COG, "openapi_schema": self.openapi()}

    def plain(self, url: str, at: str) -> dict[str, Any]:
        """The model as JSON, for the API at this address."""
        texts = (self.kind.title, self.kind.help)
        return {
            "url": f"{url}/v1/models/{OWNER}/{self.kind.name}", "owner": OWNER, "name": self.kind.name,
            "description": ". ".join(filter(None, texts)) or None, "visibility": "private", "run_count": 0,
            **dict.fromkeys(("github_url", "paper_url", "license_url", "cover_image_url", "default_example")),
            "latest_version": self.plain_version(at),
        }  # fmt: skip


def models(known: KnownKinds) -> Iterator[Model]:
    """The models of all kinds, those of one name one after the other. A hub that tells no kinds has lip-sync."""
    for known_kind in known.kinds:
        several = len(known.named(known_kind.kind.name)) > 1
        yield Model(known_kind.kind, tuple(has.gpu for has in known_kind.gpus) if several else ())
    if not known.known and not known.named(LIPSYNC_KIND.name):
        yield Model(LIPSYNC_KIND)


def kind_name(name: str) -> str:
    """The name of a kind for the name of a model, which may have dashes and dots."""
    return name.lower().replace("-", "_").replace(".", "_")
