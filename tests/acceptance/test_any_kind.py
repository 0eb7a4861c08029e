"""Jobs of any kind through our real programs: hub, worker and client in one loop, over sockets and files."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.field.hub import field_hub
from tests.support.field.worker import field_worker
from tests.support.programs.any_kind_scene import CUT, KINDS, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.here import Here
from tests.support.programs.our_peers import SECRET, Place, gpu_online
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.telemetry.recordings import LogFile, read
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import Kind, Slot, numbered
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.rx.then import then
from wakestream.streams.jobs.stages import Events, Stages, pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.protocol.kinds import kind_from


@pytest.fixture
def scene(tmp_path: Path, user: User) -> Scene:
    return Scene(tmp_path, Place(tmp_path, user))


async def test_two_files_and_a_parameter_go_in_and_two_files_come_out(scene: Scene) -> None:
    async with scene.gpu(), scene.client() as client:
        job = scene.job("one", times=2)
        done = await scene.run(client, job)
        whole, log = job.outputs.values()
        assert done == e.Done(whole, 16000, (e.ResultFile("whole", whole, 16000), e.ResultFile("log", log, 21)))
        assert whole.read_bytes() == (b"a" * 5000 + b"b" * 3000) * 2
        assert log.read_text() == "join of first, second"
        assert scene.of("one", e.Uploaded)[0].sent == 8000
        assert {event.name for event in scene.of("one", e.Downloading)} == {"whole", "log"}


async def test_the_cache_knows_kind_and_parameters(scene: Scene) -> None:
    async with scene.gpu(), scene.client() as client:
        jobs = [
            scene.job("one", outputs=["whole"]),
            scene.job("default", outputs=["whole"], times=1),
            scene.job("twice", outputs=["whole"], times=2),
            scene.job("reverse", kind="reverse", outputs=["whole"]),
        ]
        for job in jobs:
            assert isinstance(await scene.run(client, job), e.Done)
        assert [scene.of(job.id, e.Submitted)[0].cached for job in jobs] == [False, True, False, False]
        assert [len(job.output.read_bytes()) for job in jobs] == [8000, 8000, 16000, 5000]
        assert [work.kind for work in scene.engine.works] == ["join", "join", "reverse"]
        assert sum(scene.of(job.id, e.Uploaded)[0].sent for job in jobs[1:]) == 0


def cut(scene: Scene, name: str, *outputs: str, files: int = 9, **params: Any) -> e.Job:
    folder = scene.folder / "out"
    folder.mkdir(exist_ok=True)
    inputs = {numbered("files", n): scene.file(f"{n}.bin", b"%d" % n) for n in range(1, files + 1)}
    return e.Job(name, inputs, {out: folder / f"{name}.{out}.bin" for out in outputs}, "cut", params)


async def test_a_list_of_any_length_goes_in_and_comes_out_and_no_file_is_replaced(scene: Scene) -> None:
    scene.engine.kinds = [CUT]
    async with scene.gpu(), scene.client() as client:
        job = cut(scene, "one", "parts")
        folder = job.output.parent
        (folder / "one.parts_3.bin").write_bytes(b"a file of the user's")
        done = await scene.run(client, job)
        assert isinstance(done, e.Done)
        assert [file.name for file in done.files] == ["parts", *(f"parts_{n}" for n in range(2, 13))]
        assert [file.path.read_bytes() for file in done.files] == [b"%d of 9 files" % n for n in range(1, 13)]
        names = ["one.parts.bin", *(f"one.parts_{n}.bin" for n in range(2, 13)), "one.parts_3-2.bin"]
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)
        assert (folder / "one.parts_3.bin").read_bytes() == b"a file of the user's"
        again = await scene.run(client, job)
        assert (again, len([*folder.iterdir()])) == (done, 13), "what is there is not fetched into another file"


async def test_what_was_made_arrives_and_what_was_not_is_named(scene: Scene) -> None:
    scene.engine.kinds = [CUT]
    async with scene.gpu(), scene.client() as client:
        done = await scene.run(client, cut(scene, "one", "parts", "parts_2", "parts_7", "mask", parts=3))
        assert isinstance(done, e.Done)
        assert [file.name for file in done.files] == ["parts", "parts_2", "parts_3"]
        assert done.absent == ("parts_7", "mask")
        failed = await scene.run(client, cut(scene, "two", "parts_7", parts=3))
        assert isinstance(failed, e.Failed)
        assert "the engine made no output parts_7; it made parts, parts_2, parts_3" in failed.why


async def test_peers_that_know_no_lists_see_eight_files(scene: Scene) -> None:
    scene.engine.kinds = [CUT]
    async with (
        scene.worker() as worker,
        ClientSession() as session,
        session.get(f"{worker.address}/api/heygem/health") as answer,
    ):
        plain = {kind["name"]: kind for kind in (await answer.json())["kinds"]}["cut"]
    assert [slot["name"] for slot in plain["inputs"]] == ["files", *(f"files_{n}" for n in range(2, 9))]
    assert [slot["required"] for slot in plain["outputs"]] == [True, *[False] * 8]
    assert kind_from(plain) == CUT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "paint"}, "this worker has no kind 'paint'; it has join, reverse"),
        ({"times": 10}, "parameter times: 10 is too large; give 9 or less"),
        ({"speed": 1}, "kind join has no parameter 'speed'; it has times"),
    ],
)
async def test_a_worker_refuses_what_does_not_fit_and_names_the_field(
    scene: Scene, change: dict[str, Any], words: str
) -> None:
    async with scene.gpu() as hub, scene.client() as client:
        hub.state.gpus["gpu"].kinds = None  # as at a hub that does not learn the kinds
        failed = await scene.run(client, scene.job("one", **change))
        assert isinstance(failed, e.Failed)
        assert words in failed.why
        assert failed.code == "wrong_input"
        assert scene.engine.works == []


async def test_a_wrong_hash_names_its_input(scene: Scene) -> None:
    wish = {"kind": "reverse", "inputs": {"first": {"hash": "nonsense", "ext": ".bin"}}, "outputs": ["whole"]}
    async with scene.worker() as worker, ClientSession() as session:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with session.post(f"{worker.address}/api/heygem/submit", json=wish, headers=headers) as answer:
            body = await answer.json()
    assert (answer.status, body["field"]) == (400, "inputs.first")
    assert body["msg"].startswith("input first: ")


async def test_results_of_several_files_survive_a_restart_of_the_worker(scene: Scene) -> None:
    async with scene.place.hub() as hub, scene.client() as client:
        async with scene.worker():
            await gpu_online(hub)
            await scene.run(client, scene.job("one"))
        async with scene.worker():
            await gpu_online(hub)
            again = await scene.run(client, scene.job("two"))
        assert isinstance(again, e.Done)
        assert scene.of("two", e.Submitted)[0].cached
        assert len(scene.engine.works) == 1


async def test_a_deployed_hub_and_a_deployed_worker_are_named_as_the_part_to_update(scene: Scene) -> None:
    async with field_hub() as hub:
        scene.place.hub_url = hub.url
        async with scene.client() as client:
            failed = await scene.run(client, scene.job("one"))
        assert failed == e.Failed(
            "the hub knows only jobs of a video and an audio file, not the kind join; update the hub first",
            "unsupported",
        )
        assert hub.submits == [], "nothing was asked of it"
    async with field_worker(SECRET) as old, AsyncExitStack() as stack:
        workers = HttpWorkers(old.url, SECRET)
        stack.push_async_callback(workers.close)
        worker = workers.at(None)
        await worker.health()
        with pytest.raises(WorkerRefused, match="not the kind join; update the worker first") as refused:
            await worker.submit(scene.job("two"), {"first": e.FileRef("a" * 32, ".bin")})
        assert refused.value.code == "unsupported"
        assert old.renders == []


async def test_a_recorded_job_of_any_kind_runs_again_as_it_was(scene: Scene, tmp_path: Path) -> None:
    records = tmp_path / "records"
    async with scene.gpu(), scene.client(record=records) as client:
        assert isinstance(await scene.run(client, scene.job("one", times=3)), e.Done)
    (log,) = records.rglob("*.jsonl")
    again = await asyncio.to_thread(lambda: run_log(read(LogFile((log,)))))
    assert again.result == "same"


HIDDEN = {"type": "string", "format": "password", "minLength": 4}
SECRETIVE = Kind("join", KINDS[0].inputs, (Slot("whole"),), {"properties": {"hub": HIDDEN}})
JOIN = ("--kind", "join", "--in", "first=clip.mp4", "--in", "second=speech.wav", "--param", "times=2")
OUTS = ("--out", "whole=whole.bin", "--out", "log=log.txt")


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_submit_runs_a_job_of_any_kind_here_and_through_the_daemon(
    scene: Scene, user: User, through: str
) -> None:
    async with scene.gpu(), AsyncExitStack() as stack:
        api = await stack.enter_async_context(daemon(user)) if through == "daemon" else None
        async with user.runs("submit", *JOIN, *OUTS, "--json", "--job-id", "one") as running:
            ran = await running.ended()
        assert ran.code == 0, ran.err
        done = ran.events[-1]
        assert [each["name"] for each in done["files"]] == ["whole", "log"]
        whole = user.video.read_bytes() + user.audio.read_bytes()
        assert (user.folder / "whole.bin").read_bytes() == whole * 2
        assert (user.folder / "log.txt").read_text() == "join of first, second"
        if api is not None:
            status, job = await api.ask("GET", "/api/jobs/one")
            assert (status, job["state"], job["kind"], job["params"]) == (200, "done", "join", {"times": 2})
            assert job["inputs"]["first"] == str(user.video.resolve())
            retried = await api.ask("POST", "/api/jobs/one/retry", {})
            assert retried[0] == 409


def files_with(text: str, folder: Path) -> list[Path]:
    """The files that hold it; all are read again if one was renamed or removed meanwhile."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_a_secret_outlives_the_daemon_until_its_job_has_ended_and_no_longer(scene: Scene, user: User) -> None:
    secret = "open sesame 1002"
    scene.engine.kinds, scene.engine.failing = [SECRETIVE], 1
    submit = ("submit", *JOIN[:-2], "--out", "whole=whole.bin", "--job-id", "one", "--param", f"hub={secret}")
    async with scene.place.hub() as hub:
        async with scene.worker():
            await gpu_online(hub)
        async with daemon(user) as api:
            for _ in range(2):  # the second one is the same job
                await user.does(*submit, "--detach")
            await api.until("waking", "one")
            assert secret not in str(hub.state.jobs)
        assert [path.name for path in files_with(secret, scene.folder)] == ["secret-values.json"]
        async with scene.worker(), daemon(user) as api:
            await api.until("failed", "one")
            assert scene.engine.works[0].params == {"hub": secret}
            assert files_with(secret, scene.folder) == []
            assert "a secret value is not kept after the end of its job" in (await user.run("retry", "one")).err


