"""Kinds of jobs as JSON, and whether a job fits its kind."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
import orjson

from wakestream.operators.model.engine import MAX_FILES, MAX_PARAMS, Kind, Slot, list_of, numbered
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import LIPSYNC, JobSpec
from wakestream.streams.protocol.param_schema import check_own, flat, misfits
from wakestream.streams.protocol.wire import is_deeper

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""The names of kinds, inputs, outputs; the names of parameters may also have capital letters."""

KINDS: Final = "kinds"
"""The feature of workers, hubs and clients that exchange descriptions of kinds."""

MAX_KINDS: Final = 64
"""The most kinds of one GPU."""

MAX_KINDS_BYTES: Final = 256 * 1024
"""The most bytes of all kinds of one GPU as JSON."""

MAX_KIND: Final = 40 * 1024
"""The most bytes of a kind as JSON: a frame must hold it."""

MAX_KIND_DEPTH: Final = 50
"""The deepest nesting of a kind as JSON."""

MAX_PARAMS_DEPTH: Final = 80
"""The deepest nesting of the parameters of a job: a frame must hold them."""

ENDING: Final = re.compile(r"\.[a-z0-9]{1,10}")
"""The file endings that hub and workers take."""

BLANK: Final = (None, "")
"""What a seed is that the job leaves to the kind."""

_SEEDS: Final = 2**31
"""How many seeds are chosen from: every engine takes numbers of this size."""

_PARAM_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

MEDIA: Final[Mapping[str, frozenset[str]]] = {
    "video": frozenset(
        ".mp4 .mov .m4v .mkv .webm .avi .mpg .mpeg .ts .flv .wmv .mxf .3gp .gif".split()  # noqa: SIM905
    ),
    "audio": frozenset(
        ".wav .mp3 .m4a .aac .flac .ogg .oga .opus .aiff .aif .wma .amr .caf .ac3 .webm".split()  # noqa: SIM905
    ),
    "image": frozenset(".png .jpg .jpeg .webp .bmp .tif .tiff .gif .exr".split()),  # noqa: SIM905
    "text": frozenset(".txt .md .json .srt .vtt .csv .yaml .yml".split()),  # noqa: SIM905
}
"""The file endings of each media type that a slot may accept."""


LISTED: Final = 8
"""So many files of a list have a slot of their own in a kind as JSON, for peers that know no lists."""

_DEFAULTS: Final[Mapping[str, Any]] = msgspec.to_builtins(Kind(""))


def plain_kind(kind: Kind) -> dict[str, Any]:
    """Return a kind as JSON. A list is followed by slots for its next files, which `kind_from` leaves out."""
    kind = replace(kind, inputs=with_numbers(kind.inputs), outputs=with_numbers(kind.outputs))
    plain: dict[str, Any] = msgspec.to_builtins(kind)
    return {name: value for name, value in plain.items() if name == "name" or value != _DEFAULTS[name]}


def fingerprint(kind: Kind) -> str:
    """Return 16 hex digits of what makes the results of a kind; a change of its texts for people does not count."""
    said = False if kind.deterministic is False else None  # a declaration that it is makes the same results
    bare = replace(kind, title="", help="", deterministic=said)
    plain = {"version": kind.version} if kind.version else plain_kind(bare)
    return digest_of(plain)


def digest_of(plain: object) -> str:
    """Return 16 hex digits that are the same for the same JSON."""
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def is_repeatable(kind: Kind, params: Mapping[str, Any]) -> bool:
    """Whether a second job with the same inputs and these parameters has the same result."""
    return kind.deterministic is not False and (not kind.seed or params.get(kind.seed) not in BLANK)


def is_declared_repeatable(kind: Kind) -> bool:
    """Whether the kind itself says that its results are repeatable. Those of lip-sync are."""
    return kind.deterministic is True or bool(kind.seed) or kind.name == LIPSYNC


def seeded(kind: Kind, params: Mapping[str, Any], job: str) -> dict[str, Any]:
    """Return the parameters, with a seed for the job where the kind has one and the job leaves it out.

    The same job has the same seed at each submit. A seed that is no number stays out: the engine chooses.
    """
    schema = kind.params.get("properties", {}).get(kind.seed, {})
    if is_repeatable(kind, params) or not kind.seed or schema.get("type", "integer") not in ("integer", "number"):
        return {**params}
    return {**params, kind.seed: _drawn(schema, job)}


