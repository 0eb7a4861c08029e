"""A job of any kind on the command line: `--kind K --in NAME=FILE --param NAME=VALUE --out NAME=FILE`.

All that can be checked here is checked before a machine is woken: the form of the flags at once, and the rest against
the description of the kind, if the daemon or the hub knows it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.api_client import Chain
from wakestream.adapters.daemon.rows import value_of
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.disk.result_names import free_name, same_path
from wakestream.adapters.runtime.known_secrets import hide_params
from wakestream.operators.model.engine import Kind, numbered
from wakestream.operators.model.errors import FileUnusable, WrongInput
from wakestream.operators.model.events import Job
from wakestream.streams.protocol.kinds import check_bounds, check_kind_name, drawn, fitting, media_of, usual_ext
from wakestream.streams.protocol.known_kinds import KnownKinds

SEPARATORS = tuple({"/", os.sep})
"""The last character of a path that names a folder."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("another kind of job, instead of VIDEO and AUDIO")
    flags.add(group, "--kind KIND", "the kind of work, of `wakestream kinds`; with --help, what it takes and makes")
    what = "an input file, or @JOB:RESULT for a result of another job of the daemon; repeat it, also for a list"
    flags.add(group, "--in NAME=FILE", what, action="append", dest="inputs", default=[])
    flags.add(group, "--param NAME=VALUE", "a parameter; once for each", action="append", dest="params", default=[])
    what = "where a result goes, a file or a folder (DIR/); once for each (default: beside the first input)"
    flags.add(group, "--out NAME=FILE", what, action="append", dest="outputs", default=[])
    flags.add(group, "--wake-to-ask", "start a GPU that has not told its kinds, if no GPU is known to have the kind")
    what = "start when this job of the daemon is done; once for each"
    flags.add(group, "--after JOB", what, action="append", default=[])


@dataclass(frozen=True, slots=True)
class Given:
    """The flags of a job of any kind.

    Attributes:
        job_id: Its id.
        kind: Its kind.
        inputs: The input files by name.
        params: The parameters as they were written.
        outputs: The files of the results by name; folders end with a separator.
        chain: The jobs that it follows, with the inputs that are their results.
        beside: Results without a name get theirs from this path; by default from that of the first input.
        wake_to_ask: A GPU may be started to ask whether it has the kind.
        gpus: The GPUs that may do it; any, if it is empty.
        new: No result may replace a file.
        exact: A result without a name gets its usual one, also if a file has it.
    """

    job_id: str
    kind: str
    inputs: Mapping[str, Path]
    params: Mapping[str, str]
    outputs: Mapping[str, str]
    chain: Chain
    beside: Path | None = None
    wake_to_ask: bool = False
    gpus: tuple[str, ...] = ()
    new: bool = True
    exact: bool = False

    def job(self, known: KnownKinds, why: str = "") -> Job:
        """Return the job.

        Args:
            known: What is known of the kinds.
            why: The reason if nothing is.

        Raises:
            UnknownKind: No GPU is known to have the kind.
            WrongInput: A value is not allowed or does not fit the kind; the message names the field.
            FileUnusable: A result cannot be written; the message names the output.
            SettingsError: An output is not given, and the kind is not known.
        """
        fit = known.first_fitting(self.kind, self._fits, gpus=self.gpus, wake_to_ask=self.wake_to_ask)
        params = self._values(fit)
        hide_params(known.named(self.kind), params)
        outputs = self._chosen_outputs(fit, params) or self._default_outputs(fit, params, why)
        if fit is None:
            check_bounds([*self.inputs, *self.chain.sources], params, outputs)
        for name, path in outputs.items():
            checks = {"keep": tuple(self.inputs.values()), "flag": f"--out {name}=", "new": self.new and self.outputs}
            _of_field(f"output {name}", check_writable, path, **checks)
        if (same := same_path(outputs)) is not None:
            why = f"outputs {same[0]} and {same[1]} have the same path {outputs[same[1]]}; give each its own"
            raise WrongInput(f"outputs.{same[1]}", why)
        gpus = known.gpus_for(self.kind, self._fits, self.gpus)
        return Job(self.job_id, self.inputs, outputs, self.kind, params, gpus=gpus)

    def media(self, known: KnownKinds) -> dict[str, tuple[Path, str]]:
        """Return what each input file must contain (video, audio or image), as far as the kind says it."""
        slots = {slot.name: slot for kind in known.named(self.kind)[:1] for slot in kind.inputs}
        needs = {name: (path, media_of(slots[name], _ext(path))) for name, path in self.inputs.items() if name in slots}
        return {name: (path, media) for name, (path, media) in needs.items() if media}

    def _fits(self, kind: Kind) -> None:
        """Raise `WrongInput` unless the flags fit the kind."""
        slots = {slot.name: slot for slot in kind.inputs}
        later = {name: usual_ext(slots[name]) if name in slots else "" for name in self.chain.sources}
        exts = {name: _ext(path) for name, path in self.inputs.items()} | later
        fitting(kind, exts, self._values(kind), self.outputs or [slot.name for slot in kind.outputs])

    def _values(self, kind: Kind | None) -> dict[str, Any]:
        return values_of(self.params, kind, self.job_id)

    def _chosen_outputs(self, kind: Kind | None, params: Mapping[str, Any]) -> dict[str, Path]:
        """The files of the flags; in a folder, which is made if it is missing, one that is free."""
        slots = {slot.name: slot for slot in kind.outputs} if kind is not None else {}
        paths: dict[str, Path] = {}
        for name, text in self.outputs.items():
            path = Path(text)
            if is_folder(text):
                made_folder(name, path)
                ending = (usual_ext(slots[name], params) if name in slots else "") or self._usual_ending()
                path = free_name(path, name, ending, paths.values(), inside=True, exact=self.exact)
            paths[name] = path
        return paths

    def _usual_ending(self) -> str:
        first = self.beside or next(iter(self.inputs.values()), None)
        return first.suffix if first is not None else ".bin"

    def _default_outputs(self, kind: Kind | None, params: Mapping[str, Any], why: str) -> dict[str, Path]:
        """A name for each result beside an input; no file is replaced."""
        if kind is None:
            reason = f", because {why}" if why else ""
            raise SettingsError(f"give --out NAME=FILE for each result: the kind {self.kind} is not known{reason}")
        first = self.beside or next(iter(self.inputs.values()), None)
        several = len([slot for slot in kind.outputs if slot.required]) > 1
        paths: dict[str, Path] = {}
        for slot in kind.outputs:
            if slot.required or slot is kind.outputs[0]:
                ending = usual_ext(slot, params) or self._usual_ending()
                name = f"{kind.name}.{slot.name}" if several else kind.name
                paths[slot.name] = free_name(first, name, ending, paths.values(), exact=self.exact)
        return paths