async def test_a_job_without_the_daemon_leaves_no_secret_on_any_disk(scene: Scene, user: User) -> None:
    secret = "open sesame 1003"
    scene.engine.kinds = [SECRETIVE]
    async with scene.gpu():
        outputs = ("--out", "whole=whole.bin", "--foreground", "--record", "records", "-v")
        ran = await user.run("submit", *JOIN[:-2], *outputs, "--param", f"hub={secret}")
        assert (ran.code, secret in ran.out + ran.err) == (0, False), ran.err
        assert scene.engine.works[0].params == {"hub": secret}
        assert files_with(secret, scene.folder) == []


async def test_the_value_of_a_secret_parameter_is_shown_nowhere(
    scene: Scene, user: User, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, records = "open sesame 1001", user.folder / "records"
    scene.engine.kinds = [SECRETIVE]
    submit = ("submit", *JOIN[:-2], "--out", "whole=whole.bin", "--job-id", "one", "--param")
    said = []
    async with scene.gpu():
        short = await user.run(*submit, "hub=abc")
        assert "parameter hub: the value is too short; give 4 characters or more" in short.err
        for _ in range(2):  # the second daemon reads the job in its journal
            async with daemon(user, "--record", str(records)) as api:
                ran = await user.does(*submit, f"hub={secret}", "--json", "-v")
                status, job = await api.ask("GET", "/api/jobs/one")
                assert (status, job["params"]) == (200, {"hub": "[redacted]"})
                said += [ran.out, ran.err, (await user.run("jobs", "--json")).out]
                assert files_with(secret, scene.folder) == [], "with all journals open"
    assert scene.engine.works[0].params == {"hub": secret}
    said += [path.read_text() for path in records.rglob("*.jsonl")]
    assert len(said) >= 8
    assert not [text for text in said if secret in text]
    assert secret not in "".join(capfd.readouterr())


async def test_the_daemon_does_the_same_work_once_and_other_parameters_again(scene: Scene, user: User) -> None:
    async with scene.gpu():
        async with daemon(user) as api:
            await user.run("submit", *JOIN, *OUTS, "--job-id", "one")
            other = ("--out", "whole=again.bin", "--out", "log=again.txt")
            await user.run("submit", *JOIN, *other, "--job-id", "two")
            await user.run("submit", *JOIN[:-1], "times=3", "--out", "whole=third.bin", "--job-id", "three")
            outcomes = [await api.outcome(job) for job in ("one", "two", "three")]
        assert [each["event"] for each in outcomes] == ["done"] * 3
        assert [each.get("reused", "") for each in outcomes] == ["", "one", ""]
        again = [str(user.folder / name) for name in ("again.bin", "again.txt")]
        assert [each["path"] for each in outcomes[1]["files"]] == again
        assert (user.folder / "again.bin").read_bytes() == (user.folder / "whole.bin").read_bytes()
        assert (user.folder / "again.txt").read_text() == "join of first, second"
        assert len(scene.engine.works) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((*JOIN, "--out", "whole=clip.mp4"), "clip.mp4"),
        ((*JOIN, *OUTS, "--param", "speed"), "write NAME=VALUE, such as --param width=320"),
        ((*JOIN, *OUTS, "--in", "clip.mp4"), "write NAME=FILE, such as --in image=a.png"),
        ((*JOIN, *OUTS, "--param", "speed=NaN"), "params.speed is not a finite number"),
        ((*JOIN, *OUTS, "--in", "Third=clip.mp4"), "'Third' is not allowed"),
        (JOIN, "give --out NAME=FILE for each result: the kind join is not known, because"),
        (("clip.mp4", *OUTS), "give one form"),
        (("clip.mp4",), "give VIDEO and AUDIO"),
    ],
)
def test_submit_refuses_what_cannot_be_and_names_it(user: User, here: Here, flags: tuple[str, ...], words: str) -> None:
    here(user, "submit", *flags, "--hub", "ws://127.0.0.1:9", WAKESTREAM_KEY="ws_client_x").refuses(words)


