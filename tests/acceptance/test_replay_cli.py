"""`wakestream replay` and `wakestream shrink` as a user runs them."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Joining, Place
from tests.support.streams.replay_scene import LOGS, crowd, recorded, under
from wakestream.adapters.cli.render.table import width
from wakestream.adapters.telemetry.recordings import write
from wakestream.streams.recording.recording import Log
from wakestream.streams.recording.timeline import STAGES

COMMAND = (sys.executable, "-m", "wakestream.adapters.cli")
ROOT = Path(__file__).parents[2]
OFFLINE, ONLINE = LOGS / "offline.jsonl", LOGS / "online.jsonl"


class Answer:
    """What a command said."""

    def __init__(self, *arguments: object) -> None:
        ran = subprocess.run(
            [*COMMAND, *map(str, arguments)], capture_output=True, timeout=50, check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"},
        )  # fmt: skip
        self.code, self.out, self.err = ran.returncode, ran.stdout.decode(), ran.stderr.decode()
        assert "Traceback" not in self.err, self.err

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.splitlines()]


def saved(log: Log, path: Path) -> Path:
    write(log, path)
    return path


def tight(tmp_path: Path) -> Path:
    """A log whose job came online just in time."""
    log = recorded("offline")
    online = next(row.t for row in log.rows if row.label == "ack")
    return saved(under(log, online=round(online + 0.2, 3)), tmp_path / "tight.jsonl")


def tampered(tmp_path: Path) -> Path:
    """A log that says something else than the program does."""
    path = tmp_path / "tampered.jsonl"
    text = ONLINE.read_text(encoding="utf-8")
    path.write_text(re.sub(r'("label":"submitted".*"task_id":")', r"\1x", text), encoding="utf-8")
    return path


def test_recorded_logs_replay_the_same_with_each_jobs_stages_and_outcome() -> None:
    said = Answer("replay", OFFLINE, ONLINE)
    assert (said.code, said.err) == (0, "")
    assert said.out.count("same as recorded") == 2
    head, offline = (
        next(line for line in said.out.splitlines() if name in line.split()) for name in ("job", "job-offline")
    )
    assert head.split() == ["job", "outcome", "total", *STAGES]
    assert offline.split()[1] == "done"


def test_a_replay_as_json_is_one_object_a_log() -> None:
    said = Answer("replay", OFFLINE, ONLINE, "--json")
    assert [each["result"] for each in said.objects] == ["same", "same"]
    (job,) = said.objects[0]["jobs"]
    assert (job["job"], job["then"]["outcome"], job["now"]["outcome"], job["divergence"]) == (
        "job-offline", "done", "done", None,
    )  # fmt: skip
    assert set(job["stages"]) == set(STAGES)


def test_a_divergence_is_shown_as_a_small_diff_at_its_row(tmp_path: Path) -> None:
    said = Answer("replay", tampered(tmp_path))
    assert said.code == 1
    assert re.search(
        r"job-online: first divergence at seq \d+, submitted\n    - out submitted\n    -   task_id", said.out
    )
    assert "    + out submitted\n    +   task_id" in said.out
    (plain,) = Answer("replay", tampered(tmp_path), "--json").objects
    assert plain["result"] == "diverged"
    assert plain["divergences"][0]["label"] == "submitted"
    assert plain["divergences"][0]["expected"]["data"]["task_id"].startswith("x")


def test_a_field_that_the_program_has_gained_is_tolerated_when_lenient(tmp_path: Path) -> None:
    path = tmp_path / "older.jsonl"
    path.write_text(ONLINE.read_text(encoding="utf-8").replace(',"cached":false', ""), encoding="utf-8")
    assert Answer("replay", path).code == 1
    assert Answer("replay", path, "--strict").code == 1
    assert Answer("replay", path, "--lenient").code == 0


def test_what_if_shows_both_outcomes_side_by_side_and_is_no_failure() -> None:
    said = Answer("replay", OFFLINE, "--set", "online_timeout=0.5")
    assert said.code == 0
    assert "what if online_timeout=0.5: 1 of 1 outcomes differ" in said.out
    assert re.search(r"job +then +now\n +job-offline +done after .* timed_out:online after 0.5 s", said.out)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("replay", OFFLINE, "--set", "onlin=3"), "there is no 'onlin'; there are again.factor"),
        (("replay", OFFLINE, "--set", "online_timeout=x"), "is not a time"),
        (("replay", "nope.jsonl"), "nope.jsonl: there is no such file or folder"),
        (("replay", __file__), "test_replay_cli.py: the first line is no header"),
        (("replay", OFFLINE, "--strict", "--lenient"), "not allowed with"),
        (("replay", OFFLINE, "--speed", "-1"), "is no number from 0 on"),
        (("replay", OFFLINE, "--reorder", "--runs", "0"), "--runs 0 tries nothing"),
        (("replay", OFFLINE, "-o", "x.jsonl"), "-o is where --reorder writes"),
        (("replay", OFFLINE, "--reorder", "--speed", "1"), "--reorder looks for a failure"),
        (("replay", OFFLINE, ONLINE, "--svg", "x.svg"), "--svg draws one log"),
        (("replay", OFFLINE, "--together"), "--together: "),
        (("replay", OFFLINE, "--pipeline", "nothing"), "write MODULE:NAME"),
        (("shrink", OFFLINE, "--fails-if", "diverged", "--pipeline", "nowhere:at_all"), "No module named 'nowhere'"),
        (("replay", OFFLINE, "--pipeline", "wakestream.streams.jobs.job:at_all"), "has no attribute 'at_all'"),
        (("shrink", OFFLINE, "--fails-if", "bogus"), "unknown condition 'bogus'"),
        (("shrink", OFFLINE), "--fails-if"),
        (("shrink", OFFLINE, "--fails-if", "outcome=done", "-o", OFFLINE), "is the log itself"),
    ],
)
def test_wrong_usage_is_answered_with_a_sentence(arguments: tuple[object, ...], why: str) -> None:
    said = Answer(*arguments)
    assert said.code == 2
    assert why in said.err
    assert OFFLINE.read_bytes().startswith(b'{"v":1')


def test_one_unusable_log_does_not_keep_the_others_from_being_replayed(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("hello\n", encoding="utf-8")
    said = Answer("replay", tmp_path / "bad.jsonl", OFFLINE)
    assert said.code == 2
    assert "bad.jsonl: the first line is no header" in said.err
    assert "same as recorded" in said.out


def test_a_folder_with_packed_logs_and_logs_in_parts_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(OFFLINE.read_bytes()))
    header, *rows = ONLINE.read_bytes().splitlines(keepends=True)
    (tmp_path / "b-001.jsonl").write_bytes(header + b"".join(rows[:9]))
    (tmp_path / "b-002.jsonl").write_bytes(header + b"".join(rows[9:]))
    said = Answer("replay", tmp_path)
    assert said.code == 0
    assert said.out.count("same as recorded") == 2


def test_a_torn_log_is_followed_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_bytes(OFFLINE.read_bytes()[:-2000])
    said = Answer("replay", path)
    assert said.code == 0
    assert "its last line was cut off" in said.out
    assert "unfinished" in said.out


def test_with_a_speed_each_event_is_shown_as_it_happens() -> None:
    said = Answer("replay", ONLINE, "--speed", "1000")
    assert said.code == 0
    labels = [line.split()[-1] for line in said.out.splitlines()]
    assert labels.index("job.accept") < labels.index("granted") < labels.index("done")


def test_an_interrupted_replay_at_the_recorded_pace_ends_at_once(tmp_path: Path) -> None:
    slow = saved(under(recorded("offline"), reply=600.0, online=600.0), tmp_path / "slow.jsonl")
    with subprocess.Popen(
        [*COMMAND, "replay", str(slow), "--speed", "0.001"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, b"")


def test_a_race_is_found_written_and_fails_on_plain_replay_until_it_is_shrunk(tmp_path: Path) -> None:
    log = tight(tmp_path)
    assert Answer("replay", log).code == 0
    found = Answer("replay", log, "--reorder", "--seed", "0", "--runs", "60")
    assert found.code == 1
    seed = re.search(r"seed (\d+) fails\n  job-offline: done then, timed_out:online now", found.out)
    assert seed is not None
    failing = tmp_path / f"tight.seed-{seed[1]}.jsonl"
    again = Answer("replay", failing)
    assert again.code == 1
    assert "job-offline: first divergence at seq" in again.out
    assert "+ out timed_out" in again.out
    small = Answer("shrink", failing, "--fails-if", "outcome=timed_out:online,event=queued")
    assert small.code == 0
    assert "1 of 1 jobs" in small.out
    least = tmp_path / f"tight.seed-{seed[1]}.shrunk.jsonl"
    assert len(least.read_bytes().splitlines()) < len(failing.read_bytes().splitlines()) / 2
    assert orjson.loads(least.read_bytes().splitlines()[0])["config"]["shrunk_from"]["log"] == failing.name
    (plain,) = Answer("replay", least, "--json").objects
    assert (plain["result"], plain["jobs"][0]["now"]["detail"]) == ("same", "online")


def test_the_seed_of_a_found_failure_finds_it_again(tmp_path: Path) -> None:
    log = tight(tmp_path)
    (found,) = Answer("replay", log, "--reorder", "--runs", "60", "--json").objects
    out = tmp_path / "again.jsonl"
    again = Answer("replay", log, "--reorder", "--seed", found["seed"], "-o", out)
    assert again.code == 1
    assert out.read_bytes() == Path(found["written"]).read_bytes()


def test_jobs_of_a_users_own_pipeline_are_replayed_through_it(tmp_path: Path) -> None:
    (tmp_path / "my_pipelines.py").write_text(
        "from wakestream.operators.model.events import Note\nfrom wakestream.streams.jobs.stages import job_pipeline\n"
        "import reactivex as rx\n"
        "def noting(job, world, policy, cancel):\n"
        "    return rx.concat(rx.of(Note('mine')), job_pipeline(job, world, policy, cancel))\n",
        encoding="utf-8",
    )
    command = [*COMMAND, "replay", str(OFFLINE), "--pipeline", "my_pipelines:noting"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=50, check=False)
    assert ran.returncode == 1, ran
    assert b"+ out note" in ran.stdout


EXAMPLES = LOGS / "examples"


def in_folder(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in a folder of its own, where `--pipeline` finds modules."""
    ran = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def test_a_pipeline_may_be_named_by_the_expression_that_makes_it() -> None:
    ran = in_folder(ROOT / "examples", "replay", EXAMPLES / "batch.jsonl", "--pipeline", "batch:batched(3, 600.0)")
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    assert "same as recorded" in ran.stdout


