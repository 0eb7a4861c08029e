"""What `submit --each` asks for: the rows of a table or the files of a folder, each checked, with the job for it."""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.cli.any_kind import Given, made_folder
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.live_jobs import daemon_for, daemons_own
from wakestream.adapters.cli.many_jobs import natural, one_of_many
from wakestream.adapters.cli.submission import Submission, checked, submission_of
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

_OTHERS: Final = ("video", "pairs", "job_id", "then", "foreground", "leave")
_ID: Final = re.compile(r"ws-[0-9a-f]{16}")


class TableUnusable(WrongInput):
    """Rows do not fit. The message has a line for each of the first ones."""


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


async def planned(args: argparse.Namespace, settings: Settings) -> Plan:
    """Read and check all rows, and find those that have their results.

    Raises:
        SettingsError: Flags do not fit together.
        TableUnusable: Rows do not fit.
        DaemonUnreachable: No daemon runs.
        UnknownKind: No GPU is known to have the kind.
    """
    if any(getattr(args, name) for name in _OTHERS):
        flags_ = "VIDEO, --pairs, --job-id, --then, --foreground and --leave"
        raise SettingsError(f"--each and --repeat take files from a table or --in; leave {flags_} out")
    args.kind = args.kind or LIPSYNC
    if args.each is not None and args.each.name in ("", ".."):
        args.each = args.each.resolve()  # it needs a name
    path: Path | None = args.each
    table, constant, results, before = Table([], [Row(1, {})]), args.inputs or (), args.results, {}
    name = t("many.batch", time=f"{datetime.now():%Y-%m-%d %H:%M:%S}")
    if path is not None:
        name = "/".join([*path.absolute().parts[-2:]])[-80:]
        results = results or path.with_name(f"{path.name if path.is_dir() else path.stem}.results.csv")
        if results.exists() and path.exists() and results.samefile(path):
            raise SettingsError(f"--results {results} is the table itself; name another file")
        before = _before(results)
        table, constant = _table(path, constant, before)
    if len(table.rows) * args.repeat > ROWS_MOST:
        raise SettingsError(
            f"{len(table.rows)} rows, --repeat {args.repeat}: at most {ROWS_MOST} jobs; split the table"
        )
    async with open_daemon_client(args.state) as client:
        await daemon_for(client, settings.hub_url, needed=True, ignored=daemons_own(args))
        known = await client.kinds()
        known.first_fitting(args.kind, lambda _: None, gpus=args.gpus or (), wake_to_ask=args.wake_to_ask)
        items = await _items(args, settings, table, constant, known)
        if not table.faults:
            await _compare(client, items, before, args, table)
    if table.faults:
        faults = [
            fault.of(path.name if path else args.kind)
            for fault in sorted(table.faults, key=lambda fault: natural(str(fault.line)))
        ]
        (column, why), *others = {(fault.column, fault.why) for fault in table.faults}
        if not others and len(faults) == len(table.rows) > 1 and column not in ("", *table.columns):
            raise TableUnusable("each", why)  # not of a row: a flag, or a column that is missing
        more = [f"and {len(faults) - SHOWN_MOST} more"] if len(faults) > SHOWN_MOST else []
        raise TableUnusable("each", "\n".join([*faults[:SHOWN_MOST], *more]))
    secret = secret_names(known.named(args.kind), dict.fromkeys(table.columns, name))
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
    patterns = {name: text for name, _, text in (each.partition("=") for each in inputs) if _star(text)}
    if not patterns:
        raise SettingsError(f"--each {path} is a folder: give a pattern for an input, such as --in image='*.png'")
    found: dict[str, dict[str, str]] = {}
    for name, pattern in patterns.items():
        ahead, _, behind = _star(pattern).partition("*")
        for file in path.glob(_star(pattern)):
            if file.is_file() and path_key(str(file.absolute())) not in made:
                inside = file.relative_to(path).as_posix()
                stem = inside.removeprefix(ahead).removesuffix(behind)
                found.setdefault(stem, {"name": stem})[name] = inside
    stems = sorted(found, key=natural)
    table = Table(["name", *patterns], [Row(number, found[stem]) for number, stem in enumerate(stems, 1)])
    for stem in stems:
        for name in patterns.keys() - found[stem].keys():
            why = f"there is no file {_star(patterns[name]).replace('*', stem)}; add it, or take the others away"
            table.faults.append(Fault(stem, name, why))
    if not stems:
        table.faults.append(Fault("*", "", "no file fits the patterns; check the folder and the patterns"))
    return table, [text for text in inputs if text.partition("=")[0] not in patterns]