def _two(scene: Scene, then_of: Callable[..., Any] = Stages.then_job) -> Build:
    """A pipeline of a job and one that reverses its result."""

    def reverse(job: e.Job) -> e.Job:
        return e.Job(job.id, {"first": job.output}, {"whole": scene.folder / "two.bin"}, "reverse")

    @pipeline
    def two(s: Stages) -> Events:
        return s.submit().pipe(then(s.online, s.dedupe, s.upload, s.synthesize, s.follow, then_of(s, reverse)))

    return two


def _three(scene: Scene) -> Build:
    """A pipeline of three jobs: join, then reverse, then join the result with itself."""

    def double(job: e.Job) -> e.Job:
        return e.Job(job.id, {"first": job.output, "second": job.output}, {"whole": scene.folder / "three.bin"}, "join")

    return _two(scene, lambda s, reverse: s.then_job(reverse, lambda two: two.then_job(double)))


WHOLE = (b"a" * 5000 + b"b" * 3000)[::-1] * 2


async def test_three_jobs_in_a_row_send_only_the_first_ones_files_and_fetch_only_the_last_result(scene: Scene) -> None:
    three, record = _three(scene), scene.folder / "logs"
    async with scene.gpu(), scene.client(record, three) as client:
        job = scene.job("one", outputs=["whole"])
        done = await scene.run(client, job)
    assert done == e.Done(scene.folder / "three.bin", 16000)
    assert (scene.folder / "three.bin").read_bytes() == WHOLE
    assert [uploaded.sent for uploaded in scene.of("one", e.Uploaded)] == [8000, 0, 0]
    assert not job.output.exists()
    assert not (scene.folder / "two.bin").exists()
    assert [work.kind for work in scene.engine.works] == ["join", "reverse", "join"]
    (log,) = record.glob("*.jsonl")
    replayed = await asyncio.to_thread(lambda: run_log(read(LogFile((log,))), build=three))
    assert replayed.result == "same"


