"""The programs' metrics, scraped as Prometheus does it."""

import asyncio
import json
import math
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.programs.client_scene import User, clean_environment
from tests.support.programs.examples_scene import receiver
from tests.support.programs.metrics_scene import House, families, house, read
from tests.support.programs.our_peers import Joining, Place, until
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.metrics_server import metrics_listener

METRICS = ("--metrics", "127.0.0.1:0")

ROOT = Path(__file__).parents[2]


def told() -> dict[str, set[str]]:
    """The names in the table of docs/metrics.md, with their labels."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for cell, programs in re.findall(r"^\| (`wakestream_[^|]+`) \| ([^|]+) \|", page, re.MULTILINE):
        for name, labels in re.findall(r"`(\w+)(?:\{([a-z,]+)\})?`", cell):
            of = programs.split(", ") if "PROGRAM" in name else [""]
            found |= {name.replace("PROGRAM", program): set(labels.split(",")) - {""} for program in of}
    return found


def labelled(text: str) -> dict[str, set[str]]:
    """The labels of each family that has a sample; a histogram's samples are named after it."""
    found: dict[str, set[str]] = {}
    for sample, values in read(text).items():
        name = re.sub(r"_(bucket|count|sum)$", "", sample)
        found[name] = {label for labels in values for label, _ in labels} - {"le"}
    return found


async def all_at_work(made: House, engine: Joining, webhook: str) -> None:
    await made.begin_hub()
    await made.begin_monitor()
    await made.begin_worker(engine)
    await made.begin_daemon(webhook)


async def test_a_job_shows_in_the_metrics_of_all_four_programs_and_no_label_holds_it(user: User, place: Place) -> None:
    async with receiver() as (webhook, news), house(user, place) as made:
        engine = Joining(held=True)
        await all_at_work(made, engine, webhook)
        await made.submit("job-in-no-label")
        await until(lambda: bool(made.worker.queue.state.busy))
        assert await made.says("worker", "wakestream_worker_rendering") == 1
        assert await made.says("hub", "wakestream_hub_leases", gpu="gpu") == 1
        assert await made.says("hub", "wakestream_hub_gpu_phase", gpu="gpu", phase="online") == 1
        assert await made.says("hub", "wakestream_hub_gpu_phase", gpu="gpu", phase="off") == 0
        for role in ("client", "worker", "monitor"):
            await made.comes(1, "hub", "wakestream_hub_connections", role=role)
        await made.comes(1, "daemon", "wakestream_daemon_jobs_open", stage="render")
        engine.go_on.set()
        await until(lambda: bool(news) and not made.daemon.outbox.state.pending)
        await until(lambda: not made.hub.state.jobs)
        texts = [await made.scrape(program) for program in made.urls]
        for secret in ("job-in-no-label", "clip", "speech", "out.mp4", *place.keys.values(), webhook, "whsec"):
            assert not any(secret in text for text in texts), secret
        daemon, worker, hub = [read(await made.scrape(name)) for name in ("daemon", "worker", "hub")]
        assert daemon["wakestream_daemon_jobs_ended_total"][(("outcome", "done"),)] == 1
        assert daemon["wakestream_daemon_sent_bytes_total"][()] == 7500
        assert daemon["wakestream_daemon_result_bytes_total"][()] == 7500
        for stage in ("wake", "upload", "render", "download"):
            assert daemon["wakestream_daemon_stage_seconds_count"][(("stage", stage),)] == 1
        assert daemon["wakestream_daemon_webhook_attempts_total"][(("result", "delivered"),)] == 1
        assert worker["wakestream_worker_render_seconds_count"][(("outcome", "done"),)] == 1
        assert worker["wakestream_worker_journal_commits_total"][()] >= 2
        assert hub["wakestream_hub_jobs_total"][(("move", "released"),)] == 1
        assert hub["wakestream_hub_gpu_uptime_seconds_total"][(("gpu", "gpu"),)] > 0
        assert hub["wakestream_hub_gpu_cost_total"][(("gpu", "gpu"),)] > 0
        await until(lambda: made.hub.state.gpus["gpu"].phase == "online")
        monitor = read(await made.scrape("monitor"))
        assert monitor["wakestream_monitor_provider_calls_total"][("call", "inspect"), ("result", "ok")] >= 1
        assert monitor["wakestream_monitor_hub_connected"][()] == 1


