"""`wakestream shrink LOG --fails-if EXPR`: the smallest log that still fails."""

from __future__ import annotations

import argparse
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.replay import pipeline_option as pipelines
from wakestream.adapters.cli.replay.report import ReplayOutput, trouble
from wakestream.adapters.telemetry.recordings import LogFile, find_one, output_beside, read, write
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.log_edit import inputs, log_as_replayed, with_rows
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.report import jobs_in
from wakestream.streams.triage.failure_predicate import BadCondition, parse
from wakestream.streams.triage.replay_attempt import Trial
from wakestream.streams.triage.shrink import Search, shrink

EXAMPLES = (
    "shrink daemon.jsonl --fails-if outcome=failed",
    'shrink daemon.jsonl --fails-if "wake>60,outcome=done" -o small.jsonl',
)

LANGUAGE = """\
EXPR is one condition, or several joined by commas, which must then all hold. Those about a job must hold for one and
the same job.

  outcome=KIND          a job ends so: done, failed, timed_out, cancelled or unfinished
                        (in a monitor's log: its machine's last state, such as off or failed)
  outcome=KIND:DETAIL   with this code (failed:gpu_lost) or in this stage (timed_out:online)
  code=WORD             a job fails with this code, such as boot_failed
  event=KIND            a job has an event of this kind, such as retrying
  events>N              a job has more events than that; or < or =, as in the next two
  seconds>N             a job takes longer than that
  STAGE>N               a stage of a job does: submit, wake, ready, check, upload, render, download
  job=ID                it is this job
  diverged              the replay does something else than the log says, just as it does now
  crashed               the program itself raises an error
  deadlock              no event is left, but a job still waits"""

EXITS = "exit codes: 0 the smaller log is written, 1 the log does not fail so, 2 it cannot be used or wrong usage"

TRIES = 5000


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = LANGUAGE
    parser.add_argument("log", type=Path, metavar="LOG", help="a .jsonl or .jsonl.gz")
    flags.add(parser, "--fails-if EXPR", "what counts as failing; see below", required=True)
    flags.add(parser, "-o --output OUT", "the smaller log (default LOG.shrunk.jsonl)", type=Path)
    flags.add(parser, "--tries N", f"limit of replays (default {TRIES})", type=flags.whole(1), default=TRIES)
    flags.add(parser, "--json", "the result as a JSON object")
    pipelines.flag(parser)


def run(args: argparse.Namespace) -> int:
    """Shrink the log."""
    show = ReplayOutput(as_json=args.json)
    try:
        return _shrink(args, show)
    except BadCondition as error:
        return show.unusable(f"--fails-if: {error}; see wakestream shrink --help")
    except (UnusableLog, pipelines.NoPipeline) as error:
        return show.unusable(str(error))


def _shrink(args: argparse.Namespace, show: ReplayOutput) -> int:
    condition = parse(args.fails_if)
    file = find_one(args.log)
    output = output_beside(file, args.output, "shrunk")
    log = read(file)
    make = pipelines.pipeline(args.pipeline)

    def run(log: Log) -> Trial:
        return run_log(log, build=make())

    first = run(log)
    if not first.meets(condition):
        show.result({"result": "does not fail", "was": first.result}, _why_not(args, file, first))
        return exit_codes.FAILED
    search = Search(first, condition, run, args.tries)
    small = shrink(log, search.fails, search.may_go)
    again = run(small).replayed
    if again is not None and "diverged" not in condition.of_log:
        small = log_as_replayed(small, again.again)
    write(with_note(small, file, log, args.fails_if), output)
    jobs, all_jobs = (len(jobs_in(each)) for each in (small, log))
    of = {"rows": len(small.rows), "inputs": len(inputs(small)), "jobs": jobs}
    was = {"rows": len(log.rows), "inputs": len(inputs(log)), "jobs": all_jobs}
    left = t(
        "shrink.left", tries=search.tries, stopped=t("shrink.stopped") if search.used_up else "",
        jobs=jobs, all_jobs=all_jobs, inputs=of["inputs"], all_inputs=was["inputs"],
        rows=of["rows"], all_rows=was["rows"],
    )  # fmt: skip
    plain = {"result": "shrunk", "written": plain_text(output), "left": of, "was": was, "tries": search.tries}
    show.result(plain, left, t("shrink.written", path=output))
    return exit_codes.DONE


def with_note(small: Log, file: LogFile, log: Log, fails_if: str) -> Log:
    """`small` with a word in its header on where it comes from."""
    note = {"log": plain_text(file.parts[0].name), "rows": len(log.rows), "fails_if": fails_if}
    return with_rows(small, small.rows, {"shrunk_from": note})


def _why_not(args: argparse.Namespace, file: LogFile, first: Trial) -> str:
    if first.report is None:
        return t("shrink.why_not", name=file.name, why=trouble(first))
    ends = ", ".join(sorted({str(job.outcome) for job in first.report.now.values()})) or t("shrink.no_jobs")
    how = "shrink.same" if first.result == "same" else "shrink.other"
    return t(how, name=file.name, condition=args.fails_if, ends=ends)