def test_a_pipeline_that_is_made_by_an_expression_is_made_for_each_replay(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(
        "from wakestream.streams.jobs.stages import job_pipeline\n"
        "def fresh():\n"
        "    used = []\n"
        "    def build(job, *rest):\n"
        "        assert job.id not in used, 'this pipeline has had this job'\n"
        "        used.append(job.id)\n"
        "        return job_pipeline(job, *rest)\n"
        "    return build\n"
    )
    (tmp_path / "copy.jsonl").write_bytes(OFFLINE.read_bytes())
    ran = in_folder(tmp_path, "replay", OFFLINE, "copy.jsonl", "--pipeline", "once:fresh()")
    assert (ran.returncode, ran.stdout.count("same as recorded")) == (0, 2), ran
    orders = in_folder(tmp_path, "replay", OFFLINE, "--pipeline", "once:fresh()", "--reorder", "--runs", "3")
    assert orders.returncode == 0, orders
    least = ("--fails-if", "outcome=done", "--tries", "3", "-o", "small.jsonl")
    small = in_folder(tmp_path, "shrink", OFFLINE, "--pipeline", "once:fresh()", *least)
    assert small.returncode == 0, small


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("batch:batched(2", "--pipeline batch:batched(2: '(' was never closed"),
        ("batch:batched()", "TypeError: batched() missing 2 required positional arguments"),
        ("batch:batched", "takes (size, within); a pipeline takes (job, world, policy, cancel)"),
        ("batch:argparse", "is a module, not a pipeline"),
    ],
)
def test_what_makes_no_pipeline_is_refused_with_a_sentence(named: str, why: str) -> None:
    ran = in_folder(ROOT / "examples", "replay", OFFLINE, "--pipeline", named)
    assert ran.returncode == 2
    assert why in ran.stderr


