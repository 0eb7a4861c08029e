"""`wakestream replay --reorder` and `wakestream shrink` as their users run them."""

import re
from pathlib import Path

import orjson

from tests.support.programs.replay_cli_scene import OFFLINE, ONLINE, command_run, saved, tight
from tests.support.streams.replay_scene import LOGS, crowd, recorded
from wakestream.adapters.cli.render.table import width


def test_a_race_is_found_written_and_fails_on_plain_replay_until_it_is_shrunk(tmp_path: Path) -> None:
    log = tight(tmp_path)
    assert command_run("replay", log).code == 0
    found = command_run("replay", log, "--reorder", "--seed", "0", "--runs", "60")
    assert found.code == 1
    seed = re.search(r"seed (\d+) fails\n  job-offline: done then, timed_out:online now", found.out)
    assert seed is not None
    failing = tmp_path / f"tight.seed-{seed[1]}.jsonl"
    again = command_run("replay", failing)
    assert again.code == 1
    assert "job-offline: first divergence at seq" in again.out
    assert "+ out timed_out" in again.out
    command_run("shrink", failing, "--fails-if", "outcome=timed_out:online,event=queued").says("1 of 1 jobs")
    least = tmp_path / f"tight.seed-{seed[1]}.shrunk.jsonl"
    assert len(least.read_bytes().splitlines()) < len(failing.read_bytes().splitlines()) / 2
    assert orjson.loads(least.read_bytes().splitlines()[0])["config"]["shrunk_from"]["log"] == failing.name
    (plain,) = command_run("replay", least, "--json").events
    assert (plain["result"], plain["jobs"][0]["now"]["detail"]) == ("same", "online")


def test_the_seed_of_a_found_failure_finds_it_again(tmp_path: Path) -> None:
    log = tight(tmp_path)
    (found,) = command_run("replay", log, "--reorder", "--runs", "60", "--json").events
    out = tmp_path / "again.jsonl"
    again = command_run("replay", log, "--reorder", "--seed", found["seed"], "-o", out)
    assert again.code == 1
    assert out.read_bytes() == Path(found["written"]).read_bytes()


def test_no_order_makes_the_recorded_logs_worse(tmp_path: Path) -> None:
    for name in ("online", "offline"):
        (tmp_path / f"{name}.jsonl").write_bytes((LOGS / f"{name}.jsonl").read_bytes())
    said = command_run("replay", tmp_path, "--reorder", "--runs", "20")
    assert said.code == 0
    assert said.out.count("no other order is worse (seeds tried: 0-19)") == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_replay_and_shrink_print_chinese_with_english_conditions(tmp_path: Path) -> None:
    said = command_run("replay", OFFLINE, "--lang", "zh").says("与记录一致")
    assert re.search(r"job-offline +done ", said.out)
    head, row = said.out.splitlines()[1:3]
    assert width(head[: head.index("submit")]) == row.index("0.0 s"), "the columns are aligned"
    small = command_run("shrink", OFFLINE, "--fails-if", "outcome=done", "-o", tmp_path / "x.jsonl", "--lang", "zh")
    assert "次重放后余下" in small.out


def test_a_log_that_does_not_fail_is_not_shrunk(tmp_path: Path) -> None:
    said = command_run("shrink", OFFLINE, "--fails-if", "outcome=failed", "-o", tmp_path / "x.jsonl")
    assert said.code == 1
    assert "does not fail this way (outcome=failed): it replays as recorded, and its jobs end done" in said.out
    assert list(tmp_path.iterdir()) == []


def test_sixty_jobs_are_replayed_asked_and_shrunk(tmp_path: Path) -> None:
    many = crowd(recorded("offline"), "job-offline", [f"job-{n:03}" for n in range(59)])
    log = saved(many, tmp_path / "many.jsonl.gz")
    (plain,) = command_run("replay", log, "--json").events
    assert (plain["result"], len(plain["jobs"])) == ("same", 60)
    command_run("replay", log, "--set", "online_timeout=0.5").says("60 of 60 outcomes differ")
    command_run("shrink", log, "--fails-if", "outcome=done,job=job-030").says("1 of 60 jobs")


def test_a_secret_in_a_log_is_refused_until_it_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "leaky.jsonl"
    secret = "ws_client_0123456789abcdefghijklmnop"
    path.write_text(ONLINE.read_text(encoding="utf-8").replace('"key":"[redacted]"', f'"key":"{secret}"'), "utf-8")
    refused = command_run("replay", path)
    assert refused.code == 2
    assert re.search(r"leaky.jsonl: line \d+ \(seq \d+, regist\w+\) holds a secret; `wakestream redact`", refused.err)
    cleaned = command_run("redact", path).says("leaky.redacted.jsonl")
    clean = tmp_path / "leaky.redacted.jsonl"
    assert secret not in clean.read_text(encoding="utf-8") + refused.err + refused.out + cleaned.out
    assert command_run("replay", clean).code == 0


def test_the_help_of_shrink_documents_its_language() -> None:
    command_run("shrink", "--help").says("outcome=KIND:DETAIL", "diverged")
