"""What `submit --each` asks for: the rows of a table or the files of a folder, each checked, with the job for it."""

from __future__ import annotations

import csv
import io
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.cli.any_kind import Given, made_folder
from wakestream.adapters.cli.at_daemon import daemon_for
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.many_jobs import natural
from wakestream.adapters.cli.submission import JobFlags, Submission, checked, submission_of
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, open_daemon_client
from wakestream.adapters.daemon.console.preferences import legal
from wakestream.adapters.daemon.rows import PAIR, ROWS_MOST, Fault, Row, Table, Uses, filled, path_of, table_of, uses
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.result_names import numbered
from wakestream.adapters.runtime.known_secrets import secret_names
from wakestream.operators.model.errors import FileError, WrongInput
from wakestream.operators.model.events import LIPSYNC, Job
from wakestream.streams.protocol.kinds import digest_of
from wakestream.streams.protocol.known_kinds import KnownKinds

PROBED_MOST: Final = 200
"""Rows whose media files are looked into, which takes some time for each."""

SHOWN_MOST: Final = 10
"""Faults that are shown."""

OURS: Final = ("line", "state", "result", "job", "gpu", "seconds", "cost", "currency", "error")
"""Columns of the table of results."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""

_ID: Final = re.compile(r"ws-[0-9a-f]{16}")


class TableUnusable(WrongInput):
    """Rows do not fit. The message has a line for each of the first ones."""


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """The flags of a batch.

    Attributes:
        each: The table, or the folder of files; None for variations of one job.
        repeat: The jobs of each row.
        results: The table of results; None for the usual one.
    """

    each: Path | None
    repeat: int
    results: Path | None


@dataclass(slots=True)
class Item:
    """A row with its job.

    Attributes:
        row: The row.
        asked: What the flags say of it.
        job: Its job. The id is the same as long as the inputs, the parameters and the names of the results are.
        if_exists: What happens where a file of a result exists.
        family: What it has in common with the other variations of the row.
        id: The id of the job at the daemon: that of `job`, and a number if it was tried before.
        said: What the table of results says of it.
    """

    row: Row
    asked: Submission
    job: Job
    if_exists: str = "fail"
    family: str = ""
    id: str = ""
    said: dict[str, Any] = field(default_factory=lambda: {"state": ""})

    @property
    def state(self) -> str:
        """Empty before it is submitted; `open`, `refused`, `skipped`, or how the job ended."""
        return str(self.said["state"])


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before the first job is submitted.

    Attributes:
        name: The name of the batch, which its jobs have in common.
        columns: The columns of the table, without those of secret parameters.
        items: The rows.
        results: The path of the table of results; None for variations without a table.
    """

    name: str
    columns: Sequence[str]
    items: Sequence[Item]
    results: Path | None

    @property
    def due(self) -> list[Item]:
        """The rows that have no result yet."""
        return [item for item in self.items if item.state == ""]

    def write(self) -> bytes:
        """The table of results."""
        rows = [{**self._given(item), **item.said, "line": item.row.line} for item in self.items]
        if self.results is not None and self.results.suffix.lower() != ".csv":
            return b"".join(orjson.dumps(row) + b"\n" for row in rows)
        for row in rows:  # the words of an engine, or of the server behind it
            if str(row.get("error", "")).startswith(_FORMULA):
                row["error"] = f"'{row['error']}"
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for row in rows for name in row if name not in OURS)
        writer = csv.DictWriter(text, [*names, *OURS])
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("utf-8-sig")  # with the mark, spreadsheets read it right

    def _given(self, item: Item) -> dict[str, str]:
        return {f"#{name}" if name in OURS else name: item.row.values.get(name, "") for name in self.columns if name}


def names_of(job: Job) -> str:
    """What a row is called: its files."""
    return " + ".join(path.name for path in job.inputs.values()) or job.output.name


