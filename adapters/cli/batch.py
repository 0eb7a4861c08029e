"""`submit --each`: submits the rows, shows how far all are, and writes a table of results. The daemon has the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

from loguru import logger
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.at_daemon import AGAIN_WITHIN
from wakestream.adapters.cli.batch_plan import Item, Plan
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.jobs_table import Costs, JobProgress, jobs_table
from wakestream.adapters.cli.render.table import bar
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.daemon import api_client as api
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.runtime import printing
from wakestream.adapters.runtime.desktop import notify
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.runtime.tasks import finish_despite_cancel, first_of, tasks_of_block
from wakestream.operators.model.errors import FileError, WakestreamError, WrongInput
from wakestream.streams.recording.event_json import OUTCOME_KINDS, event_from

WRITE_EVERY: Final = 5.0
"""Seconds between two writings of the table of results."""

AT_WORK_MOST: Final = 6
"""Jobs at work that are shown below the progress of all."""


class Batch:
    """The rows of a plan at the daemon.

    Args:
        plan: The rows.
        client: Asks the daemon.
        stop: Set when the user asks to stop.
    """

    def __init__(self, plan: Plan, client: api.DaemonClient, stop: Stop) -> None:
        self.plan, self._client, self._stop = plan, client, stop
        self._flags = plan.items[0].asked.flags
        self._open: dict[str, Item] = {}
        self._progress: dict[str, JobProgress] = {}
        self._began, self._ended = time.monotonic(), 0
        self._news, self._submitted, self._console = asyncio.Event(), asyncio.Event(), printing.console()
        self._now = ""  # the last event, which says what all wait for while none is at work
        self._lines = self._flags.lines

    async def run(self) -> int:
        """Submit the rows and follow them to their ends; the exit code."""
        drawn = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=4,
            redirect_stdout=False,
            transient=True,
        )
        screen = contextlib.nullcontext() if self._lines or self._flags.detach else drawn
        try:
            async with tasks_of_block() as start:
                start(self._listen())
                start(self._write_regularly())
                work = start(self._all())
                with screen:
                    await first_of(self._stop.wait(), work)
                    if self._stop.interrupted and not work.done():
                        await self._leave(work)
                if work.done():
                    work.result()
        finally:
            await self._write()
        return self._told()

    async def _all(self) -> None:
        """Submit all, and wait for the ends unless the user does not want that."""
        for item in self.plan.due:
            if not self._stop.is_set():
                await self._submit(item)
        self._submitted.set()
        if not self._flags.detach:
            await self._look()  # an end may have come before the stream of events
            while self._open:
                self._news.clear()
                await self._news.wait()

    async def _submit(self, item: Item) -> None:
        """Submit a row. One that was tried before without a result gets the id of a further job."""
        ids = (item.job.id if number == 1 else f"{item.job.id}-{number}" for number in count(1))
        id_ = next(ids)
        while not self._stop.is_set():
            item.id, item.said["job"], self._open[id_] = id_, id_, item
            try:
                more: dict[str, Any] = {"batch": self.plan.name, "family": item.family, "sidecar": self._flags.sidecar}
                job, chain = replace(item.job, id=id_), item.asked.chain
                told = await self._client.submit(job, chain=chain, if_exists=item.if_exists, **more)
            except (api.DaemonRefused, FileError, WrongInput) as error:
                del self._open[id_]
                if error.code == "queue_full":
                    await first_of(self._stop.wait(), asyncio.sleep(1))
                elif error.code == "conflict":
                    id_ = next(ids)
                else:
                    item.said |= {"state": "refused", "error": str(error)}
                    self._tell(item)
                    return
                continue
            outcome = told["outcome"] or {}
            if outcome and not (outcome["event"] == "done" and Path(outcome["path"]).is_file()):
                self._open.pop(id_, None)
                id_ = next(ids)
                continue
            if outcome:
                self._end(item, outcome)
            elif item.id in self._open:
                item.said |= {"state": "open"} | ({"result": str(item.job.output)} if item.if_exists == "fail" else {})
            return

    async def _listen(self) -> None:
        """Follow the events of all jobs of the daemon."""
        async with contextlib.aclosing(self._client.events()) as happened:  # type: ignore[type-var]
            async for plain in happened:
                item = self._open.get(plain.get("job", ""))
                if plain["event"] == "missed":
                    await self._look()
                elif item is not None and plain["event"] in OUTCOME_KINDS:
                    self._end(item, plain)
                elif item is not None and (event := event_from(plain)) is not None:
                    self._progress.setdefault(item.id, JobProgress()).show(event, float(plain["at"]))
                    self._now = words.event(event)

    async def _look(self) -> None:
        """Ask for ends whose events are missing; the daemon keeps the last ones."""
        skip, older = 0, 1
        while older > 0 and self._open:
            jobs, older = await self._client.jobs("ended", api.LIST_MOST, skip)
            skip += len(jobs)
            for job in jobs:
                item = self._open.get(job["id"])
                if item is not None and item.state == "open":  # else it is the end of an earlier try
                    self._end(item, job["outcome"])

    def _end(self, item: Item, outcome: Mapping[str, Any]) -> None:
        if self._open.pop(item.id, None) is None:
            return
        self._progress.pop(item.id, None)
        self._ended += 1
        item.said |= {"state": outcome["event"], "error": outcome.get("why", "")}
        files = outcome.get("files") or [{"name": "", "path": outcome.get("path", "")}]
        item.said["result"] = files[0]["path"]
        item.said |= {f"result.{file['name']}": file["path"] for file in files[1:]}
        self._tell(item, outcome)

    def _tell(self, item: Item, outcome: Mapping[str, Any] | None = None) -> None:
        """Say how a row ended; one that is done only changes the progress, if there is one."""
        self._news.set()
        if self._flags.as_json:
            say_json({"line": item.row.line, "job": item.id, **(outcome or item.said)})
            return
        event = event_from({**outcome}) if outcome else None
        said = words.outcome(event, str((outcome or {}).get("reused", ""))) if event else item.said["error"]
        if self._lines or event is None or item.state != "done":
            self._say(t("batch.row", line=item.row.line, names=item.job.output.name, said=said))

    def _say(self, line: str) -> None:
        """A line; above the progress if there is one."""
        if self._lines:
            say(line)
        else:
            self._console.print(Text(line))

    async def _leave(self, work: asyncio.Task[None]) -> None:
        """After Ctrl-C: leave the jobs to the daemon, or cancel them after a second one."""
        self._stop.again = asyncio.Event()
        if not self._flags.as_json:
            self._say(t("batch.leaving", seconds=AGAIN_WITHIN))
        await first_of(self._stop.again.wait(), asyncio.sleep(AGAIN_WITHIN), work)
        if self._stop.cancels:
            await first_of(self._submitted.wait(), work)  # before, the daemon may not know the last job
            for job in [*self._open]:
                with contextlib.suppress(api.DaemonRefused):  # it has ended
                    await self._client.cancel(job)
            await first_of(asyncio.sleep(AGAIN_WITHIN), work)  # their ends come soon

    # The table of results, and what is said at the end

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY)
            await self._write()

    async def _write(self) -> None:
        """Write the table of results, with what the jobs have cost."""
        with contextlib.suppress(WakestreamError):
            spent = await self._client.spent()
            for item in self.plan.items:
                used = spent.get(item.id, {})
                item.said |= {"seconds" if name == "used_s" else name: value for name, value in used.items()}
        if self.plan.results is None:
            return
        try:
            work = asyncio.to_thread(write_atomic, self.plan.results, self.plan.write(), mode=0o644)
            await finish_despite_cancel(work)  # it must not replace the last table
        except OSError as error:  # such as a table that is open in a spreadsheet on Windows
            logger.warning("{} cannot be written ({}); close it in other programs", self.plan.results, error.strerror)

    def _told(self) -> int:
        """Say what became of all rows; returns the exit code."""
        if self._stop.interrupted:
            say(t("batch.stopped" if self._stop.cancels else "batch.left"), error=True)
        if not self._flags.as_json:
            say(t("batch.ended", name=self.plan.name, counts=self._counts()))
            say(*([t("batch.results", path=self.plan.results)] if self.plan.results is not None else []))
        if self._flags.notify:
            notify("wakestream", self._counts())
        if self._stop.is_set():
            return exit_codes.INTERRUPTED
        failed = [item for item in self.plan.items if item.state not in ("done", "skipped", "open")]
        return exit_codes.FAILED if failed else exit_codes.DONE

    def _counts(self) -> str:
        states = Counter(item.state or "due" for item in self.plan.items)
        order = ("done", "skipped", "failed", "timed_out", "cancelled", "refused", "open", "due")
        return t("list.comma").join(t(f"batch.{state}", count=states[state]) for state in order if states[state])

    # The progress

    def _picture(self) -> RenderableType:
        items, console = self.plan.items, self._console
        over = sum(item.state not in ("", "open") for item in items)
        left = (len(items) - over) * (time.monotonic() - self._began) / self._ended if self._ended > 2 else None
        hope = "" if left is None else t("batch.left_s", time=words.duration(left, tenths=False))
        head = f"{bar(over / len(items), 20)}  {over} / {len(items)}  {self._counts()}{hope}"
        at_work = [
            (self._open[job], progress)
            for job, progress in self._progress.items()
            if progress.percent(time.time()) is not None
        ]
        shown = [(_listed(item), progress) for item, progress in at_work[:AT_WORK_MOST]]
        lines = jobs_table(shown, Costs({}), time.time(), console.width)[1:] if shown else [self._now]
        rows = (Text(line, no_wrap=True, overflow="crop") for line in lines if line)
        return Group(Text(head, "bold"), *rows, Text(t("batch.leave"), "dim"))


def _listed(item: Item) -> dict[str, Any]:
    """An open job, as the table of jobs takes it."""
    names = {name: path.name for name, path in item.job.inputs.items()}
    return {
        "id": item.id, "names": names, "kind": item.job.kind, "state": "open", "stage": "render", "outcome": None,
        "priority": item.job.priority, "output": str(item.job.output), "accepted_at": time.time(), "ended_at": None,
    }  # fmt: skip