def test_a_log_with_effects_of_a_pipeline_of_ones_own_says_which_option_is_missing() -> None:
    log = EXAMPLES / "custom_pipeline.jsonl"
    said = Answer("replay", log)
    assert said.code == 1
    assert "the jobs of this log called note, as no standard stage does: add --pipeline MODULE:NAME" in said.out
    (plain,) = Answer("replay", log, "--json").objects
    assert plain["own_effects"] == ["note"]
    named = in_folder(ROOT / "examples", "replay", log, "--pipeline", "custom_pipeline:lively")
    assert (named.returncode, "--pipeline" in named.stdout) == (0, False), named


def test_a_setting_that_makes_a_job_ask_otherwise_warns_that_the_log_cannot_answer() -> None:
    log = LOGS / "system" / "daemon.jsonl"
    alone = Answer("replay", log, "--set", "poll_every=10")
    warning = r"under poll_every=10, job-\d first asks otherwise \(report, at .+\).* --together"
    assert re.search(warning, alone.out), alone.out
    (plain,) = Answer("replay", log, "--set", "poll_every=10", "--json").objects
    assert plain["asks_otherwise"]["label"] == "report"
    together = Answer("replay", log.parent, "--together", "--set", "poll_every=10")
    assert "asks otherwise" not in together.out


