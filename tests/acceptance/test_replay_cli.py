"""`wakestream replay` and `wakestream shrink` as a user runs them."""

import asyncio
import gzip
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.incidents.catalog import takeover
from tests.support.incidents.scene import RECORD, scene
from tests.support.programs.client_scene import User
from tests.support.programs.here import ran_here
from tests.support.programs.our_peers import Joining, Place
from tests.support.programs.replay_cli_scene import COMMAND, OFFLINE, ONLINE, command_run, saved, tampered
from tests.support.streams.replay_scene import LOGS, recorded, under
from wakestream.streams.recording.timeline import STAGES

SYSTEM_HUB, OTHER_RUN = LOGS / "system" / "hub.jsonl", LOGS / "many_jobs" / "daemon.jsonl.gz"


def test_recorded_logs_replay_the_same_with_each_jobs_stages_and_outcome() -> None:
    said = command_run("replay", OFFLINE, ONLINE)
    assert (said.code, said.err) == (0, "")
    assert said.out.count("same as recorded") == 2
    head, offline = (
        next(line for line in said.out.splitlines() if name in line.split()) for name in ("job", "job-offline")
    )
    assert head.split() == ["job", "outcome", "total", *STAGES]
    assert offline.split()[1] == "done"


def test_a_replay_as_json_is_one_object_a_log() -> None:
    said = command_run("replay", OFFLINE, ONLINE, "--json")
    assert [each["result"] for each in said.events] == ["same", "same"]
    (job,) = said.events[0]["jobs"]
    assert (job["job"], job["then"]["outcome"], job["now"]["outcome"], job["divergence"]) == (
        "job-offline", "done", "done", None,
    )  # fmt: skip
    assert set(job["stages"]) == set(STAGES)


def test_a_divergence_is_shown_as_a_small_diff_at_its_row(tmp_path: Path) -> None:
    said = command_run("replay", tampered(tmp_path))
    assert said.code == 1
    assert re.search(
        r"job-online: first divergence at seq \d+, submitted\n    - out submitted\n    -   task_id", said.out
    )
    assert "    + out submitted\n    +   task_id" in said.out
    (plain,) = command_run("replay", tampered(tmp_path), "--json").events
    assert plain["result"] == "diverged"
    assert plain["divergences"][0]["label"] == "submitted"
    assert plain["divergences"][0]["expected"]["data"]["task_id"].startswith("x")


def test_the_logs_of_a_takeover_replay_together_and_a_changed_one_diverges_with_the_reason(tmp_path: Path) -> None:
    said = command_run("replay", LOGS / "takeover", "--together")
    assert (said.code, said.err) == (0, "")
    assert "4 logs: 4 same" in said.out
    shutil.copytree(LOGS / "takeover", tmp_path / "changed")
    later = tmp_path / "changed" / "hub-2.jsonl"
    later.write_text(later.read_text().replace('"serial","items":[4]', '"serial","items":[5]'))
    said = command_run("replay", tmp_path / "changed", "--together")
    assert said.code == 1
    assert "journal: first divergence at seq 1, started" in said.out
    assert "    -   serial = [5]\n" in said.out
    assert "The hub began with another state than the hubs before it wrote" in said.out


async def test_two_hubs_of_which_one_is_killed_record_logs_that_replay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with asyncio.timeout(120), scene() as running:
        await takeover(running)
    (await asyncio.to_thread(command_run, "replay", RECORD, "--together")).says("4 logs: 4 same")


def test_a_field_that_the_program_has_gained_is_tolerated_when_lenient(tmp_path: Path) -> None:
    path = tmp_path / "older.jsonl"
    path.write_text(ONLINE.read_text(encoding="utf-8").replace(',"cached":false', ""), encoding="utf-8")
    assert command_run("replay", path).code == 1
    assert command_run("replay", path, "--strict").code == 1
    assert command_run("replay", path, "--lenient").code == 0