def is_folder(text: str) -> bool:
    """Whether a path of the command line is a folder, in which a result gets a name that is free."""
    return text.endswith(SEPARATORS) or Path(text).is_dir()


def given(
    job_id: str,
    kind: str,
    inputs: Sequence[str],
    params: Sequence[str],
    outputs: Sequence[str],
    after: Sequence[str] = (),
) -> Given:
    """Read the flags, and check all that needs no description of the kind.

    Args:
        job_id: The job's id.
        kind: Its kind.
        inputs: `NAME=FILE` of each input; `NAME=@JOB:RESULT` for a result of another job. A name may be repeated: its
            files are a list.
        params: `NAME=VALUE` of each parameter. A value is read as JSON, such as 5, true or [1]. It stays text if it is
            not JSON, or if the kind declares the parameter as text.
        outputs: `NAME=FILE` or `NAME=DIR/` of each output.
        after: The ids of other jobs that it waits for.

    Raises:
        SettingsError: A flag is not of that form, or a name is given twice.
        WrongInput: A name is not allowed; the message names the field.
        FileUnusable: A file cannot be used; the message names the input.
    """
    check_kind_name(kind)
    files, texts = pairs("--in", inputs, many=True), pairs("--param", params)
    sources = {name: text[1:] for name, text in files.items() if text.startswith("@")}
    paths = {name: Path(text) for name, text in files.items() if name not in sources}
    wanted = pairs("--out", outputs)
    check_bounds(files, {}, wanted or ("result",))
    for name, path in paths.items():
        _of_field(f"input {name}", check_readable, path)
        _of_field(f"input {name}", check_named, path)
    return Given(job_id, kind, paths, texts, wanted, Chain(tuple(dict.fromkeys(after)), sources))


def _of_field(field: str, check: Any, path: Path, **more: Any) -> None:
    """Check a file; the error names the field."""
    try:
        check(path, **more)
    except FileUnusable as error:
        raise FileUnusable(f"{field}: {error}") from None


def _ext(path: Path) -> str:
    return path.suffix.lower()


def made_folder(name: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnusable(f"output {name}: the folder {folder} cannot be made: {error.strerror or error}") from None


def pairs(flag: str, texts: Sequence[str], *, many: bool = False) -> dict[str, str]:
    """The `NAME=VALUE` of a flag that is given once for each name. Raises `SettingsError`.

    `many`: a name that is given again is the next file of a list, such as `images_2`.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            form = "NAME=VALUE, such as --param width=320"
            if flag == "--model":
                form = "FILE=URL, such as --model checkpoints/a.safetensors=https://models.example/a.safetensors"
            elif flag != "--param":
                form = f"NAME=FILE, such as {flag} image=a.png"
            raise SettingsError(f"{flag} {text[:60]!r}: write {form}")
        if name in values and many:
            name = next(free for number in count(2) if (free := numbered(name, number)) not in values)
        if name in values:
            raise SettingsError(f"{flag} {name} is given twice; leave one out")
        values[name] = value
    return values


def values_of(params: Mapping[str, str], kind: Kind | None, job: str) -> dict[str, Any]:
    """Return the values of parameters as they were written, with the types that the kind wants if it is known.

    A number that is written as `random` is drawn for the job.
    """
    return drawn(kind, {name: value_of(text, kind, name) for name, text in params.items()}, job)