async def test_the_result_of_a_lipsync_is_an_input_of_the_next_job_without_a_transfer(scene: Scene) -> None:
    lipsync = Kind("lipsync", (Slot("video"), Slot("audio")), (Slot("video", (".mp4",)),))
    scene.engine.kinds = [lipsync, *scene.engine.kinds]
    async with scene.gpu(), scene.client(build=_two(scene)) as client:
        first, second = scene.file("a.mp4", b"a" * 5000), scene.file("b.wav", b"b" * 3000)
        job = e.Job.lipsync("one", first, second, scene.folder / "one.mp4")
        assert isinstance(await scene.run(client, job), e.Done)
    assert (scene.folder / "two.bin").read_bytes() == (b"a" * 5000 + b"b" * 3000)[::-1]
    assert [uploaded.sent for uploaded in scene.of("one", e.Uploaded)] == [8000, 0]
    assert not job.output.exists()


async def test_a_third_job_that_fails_does_not_run_the_first_two_again(scene: Scene) -> None:
    three = _three(scene)
    async with scene.gpu(), scene.client(build=three) as client:
        scene.engine.failing = 3
        failed = await scene.run(client, scene.job("one", outputs=["whole"]))
        assert isinstance(failed, e.Failed)
        assert "this work fails" in failed.why
        scene.engine.failing = 0
        assert isinstance(await scene.run(client, scene.job("again", outputs=["whole"])), e.Done)
    assert [work.kind for work in scene.engine.works] == ["join", "reverse", "join", "join"]
    assert (scene.folder / "three.bin").read_bytes() == WHOLE