def test_what_if_prints_both_outcomes_and_exits_with_0() -> None:
    said = command_run("replay", OFFLINE, "--set", "online_timeout=0.5")
    assert said.code == 0
    assert "what if online_timeout=0.5: 1 of 1 outcomes differ" in said.out
    assert re.search(r"job +then +now\n +job-offline +done after .* timed_out:online after 0.5 s", said.out)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("replay", OFFLINE, "--set", "onlin=3"), "there is no 'onlin'; there are again.factor"),
        (("replay", OFFLINE, "--set", "online_timeout=x"), "is not a time"),
        (("replay", "nope.jsonl"), "nope.jsonl: the file or folder does not exist"),
        (("replay", __file__), "test_replay_cli.py: the first line is no header"),
        (("replay", OFFLINE, "--strict", "--lenient"), "not allowed with"),
        (("replay", OFFLINE, "--speed", "-1"), "is no number from 0 on"),
        (("replay", OFFLINE, "--reorder", "--runs", "0"), "--runs 0 tries nothing"),
        (("replay", OFFLINE, "-o", "x.jsonl"), "-o is where --reorder writes"),
        (("replay", OFFLINE, "--reorder", "--speed", "1"), "--reorder looks for a failure"),
        (("replay", OFFLINE, ONLINE, "--svg", "x.svg"), "--svg draws one log"),
        (("replay", OFFLINE, "--together"), "--together: "),
        (
            ("replay", SYSTEM_HUB, OTHER_RUN, "--together"),
            f"--together: {OTHER_RUN}: this log of 'daemon' shares no connection",
        ),
        (("replay", OFFLINE, "--pipeline", "nothing"), "write MODULE:NAME"),
        (("shrink", OFFLINE, "--fails-if", "diverged", "--pipeline", "nowhere:at_all"), "No module named 'nowhere'"),
        (("replay", OFFLINE, "--pipeline", "wakestream.streams.jobs.stages:at_all"), "has no attribute 'at_all'"),
        (("shrink", OFFLINE, "--fails-if", "bogus"), "unknown condition 'bogus'"),
        (("shrink", OFFLINE), "--fails-if"),
        (("shrink", OFFLINE, "--fails-if", "outcome=done", "-o", OFFLINE), "is the input log"),
    ],
)
def test_wrong_usage_is_answered_with_a_sentence(arguments: tuple[object, ...], why: str) -> None:
    ran_here(*arguments).says(why, code=2)
    assert OFFLINE.read_bytes().startswith(b'{"v":1')


def test_one_unusable_log_does_not_keep_the_others_from_being_replayed(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("hello\n", encoding="utf-8")
    said = command_run("replay", tmp_path / "bad.jsonl", OFFLINE).says("bad.jsonl: the first line is no header", code=2)
    assert "same as recorded" in said.out


def test_a_folder_with_packed_logs_and_logs_in_parts_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(OFFLINE.read_bytes()))
    header, *rows = ONLINE.read_bytes().splitlines(keepends=True)
    (tmp_path / "b-001.jsonl").write_bytes(header + b"".join(rows[:9]))
    (tmp_path / "b-002.jsonl").write_bytes(header + b"".join(rows[9:]))
    said = command_run("replay", tmp_path)
    assert said.code == 0
    assert said.out.count("same as recorded") == 2


def test_a_torn_log_is_followed_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_bytes(OFFLINE.read_bytes()[:-2000])
    command_run("replay", path).says("its incomplete", "unfinished")


def test_with_a_speed_each_event_is_shown_as_it_happens() -> None:
    said = command_run("replay", ONLINE, "--speed", "1000")
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
        _, err = running.communicate(timeout=100)
    assert (running.returncode, err) == (130, b"")


async def test_a_new_recording_replays_the_same(user: User, place: Place) -> None:
    async with place.hub(), place.worker(Joining()):
        ran = await user.submit("--job-id", "job-1", "--record", "rec")
        assert ran.code == 0, ran
        replayed = await user.run("replay", "rec")
        assert (replayed.code, replayed.err) == (0, ""), replayed
        assert "same as recorded" in replayed.out
        await user.does("replay", "rec", "--reorder", "--runs", "10")