def test_a_setting_that_only_ends_a_job_sooner_warns_of_nothing() -> None:
    said = Answer("replay", OFFLINE, "--set", "online_timeout=0.5")
    assert "asks otherwise" not in said.out


def test_no_order_makes_the_recorded_logs_worse(tmp_path: Path) -> None:
    for name in ("online", "offline"):
        (tmp_path / f"{name}.jsonl").write_bytes((LOGS / f"{name}.jsonl").read_bytes())
    said = Answer("replay", tmp_path, "--reorder", "--runs", "20")
    assert said.code == 0
    assert said.out.count("no order makes anything worse (seeds tried: 0-19)") == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_replay_and_shrink_speak_chinese_but_keep_the_words_of_conditions(tmp_path: Path) -> None:
    said = Answer("replay", OFFLINE, "--lang", "zh")
    assert said.code == 0
    assert "与记录一致" in said.out
    assert re.search(r"job-offline +done ", said.out)
    head, row = said.out.splitlines()[1:3]
    assert width(head[: head.index("submit")]) == row.index("0.0 s"), "the columns are aligned"
    small = Answer("shrink", OFFLINE, "--fails-if", "outcome=done", "-o", tmp_path / "x.jsonl", "--lang", "zh")
    assert "次重放后余下" in small.out


def test_a_log_that_does_not_fail_is_not_shrunk(tmp_path: Path) -> None:
    said = Answer("shrink", OFFLINE, "--fails-if", "outcome=failed", "-o", tmp_path / "x.jsonl")
    assert said.code == 1
    assert "does not fail so (outcome=failed): it replays as recorded, and its jobs end done" in said.out
    assert list(tmp_path.iterdir()) == []


def test_two_hundred_jobs_are_replayed_asked_and_shrunk(tmp_path: Path) -> None:
    many = crowd(recorded("offline"), "job-offline", [f"job-{n:03}" for n in range(199)])
    log = saved(many, tmp_path / "many.jsonl.gz")
    (plain,) = Answer("replay", log, "--json").objects
    assert (plain["result"], len(plain["jobs"])) == ("same", 200)
    said = Answer("replay", log, "--set", "online_timeout=0.5")
    assert (said.code, "200 of 200 outcomes differ" in said.out) == (0, True)
    small = Answer("shrink", log, "--fails-if", "outcome=done,job=job-100")
    assert (small.code, "1 of 200 jobs" in small.out) == (0, True)


def test_a_secret_in_a_log_is_refused_until_it_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "leaky.jsonl"
    secret = "ws_client_0123456789abcdefghijklmnop"
    path.write_text(ONLINE.read_text(encoding="utf-8").replace('"key":"[redacted]"', f'"key":"{secret}"'), "utf-8")
    refused = Answer("replay", path)
    assert refused.code == 2
    assert re.search(r"leaky.jsonl: line \d+ \(seq \d+, regist\w+\) holds a secret; `wakestream redact`", refused.err)
    cleaned = Answer("redact", path)
    assert (cleaned.code, "leaky.redacted.jsonl" in cleaned.out) == (0, True)
    clean = tmp_path / "leaky.redacted.jsonl"
    assert secret not in clean.read_text(encoding="utf-8") + refused.err + refused.out + cleaned.out
    assert Answer("replay", clean).code == 0


def test_the_help_of_shrink_documents_its_language() -> None:
    said = Answer("shrink", "--help")
    assert (said.code, "outcome=KIND:DETAIL" in said.out, "diverged" in said.out) == (0, True, True)


async def test_what_was_recorded_just_now_is_replayed_the_same(user: User, place: Place) -> None:
    async with asyncio.timeout(50), place.hub(), place.worker(Joining()):
        user.environment |= place.client_settings()
        ran = await user.submit("--job-id", "job-1", "--record", "rec")
        assert ran.code == 0, ran
        replayed = await user.run("replay", "rec")
        assert (replayed.code, replayed.err) == (0, ""), replayed
        assert "same as recorded" in replayed.out
        chaos = await user.run("replay", "rec", "--reorder", "--runs", "10")
        assert chaos.code == 0, chaos