async def test_a_result_that_the_worker_removed_is_fetched_and_sent_again(scene: Scene) -> None:
    async with scene.place.hub() as hub, scene.worker() as worker:

        def lose(s: Stages, reverse: Callable[[e.Job], e.Job]) -> Any:
            def lost(job: e.Job) -> e.Job:
                for path in (scene.folder / "worker" / "files").iterdir():
                    path.unlink()
                return reverse(job)

            return s.then_job(lost)

        async with scene.client(build=_two(scene, lose)) as client:
            await gpu_online(hub)
            assert isinstance(await scene.run(client, scene.job("one", outputs=["whole"])), e.Done)
        assert worker.queue.state.tasks
    assert [uploaded.sent for uploaded in scene.of("one", e.Uploaded)] == [8000, 8000]
    assert (scene.folder / "two.bin").read_bytes() == (b"a" * 5000 + b"b" * 3000)[::-1]


VARIED = Kind(
    "draw",
    (Slot("first"),),
    (Slot("whole", (".bin",)),),
    {"properties": {"seed": {"type": "integer", "minimum": 1, "maximum": 2**40, "default": 7}}},
    version="a",
    seed="seed",
)


async def test_a_new_version_a_blank_seed_and_again_make_a_new_result_but_not_for_the_same_job(scene: Scene) -> None:
    scene.engine.kinds = [VARIED, *KINDS]
    draw = {"kind": "draw", "outputs": ("whole",)}

    async def cached(*jobs: e.Job) -> list[bool]:
        found = []
        async with scene.worker(), scene.client() as client:
            await gpu_online(hub)
            for job in jobs:
                done = await scene.run(client, replace(job, inputs={"first": job.inputs["first"]}))
                assert isinstance(done, e.Done), done
                found.append(scene.of(job.id, e.Submitted)[-1].cached)
        return found

    async with scene.place.hub() as hub:
        seeded = [scene.job(name, **draw, seed=5) for name in ("s1", "s2")]
        blank = [scene.job(name, **draw) for name in ("b1", "b2", "b1")]
        again = [replace(scene.job(name, **draw, seed=5), again=True) for name in ("n1", "n2")]
        assert await cached(*seeded, *blank, *again) == [False, True, False, False, True, False, False]
        seeds = [work.params["seed"] for work in scene.engine.works]
        assert [seeds[0], *seeds[3:]] == [5, 5, 5]
        assert len({*seeds[1:3], 7}) == 3
        scene.engine.kinds = [replace(VARIED, version="b", title="Draws"), *KINDS]
        assert await cached(scene.job("s3", **draw, seed=5)) == [False]
        scene.engine.kinds = [replace(VARIED, version="a", deterministic=False), *KINDS]
        jobs = [scene.job(name, **draw, seed=5) for name in ("d1", "d2")]
        assert await cached(*jobs) == [False, False]