async def planned(flags: JobFlags, batch: BatchFlags, settings: Settings) -> Plan:
    """Read and check all rows, and find those that have their results.

    Raises:
        SettingsError: Flags do not fit together, or the table cannot be read.
        TableUnusable: Rows do not fit.
        DaemonUnreachable: No daemon runs.
        UnknownKind: No GPU is known to have the kind.
    """
    kind, path, results = flags.kind or LIPSYNC, batch.each, batch.results
    if path is not None and path.name in ("", ".."):
        path = path.resolve()  # it needs a name
    batch = replace(batch, each=path)
    table, constant, before = Table([], [Row(1, {})]), flags.inputs, {}
    name = t("many.batch", time=f"{datetime.now():%Y-%m-%d %H:%M:%S}")
    if path is not None:
        name = "/".join([*path.absolute().parts[-2:]])[-80:]
        results = results or path.with_name(f"{path.name if path.is_dir() else path.stem}.results.csv")
        if results.exists() and path.exists() and results.samefile(path):
            raise SettingsError(f"--results {results} is the table itself; name another file")
        before = _before(results)
        table, constant = _table(path, flags.inputs, before)
    if len(table.rows) * batch.repeat > ROWS_MOST:
        raise SettingsError(
            f"{len(table.rows)} rows, --repeat {batch.repeat}: at most {ROWS_MOST} jobs; split the table"
        )
    flags = replace(flags, kind=kind, inputs=constant)
    async with open_daemon_client(flags.state) as client:
        await daemon_for(client, settings.hub_url, needed=True, ignored=flags.ignored)
        known = await client.kinds()
        known.first_fitting(kind, lambda _: None, gpus=flags.gpus, wake_to_ask=flags.wake_to_ask)
        items = await _items(flags, batch, settings, table, known)
        if not table.faults:
            await _compare(client, items, before, flags, table)
    if table.faults:
        faults = [
            fault.of(path.name if path else kind)
            for fault in sorted(table.faults, key=lambda fault: natural(str(fault.line)))
        ]
        (column, why), *others = {(fault.column, fault.why) for fault in table.faults}
        if not others and len(faults) == len(table.rows) > 1 and column not in ("", *table.columns):
            raise TableUnusable("each", why)  # not of a row: a flag, or a column that is missing
        more = [f"and {len(faults) - SHOWN_MOST} more"] if len(faults) > SHOWN_MOST else []
        raise TableUnusable("each", "\n".join([*faults[:SHOWN_MOST], *more]))
    secret = secret_names(known.named(kind), dict.fromkeys(table.columns, name))
    return Plan(name, [column for column in table.columns if column not in secret], items, results)


def _table(path: Path, inputs: Sequence[str], before: Mapping[str, Mapping[str, str]]) -> tuple[Table, list[str]]:
    """The rows, and the inputs that are the same in all."""
    if not path.is_dir():
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"--each {path}: {error.strerror or error}; give a table or a folder") from None
        return table_of(content, lines=path.suffix.lower() in (".jsonl", ".ndjson")), [*inputs]
    made = {path_key(row.get("result", "")) for row in before.values()}
    patterns = {name: text for name, _, text in (given.partition("=") for given in inputs) if _star(text)}
    if not patterns:
        raise SettingsError(f"--each {path} is a folder: give a pattern for an input, such as --in image='*.png'")
    files: dict[str, dict[str, str]] = {}
    for name, pattern in patterns.items():
        ahead, _, behind = _star(pattern).partition("*")
        for file in path.glob(_star(pattern)):
            if file.is_file() and path_key(str(file.absolute())) not in made:
                inside = file.relative_to(path).as_posix()
                stem = inside.removeprefix(ahead).removesuffix(behind)
                files.setdefault(stem, {"name": stem})[name] = inside
    stems = sorted(files, key=natural)
    table = Table(["name", *patterns], [Row(number, files[stem]) for number, stem in enumerate(stems, 1)])
    for stem in stems:
        for name in patterns.keys() - files[stem].keys():
            why = f"there is no file {_star(patterns[name]).replace('*', stem)}; add it, or take the others away"
            table.faults.append(Fault(stem, name, why))
    if not stems:
        table.faults.append(Fault("*", "", "no file fits the patterns; check the folder and the patterns"))
    return table, [text for text in inputs if text.partition("=")[0] not in patterns]


def _star(pattern: str) -> str:
    """The pattern with `*` for its part that differs; empty if it has none."""
    pattern = pattern.replace("{name}", "*", 1)
    return pattern if "*" in pattern else ""


async def _items(flags: JobFlags, batch: BatchFlags, settings: Settings, table: Table, known: KnownKinds) -> list[Item]:
    kinds = known.named(str(flags.kind), flags.gpus)
    kind = kinds[0] if kinds else PAIR if flags.kind == LIPSYNC else None
    if "{" in (flags.output or "") and kind is not None and not flags.outputs:  # the name of a file, and no folder
        flags = replace(flags, outputs=[f"{kind.outputs[0].name}={flags.output}"], output=None)
    texts = (flags.inputs, flags.params, flags.outputs)
    use = uses(table, kind, Uses(*([text.partition("=")[0] for text in given] for given in texts)), [*chain(*texts)])
    settings = settings if len(table.rows) * batch.repeat <= PROBED_MOST else replace(settings, probe=False)
    items: list[Item] = []
    salt = uuid.uuid4().hex if flags.again or batch.each is None else ""
    for number, row in enumerate(table.rows if not table.faults else (), 1):
        try:
            row = Row(row.line, {"row": str(number), **row.values})
            several = range(1, batch.repeat + 1)
            items += [await _item(flags, batch, settings, row, use, known, variation, salt) for variation in several]
        except (WrongInput, FileError, SettingsError) as error:
            name = error.field.partition(".")[2] if isinstance(error, WrongInput) else ""
            named = re.match(r"(?:input|output) (\S+): ", str(error))
            place = row.values["name"] if batch.each and batch.each.is_dir() else row.line
            table.faults.append(Fault(place, name or (named[1] if named else ""), str(error)))
    return items