async def test_the_page_names_every_metric_and_no_other(user: User, place: Place) -> None:
    async with receiver() as (webhook, _), house(user, place) as made:
        await all_at_work(made, Joining(), webhook)
        await made.begin_depot()
        await made.begin_front()
        texts = [await made.scrape(program) for program in made.urls]
    assert set().union(*map(families, texts)) == set(told())
    for name, labels in {name: labels for text in texts for name, labels in labelled(text).items()}.items():
        assert labels == told().get(name, labels), name


async def test_waiting_jobs_are_counted_by_what_they_wait_for_and_their_boot_is_timed(user: User, place: Place) -> None:
    async with house(user, place) as made:
        await made.begin_hub()
        await made.begin_daemon()
        await made.submit()
        await until(lambda: len(made.hub.state.queue) == 1)
        assert await made.says("hub", "wakestream_hub_jobs_waiting", phase="no_monitor") == 1
        assert await made.says("hub", "wakestream_hub_jobs_waiting", phase="booting") == 0
        assert await made.says("hub", "wakestream_hub_jobs_total", move="queued") == 1
        assert "wakestream_daemon_webhooks_owed" not in read(await made.scrape("daemon"))
        assert await made.says("hub", "wakestream_hub_boot_seconds_count") == 0
        await made.begin_worker(Joining())
        await until(lambda: not made.hub.state.queue)
        hub = read(await made.scrape("hub"))
        assert hub["wakestream_hub_boot_seconds_count"][()] == 1
        eta = {dict(labels)["percentile"] for labels in hub["wakestream_hub_boot_eta_seconds"]}
        assert eta == {"50", "90"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt-get install promtool")
async def test_promtool_accepts_the_metrics_of_every_program(user: User, place: Place) -> None:
    async with receiver() as (webhook, _), house(user, place) as made:
        await made.begin_hub()
        await made.begin_daemon(webhook)
        await made.submit()
        await until(lambda: len(made.hub.state.queue) == 1)
        await made.begin_monitor()
        await made.begin_worker(Joining())
        await until(lambda: made.daemon.outbox.state.jobs["job-1"].state == "done")
        texts = {program: await made.scrape(program) for program in made.urls}
        assert "boot_eta_seconds{" in texts["hub"]
        assert {program: await lint(text) for program, text in texts.items()} == dict.fromkeys(texts, (0, ""))


NORMAL = {
    "hub_leader{instance='a'}": 1, "hub_leader{instance='b'}": 0, "hub_standby_lag_seconds{instance='b'}": 0.2,
    "front_up{instance='b'}": 1,
}  # fmt: skip
ALERTS: dict[str, dict[str, float]] = {
    "WakestreamNoLeader": {"hub_leader{instance='a'}": 0, "hub_leader{instance='b'}": 0},
    "WakestreamTwoLeaders": {"hub_leader{instance='b'}": 1},
    "WakestreamNoStandby": {"hub_leader{instance='b'}": math.nan},
    "WakestreamStandbyLags": {"hub_standby_lag_seconds{instance='b'}": 6},
    "WakestreamLeaderChangesOften": {"hub_epoch{instance='b'}": 4},
    "WakestreamFrontWithoutHub": {"front_up{instance='b'}": 0},
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt-get install promtool")
def test_each_alert_for_several_hubs_fires_when_it_should_and_no_other_does(tmp_path: Path) -> None:
    file = ROOT / "deploy" / "prometheus-alerts.yaml"
    rules = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == set(ALERTS)
    assert {name for rule in rules for name in re.findall(r"wakestream_\w+", rule["expr"])} <= set(told())
    tests = [case(rules, ALERTS.get(fires, {}), fires) for fires in ("", *ALERTS)]
    (tmp_path / "test.json").write_text(json.dumps({"rule_files": [str(file)], "tests": tests}))
    promtool = ["promtool", "test", "rules", tmp_path / "test.json"]
    done = subprocess.run(promtool, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def case(rules: list[dict[str, Any]], amiss: dict[str, float], fires: str) -> dict[str, Any]:
    """A test of promtool: a quarter of an hour in which something is amiss, and the alert that fires then."""
    series = [
        {"series": f"wakestream_{name}", "values": "_x15" if math.isnan(value) else f"0 {value}x15"}
        for name, value in {**NORMAL, "hub_epoch{instance='b'}": 0, **amiss}.items()
    ]
    about = {"instance": "b"} if fires in ("WakestreamStandbyLags", "WakestreamFrontWithoutHub") else {}
    expected = [
        {
            "eval_time": "15m", "alertname": rule["alert"],
            "exp_alerts": [{
                "exp_labels": {**rule["labels"], **about},
                "exp_annotations": {"summary": rule["annotations"]["summary"].replace("{{ $labels.instance }}", "b")},
            }] if rule["alert"] == fires else [],
        }
        for rule in rules
    ]  # fmt: skip
    return {"interval": "1m", "input_series": series, "alert_rule_test": expected}


async def lint(text: str) -> tuple[int | None, str]:
    """What `promtool check metrics` says."""
    process = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate(text.encode())
    return process.returncode, said.decode()


async def test_refusals_are_counted_by_reason(user: User, place: Place) -> None:
    async with house(user, place) as made:
        await made.begin_hub()
        made.place.keys["worker"] = "ws_worker_wrong0123456789abcdef"
        await made.begin_worker(Joining())
        await until(lambda: bool(made.hub.refused))
        samples = read(await made.scrape("hub"))["wakestream_hub_refusals_total"]
        assert samples[(("reason", "unauthorized"),)] >= 1
        async with made.session.get(f"{made.worker.address}/api/heygem/queue") as response:
            assert response.status == 401
        worker = read(await made.scrape("worker"))["wakestream_worker_refusals_total"]
        assert sum(worker.values()) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/../etc", 404), ("POST", "/metrics", 405), ("GET", "/api/heygem/health", 404)],
)
async def test_the_metrics_port_answers_only_scrapes(method: str, path: str, status: int) -> None:
    async with (
        metrics_listener(("127.0.0.1", 0), lambda: [ff.build("hub")]) as url,
        aiohttp.ClientSession() as session,
        session.request(method, url.removesuffix("/metrics") + path, data=b"x" * 10) as response,
    ):
        assert response.status == status


async def test_a_scrape_for_openmetrics_gets_that_format() -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    async with (
        metrics_listener(("127.0.0.1", 0), lambda: [ff.build("hub")]) as url,
        aiohttp.ClientSession() as session,
        session.get(url, headers=accept) as response,
    ):
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")


async def test_several_listeners_in_one_process_do_not_mix() -> None:
    async with (
        metrics_listener(("127.0.0.1", 0), lambda: [ff.build("hub")]) as one,
        metrics_listener(("127.0.0.1", 0), lambda: [ff.build("worker")]) as two,
        aiohttp.ClientSession() as session,
    ):
        for url, program in ((one, "hub"), (two, "worker")):
            async with session.get(url) as response:
                (labels,) = read(await response.text())["wakestream_build_info"]
                assert dict(labels)["program"] == program


async def test_the_hub_as_a_process_announces_its_metrics_and_refuses_a_port_that_is_taken(user: User) -> None:
    state = ("--state", str(user.folder.parent / "hub"))
    listen = ("--listen", "127.0.0.1:0")
    async with aiohttp.ClientSession() as session:
        async with user.runs("hub", *listen, *state, "--metrics", "127.0.0.1:0") as hub:
            await hub.address()
            hub.process.terminate()
            ran = await hub.ended()
        assert re.search(r"metrics at http://127\.0\.0\.1:\d+/metrics", ran.err)
        async with metrics_listener(("127.0.0.1", 0), list) as url, session.get(url) as response:
            assert response.status == 200
            port = url.split(":")[2].split("/")[0]
            taken = await user.run("hub", *listen, *state, WAKESTREAM_METRICS=f"127.0.0.1:{port}")
        assert (taken.code, "--metrics: " in taken.err, "is taken" in taken.err) == (2, True, True)


@asynccontextmanager
async def scraped(user: User, *command: str, **environment: str) -> AsyncIterator[str]:
    """What a program's first scrape says, while it runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", *command, *METRICS, "--log-json",
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, cwd=user.folder, env=clean_environment() | environment,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        url = ""
        while not url:
            line = json.loads(await process.stderr.readline())
            url = line["message"].removeprefix("metrics at ") if line["stage"] == "metrics" else ""
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            yield await response.text()
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("program", ["worker", "monitor", "daemon"])
async def test_every_program_takes_the_flag(user: User, program: str) -> None:
    more = {
        "worker": ("--listen", "127.0.0.1:0", "--state", "worker"),
        "monitor": ("--power", "command", "--start", "true", "--stop", "true", "--inspect", "true", "--state", "m"),
        "daemon": ("--state", "daemon"),
    }[program]
    variables = {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "k" * 20, "HEYGEM_API_SECRET": "s" * 20}
    async with scraped(user, program, *more, **variables) as text:
        shown = families(text)
    assert shown - told().keys() == set()
    assert {name for name in told() if f"_{program}_" in name} - shown == (
        {"wakestream_daemon_webhooks_owed", "wakestream_daemon_webhook_attempts_total"}
        if program == "daemon"
        else set()
    )