async def test_the_daemon_uses_no_result_for_a_blank_seed_and_none_with_again(scene: Scene, user: User) -> None:
    scene.engine.kinds = [VARIED]
    draw = ("--kind", "draw", "--in", "first=clip.mp4", "--plain")

    async def reused(api: Any, job: str, *flags: str) -> str:
        await user.run("submit", *draw, "--out", f"whole={job}.bin", "--job-id", job, *flags)
        outcome = await api.outcome(job)
        assert outcome["event"] == "done", outcome
        return str(outcome.get("reused", ""))

    async with scene.gpu():
        async with daemon(user) as api:
            fixed = ("--param", "seed=5")
            assert [await reused(api, job, *fixed) for job in ("s1", "s2")] == ["", "s1"]
            assert [await reused(api, job) for job in ("b1", "b2")] == ["", ""]
            assert await reused(api, "n1", *fixed, "--again") == ""
            assert await reused(api, "s3", *fixed) == "s1"
        assert len(scene.engine.works) == 4


async def test_rerun_makes_a_new_result_beside_the_first_one_with_the_parameters_that_changed(
    scene: Scene, user: User
) -> None:
    scene.engine.kinds = [VARIED, *KINDS]
    async with scene.gpu(), daemon(user) as api:
        draw = ("--kind", "draw", "--in", "first=clip.mp4", "--param", "seed=5", "--out", "whole=one.bin")
        assert (await user.run("submit", *draw, "--job-id", "one")).code == 0
        same = await user.run("rerun", "one", "--json")
        assert (same.code, Path(same.last["path"]).name, same.last.get("reused")) == (0, "one-2.bin", None)
        other = await user.run("rerun", "one", "--param", "seed=6", "-o", "six.bin", "--json")
        assert (other.code, Path(other.last["path"]).name) == (0, "six.bin")
        assert [work.params["seed"] for work in scene.engine.works] == [5, 5, 6]
        (await user.run("rerun", "one", "-o", "six.bin")).says("six.bin exists", code=2)
        (await user.run("rerun", "one", "--param", "sed=6")).refuses("'sed'")
        detached = await user.run("rerun", "one", "--detach")
        assert (await api.outcome(detached.out.strip()))["event"] == "done"
        assert (await api.job(detached.out.strip()))["retry_of"] is None
        await user.does("submit", "clip.mp4", "speech.wav", "--detach", "-o", "talk.mp4", "--job-id", "pair")
        assert (await user.run("rerun", "pair", "--detach")).code == 0
        first, again = (await api.ask("GET", "/api/jobs?limit=2"))[1]["jobs"]
        assert [first[name] for name in ("video", "audio")] == [again[name] for name in ("video", "audio")]


async def test_a_result_that_the_user_did_not_name_has_the_ending_of_its_content(scene: Scene, user: User) -> None:
    scene.engine.kinds = [Kind("copy", (Slot("first"),), (Slot("whole", (".png",)),))]
    (user.folder / "photo.png").write_bytes(b"RIFF\0\0\0\0WEBPVP8 " + bytes(5000))
    copy = ("submit", "--kind", "copy", "--in", "first=photo.png", "--no-probe", "--again", "--json")
    async with scene.gpu():
        async with daemon(user):
            derived = await user.run(*copy)
            named = await user.run(*copy, "--out", "whole=x.jpg")
        alone = await user.run(*copy)
    paths = [Path(ran.last["path"]).name for ran in (derived, named, alone)]
    assert paths == ["photo.copy.webp", "x.jpg", "photo.copy-2.webp"], (derived, named, alone)
    said = [event["text"] for ran in (derived, named) for event in ran.all("note")]
    assert [text.partition(" data")[0] for text in said] == ["photo.copy.png would hold WEBP", "x.jpg holds WEBP"]