RANDOM: Final = "random"
"""A number that is written so is drawn when the job is submitted."""


def drawn(kind: Kind | None, params: Mapping[str, Any], job: str) -> dict[str, Any]:
    """Return the parameters with a number in place of each `random` where the kind wants a number.

    The same job gets the same numbers. Of a kind that is not known, only a parameter `seed` is drawn.
    """
    schemas = {"seed": {"type": "integer"}} if kind is None else kind.params.get("properties", {})
    wanted = {name for name, value in params.items() if value == RANDOM and _is_number(schemas.get(name, {}))}
    return {name: _drawn(schemas[name], f"{job}:{name}") if name in wanted else params[name] for name in params}


def _is_number(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in ("integer", "number") and "enum" not in schema


def _drawn(schema: Mapping[str, Any], job: str) -> int:
    least = int(schema.get("minimum", 0))
    span = int(schema.get("maximum", least + _SEEDS - 1)) - least + 1
    number = int.from_bytes(hashlib.sha256(job.encode()).digest()[:8], "big")
    return least + number % max(1, min(span, _SEEDS))


def with_numbers(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """Return the slots, each list followed by slots for its next files."""
    expanded: list[Slot] = []
    for slot in slots:
        more = range(2, LISTED + 1) if slot.many else ()
        expanded += [slot, *(Slot(numbered(slot.name, number), slot.accepts, required=False) for number in more)]
    return tuple(expanded)


def lists_of(slots: Iterable[Slot]) -> set[str]:
    """Return the names of those slots that are lists."""
    return {slot.name for slot in slots if slot.many}


def made_for(kind: Kind, outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the outputs that make these: all of a list for each of its files."""
    lists = lists_of(kind.outputs)
    return tuple(dict.fromkeys(list_of(name, lists) or name for name in outputs))


def flat_kind(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kind as JSON without what only its worker checks of the parameters."""
    return {**plain, "params": flat(plain["params"])} if "params" in plain else {**plain}


def can_be_accepted(value: str) -> bool:
    """Whether a slot may accept this: it is a media type or a file ending."""
    return value in MEDIA or ENDING.fullmatch(value) is not None


def check_own_kind(kind: Kind) -> None:
    """Check what the files and the parameters of a program's own kind may be.

    Raises:
        ValueError: A slot accepts something that is neither a media type nor a file ending, or a parameter has a word
            that no program checks; `str()` says which.
    """
    for slot in (*kind.inputs, *kind.outputs):
        for value in slot.accepts:
            if not can_be_accepted(value):
                raise ValueError(
                    f"kind {kind.name}: {slot.name} cannot accept {value[:40]!r}; use {', '.join(MEDIA)}, or an ending "
                    "such as .srt with 1 to 10 lower-case letters or digits"
                )
    for name, schema in kind.params.get("properties", {}).items():
        try:
            check_own(schema)
        except ValueError as error:
            raise ValueError(f"kind {kind.name}: params.{name}{error}") from None
    if kind.seed and kind.seed not in kind.params.get("properties", {}):
        raise ValueError(f"kind {kind.name}: its seed {kind.seed[:40]!r} is none of its parameters")


def kind_from(plain: object, *, own: bool = False) -> Kind:
    """Return the kind that `plain_kind` wrote.

    Args:
        plain: The kind as JSON, from any peer. What its slots cannot accept is left out, and what `flat` leaves out of
            its parameters: the worker checks files and parameters.
        own: Whether it is a kind of this program, which is kept whole and for which `check_own_kind` must pass.

    Raises:
        ValueError: It is not a valid kind; `str()` says why.
    """
    kind = msgspec.convert(plain, Kind)
    for slots in ((kind,), kind.inputs, kind.outputs):
        _check_slot_names(kind, [slot.name for slot in slots])
    properties = kind.params.get("properties", {})
    if not isinstance(properties, Mapping) or not all(isinstance(schema, Mapping) for schema in properties.values()):
        raise ValueError(f"kind {kind.name}: the properties of its parameters must be an object of objects")
    required = kind.params.get("required", ())
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        raise ValueError(f"kind {kind.name}: the required parameters must be a list of names")
    for param in properties:
        if _PARAM_NAME.fullmatch(param) is None:
            raise ValueError(f"the parameter {param[:40]!r} must have 1 to 32 letters, digits or underscores")
    if max(len(kind.inputs), len(kind.outputs)) > MAX_FILES or not kind.outputs:
        raise ValueError(f"kind {kind.name}: it needs 1 to {MAX_FILES} outputs, and {MAX_FILES} inputs at most")
    if own:
        check_own_kind(kind)
    params = kind.params if own else flat(kind.params)
    return replace(kind, inputs=_with_usable(kind.inputs), outputs=_with_usable(kind.outputs), params=params)


def _with_usable(slots: Collection[Slot]) -> tuple[Slot, ...]:
    """The slots without what they cannot accept, and without those of the further files of a list."""
    own = [slot for slot in slots if not list_of(slot.name, lists_of(slots))]
    return tuple(replace(slot, accepts=tuple(filter(can_be_accepted, slot.accepts))) for slot in own)


def _check_slot_names(kind: Kind, names: Collection[str]) -> None:
    for name in names:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"the name {name[:40]!r} must have 1 to 32 lower-case letters, digits or underscores")
    if len(set(names)) < len(names):
        raise ValueError(f"kind {kind.name}: two inputs or two outputs have the same name")


def media_of(slot: Slot, ext: str) -> str:
    """Return what a file with this ending must contain to fit the slot: video, audio, image; empty if anything."""
    wanted = [media for media in slot.accepts if media in MEDIA]
    fit = [media for media in wanted or MEDIA if ext in MEDIA[media]] if slot.accepts else []
    return fit[0] if fit and fit[0] != "text" else ""


def usual_ext(slot: Slot, params: Mapping[str, Any] | None = None) -> str:
    """Return the ending for the file of an output: the one that it makes, or a usual one of its media type.

    A parameter such as `format=mp3` chooses among several endings.
    """
    chosen = (f".{value}" for value in (params or {}).values() if isinstance(value, str))
    if (ending := next((ext for ext in chosen if ext in slot.accepts), "")) != "":
        return ending
    usual = {"video": ".mp4", "audio": ".wav", "image": ".png", "text": ".txt"}
    return output_ext(slot) or next((usual[accepted] for accepted in slot.accepts if accepted in usual), "")


def file_fits(slot: Slot, ext: str) -> bool:
    """Whether a file with this ending (`.png`) fits the slot."""
    return not slot.accepts or any(ext in MEDIA.get(accepted, (accepted,)) for accepted in slot.accepts)


def output_ext(slot: Slot) -> str:
    """The ending of the file that an output makes, if the kind says it; else an empty text."""
    return next((accepted for accepted in slot.accepts if accepted.startswith(".")), "")


def check_kind_name(name: str) -> None:
    """Check the name of a job's kind.

    Raises:
        WrongInput: No kind can have this name.
    """
    if NAME.fullmatch(name) is None:
        raise WrongInput(
            "kind",
            f"kind: the name {name[:40]!r} is not allowed; use 1 to 32 lower-case letters, digits or underscores, and "
            "begin with a letter",
        )


def submit_fields(job: JobSpec, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A job in a submit, to the hub or to a worker. Deployed systems know no fields but those of a pair of files.

    Args:
        job: The job.
        files: What is known of each input: `ext`, and `hash`.
    """
    if job.old_shape:
        return {f"{name}_{field}": value for name, file in files.items() for field, value in file.items()}
    return {"kind": job.kind, "inputs": files, "params": dict(job.params), "outputs": [*job.outputs]}


def check_bounds(inputs: Collection[str], params: Mapping[str, Any], outputs: Collection[str]) -> None:
    """Check what every job must keep to, whatever its kind.

    Args:
        inputs: The names of the input files.
        params: The parameters.
        outputs: The names of the outputs.

    Raises:
        WrongInput: One of them does not.
    """
    for field, names in (("inputs", inputs), ("outputs", outputs)):
        if len(names) > MAX_FILES:
            raise WrongInput(field, f"the job has {len(names)} {field}; {MAX_FILES} are allowed")
        for name in names:
            if NAME.fullmatch(name) is None:
                raise WrongInput(
                    f"{field}.{name[:40]}",
                    f"{field}: the name {name[:40]!r} is not allowed; use 1 to 32 lower-case letters, digits or "
                    "underscores, and begin with a letter",
                )
    if not outputs:
        raise WrongInput("outputs", "the job has no output; name at least one file for the result")
    if is_deeper(params, MAX_PARAMS_DEPTH):
        raise WrongInput("params", f"the parameters are nested more than {MAX_PARAMS_DEPTH} deep; give a flatter value")
    for path in _not_finite(params, "params"):
        raise WrongInput(path, f"{path} is not a finite number; give a number other than NaN and infinity")
    try:
        size = len(orjson.dumps(params))
    except TypeError as error:
        raise WrongInput("params", f"the parameters must be JSON: {error}") from None
    if size > MAX_PARAMS:
        raise WrongInput(
            "params", f"the parameters have {size} bytes; {MAX_PARAMS} are allowed: put long data in a file"
        )


def _not_finite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    items: Iterable[tuple[object, Any]] = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    for name, inner in items:
        yield from _not_finite(inner, f"{path}.{name}")


def fitting(
    kind: Kind, inputs: Mapping[str, str], params: Mapping[str, Any], outputs: Collection[str]
) -> dict[str, Any]:
    """Check a job against its kind.

    Args:
        kind: The kind.
        inputs: The ending of each input file by name, such as `{"image": ".png"}`.
        params: The parameters.
        outputs: The names of the outputs.

    Returns:
        The parameters with the defaults of those that are missing.

    Raises:
        WrongInput: Something does not fit; it names the field.
    """
    check_bounds(inputs, params, outputs)
    _check_names(kind, "inputs", kind.inputs, inputs)
    _check_names(kind, "outputs", kind.outputs, outputs)
    slots = {slot.name: slot for slot in kind.inputs}
    for name, ext in inputs.items():
        slot = slots[name if name in slots else list_of(name, slots)]
        if not file_fits(slot, ext):
            wanted = ", ".join(slot.accepts)
            raise WrongInput(
                f"inputs.{name}", f"input {name}: a file with the ending {ext!r} does not fit; give {wanted}"
            )
    return with_defaults(kind, params)


def _check_names(kind: Kind, field: str, slots: Collection[Slot], given: Collection[str]) -> None:
    known = {slot.name: slot for slot in slots}
    noun = field.removesuffix("s")
    for name in given:
        if name not in known and not list_of(name, lists_of(slots)):
            if of := list_of(name, known):
                raise WrongInput(f"{field}.{name}", f"kind {kind.name}: the {noun} {of!r} is one file; give only one")
            have = ", ".join(known) or "none"
            raise WrongInput(f"{field}.{name}", f"kind {kind.name} has no {noun} {name!r}; it has {have}")
    missing = [name for name, slot in known.items() if slot.required and name not in given]
    if field == "inputs" and missing:
        raise WrongInput(f"inputs.{missing[0]}", f"kind {kind.name} needs the input {missing[0]!r}; give a file for it")


def with_defaults(kind: Kind, params: Mapping[str, Any]) -> dict[str, Any]:
    """Check the parameters against the kind's schema, and fill in the defaults.

    Args:
        kind: The kind.
        params: The parameters.

    Returns:
        All parameters.

    Raises:
        WrongInput: A parameter does not fit; it names the parameter.
    """
    properties: Mapping[str, Any] = kind.params.get("properties", {})
    unknown = [name for name in params if name not in properties]
    if unknown:
        have = ", ".join(properties) or "none"
        raise WrongInput(f"params.{unknown[0]}", f"kind {kind.name} has no parameter {unknown[0]!r}; it has {have}")
    filled = {
        name: schema["default"] for name, schema in properties.items() if "default" in schema and name != kind.seed
    }
    filled = {**filled, **params}
    if filled.get(kind.seed, 0) in BLANK:
        del filled[kind.seed]
    missing = [name for name in kind.params.get("required", ()) if name not in filled and name != kind.seed]
    if missing:
        raise WrongInput(f"params.{missing[0]}", f"kind {kind.name} needs the parameter {missing[0]!r}; give a value")
    for name, value in filled.items():
        for fault in misfits(properties[name], value, (name,)):
            field = ".".join(map(str, fault.path))
            raise WrongInput(f"params.{field}", f"parameter {field}: {fault.sentence}")
    return filled


def typed(kind: Kind, name: str, text: str, value: Any) -> Any:
    """Return what a parameter from a command line is: the JSON `value`, or the `text` itself if the kind wants a text.

    Args:
        kind: The kind.
        name: The parameter.
        text: What the user wrote, such as `5`.
        value: The same, read as JSON.
    """
    schema = kind.params.get("properties", {}).get(name)
    if schema is None or isinstance(value, str):
        return value
    fits_as_text = not any(misfits(schema, text)) and any(misfits(schema, value))
    return text if fits_as_text else value