def _star(pattern: str) -> str:
    """The pattern with `*` for its part that differs; empty if it has none."""
    pattern = pattern.replace("{name}", "*", 1)
    return pattern if "*" in pattern else ""


async def _items(
    args: argparse.Namespace, settings: Settings, table: Table, constant: Sequence[str], known: KnownKinds
) -> list[Item]:
    kinds = known.named(args.kind, args.gpus or ())
    kind = kinds[0] if kinds else PAIR if args.kind == LIPSYNC else None
    if "{" in (args.output or "") and kind is not None and not args.outputs:  # the name of a file, and no folder
        args.outputs, args.output = [f"{kind.outputs[0].name}={args.output}"], None
    flags = {"inputs": constant, "params": args.params or (), "outputs": args.outputs or ()}
    given = Uses(*([text.partition("=")[0] for text in texts] for texts in flags.values()))
    use = uses(table, kind, given, [text for texts in flags.values() for text in texts])
    settings = settings if len(table.rows) * args.repeat <= PROBED_MOST else replace(settings, probe=False)
    items: list[Item] = []
    salt = uuid.uuid4().hex if args.again or args.each is None else ""
    for number, row in enumerate(table.rows if not table.faults else (), 1):
        try:
            row = Row(row.line, {"row": str(number), **row.values})
            items += [
                await _item(args, settings, row, flags, use, known, each, salt) for each in range(1, args.repeat + 1)
            ]
        except (WrongInput, FileError, SettingsError) as error:
            name = error.field.partition(".")[2] if isinstance(error, WrongInput) else ""
            named = re.match(r"(?:input|output) (\S+): ", str(error))
            place = row.values["name"] if args.each and args.each.is_dir() else row.line
            table.faults.append(Fault(place, name or (named[1] if named else ""), str(error)))
    return items


async def _item(
    args: argparse.Namespace,
    settings: Settings,
    row: Row,
    flags: Mapping[str, Sequence[str]],
    use: Uses,
    known: KnownKinds,
    variation: int,
    salt: str,
) -> Item:
    """A row with its job, checked; `variation` is 1, or more for jobs of the same row. `salt` makes its id new."""
    values, each = row.values, args.each or Path("-")
    home = each if each.is_dir() else each.parent

    def part(name: str, value: str) -> str:
        """A value as a part of the name of a result."""
        return legal(path_of(value).stem if name in use.inputs else value)

    texts = {name: [filled(text, values) for text in flags[name]] for name in ("inputs", "params")}
    texts["outputs"] = [filled(text, values, part) for text in flags["outputs"]]
    for name, columns in zip(texts, use, strict=True):
        there = [column for column in columns if column in values]
        texts[name] += [f"{one}={values[one] if name == 'params' else _path(home, values[one])}" for one in there]
    for name, _, path in (text.partition("=") for text in texts["outputs"]):
        made_folder(name, Path(path).parent)
    asked = submission_of(one_of_many(args, **{name: text or None for name, text in texts.items()}), settings)
    given: Given = asked.asked  # type: ignore[assignment] # since it has a kind
    work = {name: [str(path.absolute()), *_dated(path)] for name, path in given.inputs.items()}
    named = [str(Path(text).absolute()) for text in given.outputs.values()]
    same = [given.kind, work, given.params, named, args.gpus, salt]
    id_ = f"ws-{digest_of([*same, variation] if variation > 1 else same)}"
    beside = given.beside
    if args.each is not None and not given.inputs:
        beside = (beside or home / "-").with_name(f"{each.stem}-{values['row']}")
    exact = args.each is not None
    asked = replace(asked, asked=replace(given, job_id=id_, beside=beside, exact=exact, new=False))

    async def ask() -> KnownKinds:
        return known

    job, _ = await checked(asked, ask)
    if variation > 1:  # it is made for itself, also if nothing in it differs
        outputs = {name: next(islice(numbered(path), variation - 1, None)) for name, path in job.outputs.items()}
        job = replace(job, outputs=outputs, again=True)
    family = f"ws-{digest_of([*same, 'family'])}" if args.repeat > 1 else ""
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
    args: argparse.Namespace,
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
        elif there and args.overwrite:
            item.if_exists = "replace"
        elif there and (args.again or all(path_key(str(path.absolute())) in made for path in there)):
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