async def _item(
    flags: JobFlags,
    batch: BatchFlags,
    settings: Settings,
    row: Row,
    use: Uses,
    known: KnownKinds,
    variation: int,
    salt: str,
) -> Item:
    """A row with its job, checked; `variation` is 1, or more for jobs of the same row. `salt` makes its id new."""
    values, table = row.values, batch.each or Path("-")
    home = table if table.is_dir() else table.parent

    def part(name: str, value: str) -> str:
        """A value as a part of the name of a result."""
        return legal(path_of(value).stem if name in use.inputs else value)

    texts: dict[str, Any] = {
        "inputs": [filled(text, values) for text in flags.inputs],
        "params": [filled(text, values) for text in flags.params],
        "outputs": [filled(text, values, part) for text in flags.outputs],
    }
    for name, columns in zip(texts, use, strict=True):
        there = {column: values[column] for column in columns if column in values}
        texts[name] += [f"{column}={text if name == 'params' else _path(home, text)}" for column, text in there.items()]
    for name, _, path in (text.partition("=") for text in texts["outputs"]):
        made_folder(name, Path(path).parent)
    asked = submission_of(replace(flags, **texts, numbered=True), settings)
    given: Given = asked.asked  # type: ignore[assignment] # since it has a kind
    work = {name: [str(path.absolute()), *_dated(path)] for name, path in given.inputs.items()}
    named = [str(Path(text).absolute()) for text in given.outputs.values()]
    same = [given.kind, work, given.params, named, flags.gpus or None, salt]  # as earlier versions made the ids
    id_ = f"ws-{digest_of([*same, variation] if variation > 1 else same)}"
    beside = given.beside
    exact = batch.each is not None
    if exact and not given.inputs:
        beside = (beside or home / "-").with_name(f"{table.stem}-{values['row']}")
    asked = replace(asked, asked=replace(given, job_id=id_, beside=beside, exact=exact, new=False))

    async def ask() -> KnownKinds:
        return known

    job, _ = await checked(asked, ask)
    if variation > 1:  # it is made for itself, also if nothing in it differs
        outputs = {name: next(islice(numbered(path), variation - 1, None)) for name, path in job.outputs.items()}
        job = replace(job, outputs=outputs, again=True)
    family = f"ws-{digest_of([*same, 'family'])}" if batch.repeat > 1 else ""
    return Item(row, asked, job, "fail" if exact or given.outputs else "number", family)


def _dated(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _path(home: Path, text: str) -> str:
    """A path in a table: one that is not absolute begins at the table, and one of Windows has its own separators."""
    path = home / text
    return str(home / text.replace("\\", "/") if os.sep == "/" and "\\" in text and not path.exists() else path)


def _before(results: Path) -> dict[str, Mapping[str, str]]:
    """What the table of results of an earlier run says of each job, by its id without a number."""
    try:
        rows = table_of(results.read_bytes(), lines=results.suffix.lower() != ".csv").rows
    except OSError:
        return {}
    named = ((_ID.match(row.values.get("job", "")), row.values) for row in rows)
    return {id_[0]: values for id_, values in named if id_ is not None}


async def _compare(
    client: DaemonClient,
    items: Sequence[Item],
    before: Mapping[str, Mapping[str, str]],
    flags: JobFlags,
    table: Table,
) -> None:
    """Find the rows that have their results, and those whose results would replace a file."""
    taken: dict[str, Item] = {}
    inputs = {path_key(str(path.absolute())) for item in items for path in item.job.inputs.values()}
    made = {path_key(row.get("result", "")) for row in before.values()}
    for item in items:
        for name, path in item.job.outputs.items():
            key = path_key(str(path.absolute()))
            if (other := taken.setdefault(key, item)) is not item:
                why = (
                    f"the result {path} is also that of line {other.row.line}; give --out {name}= a column that differs"
                )
                table.faults.append(Fault(item.row.line, "", why))
            elif key in inputs:
                table.faults.append(Fault(item.row.line, "", f"the result would replace {path}, which is an input"))
        there = [path for path in item.job.outputs.values() if os.path.lexists(path)]
        row = before.get(item.job.id) or await _asked(client, item, there)
        if row.get("state") in ("done", "skipped", "open") and Path(row.get("result", "")).is_file():
            item.said |= {**{name: row[name] for name in OURS if name in row}, "state": "skipped"}
        elif there and flags.overwrite:
            item.if_exists = "replace"
        elif there and (flags.again or all(path_key(str(path.absolute())) in made for path in there)):
            item.if_exists = "number"
        elif there:
            why = f"{there[0]} exists, and it is not known from which job; move it, or give --overwrite to replace it"
            table.faults.append(Fault(item.row.line, "", why))


async def _asked(client: DaemonClient, item: Item, there: Sequence[Path]) -> Mapping[str, str]:
    """What the daemon says of the job, if a file of its result is there and the table of results does not know it."""
    try:
        job = await client.job(item.job.id) if there else {}
    except DaemonRefused:
        return {}
    return {"state": job["state"], "job": job["id"], "result": job["outcome"]["path"]} if job.get("outcome") else {}
