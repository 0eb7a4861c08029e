"""`wakestream replay --pipeline` and `--set` as their users run them."""

import re
from pathlib import Path

import pytest

from tests.support.programs.replay_cli_scene import OFFLINE, ROOT, command_run
from tests.support.streams.replay_scene import LOGS


def test_jobs_of_a_users_own_pipeline_are_replayed_through_it(tmp_path: Path) -> None:
    (tmp_path / "my_pipelines.py").write_text(
        "from wakestream.operators.model.events import Note\nfrom wakestream.streams.jobs.stages import job_pipeline\n"
        "import reactivex as rx\n"
        "def noting(job, world, policy, cancel):\n"
        "    return rx.concat(rx.of(Note('mine')), job_pipeline(job, world, policy, cancel))\n",
        encoding="utf-8",
    )
    ran = command_run("replay", OFFLINE, "--pipeline", "my_pipelines:noting", folder=tmp_path)
    assert (ran.code, "+ out note" in ran.out) == (1, True), ran


EXAMPLES = LOGS / "examples"


def test_a_pipeline_may_be_named_by_the_expression_that_makes_it() -> None:
    ran = command_run(
        "replay", EXAMPLES / "batch.jsonl", "--pipeline", "batch:batched(3, 600.0)", folder=ROOT / "examples"
    )
    assert (ran.code, ran.err) == (0, ""), ran
    assert "same as recorded" in ran.out


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
    ran = command_run("replay", OFFLINE, "copy.jsonl", "--pipeline", "once:fresh()", folder=tmp_path)
    assert (ran.code, ran.out.count("same as recorded")) == (0, 2), ran
    orders = command_run("replay", OFFLINE, "--pipeline", "once:fresh()", "--reorder", "--runs", "3", folder=tmp_path)
    assert orders.code == 0, orders
    least = ("--fails-if", "outcome=done", "--tries", "3", "-o", "small.jsonl")
    small = command_run("shrink", OFFLINE, "--pipeline", "once:fresh()", *least, folder=tmp_path)
    assert small.code == 0, small


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("batch:batched(2", "--pipeline batch:batched(2: '(' was never closed"),
        ("batch:batched()", "TypeError: batched() missing 2 required positional arguments"),
        ("batch:batched", "takes (size, within); a pipeline takes (job, world, policy, cancel)"),
        ("batch:argparse", "is a module, not a pipeline"),
    ],
)
def test_an_invalid_pipeline_is_refused_with_a_message(named: str, why: str) -> None:
    command_run("replay", OFFLINE, "--pipeline", named, folder=ROOT / "examples").says(why, code=2)


def test_a_log_with_custom_effects_names_the_missing_option() -> None:
    log = EXAMPLES / "custom_pipeline.jsonl"
    said = command_run("replay", log)
    assert said.code == 1
    assert "the jobs of this log called note, which no standard stage does: add --pipeline MODULE:NAME" in said.out
    (plain,) = command_run("replay", log, "--json").events
    assert plain["own_effects"] == ["note"]
    named = command_run("replay", log, "--pipeline", "custom_pipeline:lively", folder=ROOT / "examples")
    assert (named.code, "--pipeline" in named.out) == (0, False), named


def test_a_setting_that_changes_requests_warns_that_the_log_has_no_answers() -> None:
    log = LOGS / "system" / "daemon.jsonl"
    alone = command_run("replay", log, "--set", "poll_every=10")
    warning = r"with poll_every=10, job-\d first sends a different request \(report, at .+\).* --together"
    assert re.search(warning, alone.out), alone.out
    (plain,) = command_run("replay", log, "--set", "poll_every=10", "--json").events
    assert plain["asks_otherwise"]["label"] == "report"
    together = command_run("replay", log.parent, "--together", "--set", "poll_every=10")
    assert "asks otherwise" not in together.out


def test_a_setting_that_only_ends_a_job_sooner_does_not_warn() -> None:
    said = command_run("replay", OFFLINE, "--set", "online_timeout=0.5")
    assert "asks otherwise" not in said.out
