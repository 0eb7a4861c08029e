"""The pytest plugin as a user's project sees it."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wakestream.adapters.testing.harness
import wakestream.adapters.testing.pytest_replay  # noqa: F401 - the same

pytest_plugins = ["pytester"]

LOGS = Path(__file__).parents[2] / "logs"

MARKED = """
import pytest
from wakestream.operators.model.events import Done, Granted, TimedOut

@pytest.mark.replay("online.jsonl"{options})
{kind} test_it({arguments}):
    {body}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with two logs beside the tests."""
    for log in ("online", "offline"):
        shutil.copy(LOGS / f"{log}.jsonl", pytester.path)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def write(
    project: pytest.Pytester, body: str = "pass", *, options: str = "", arguments: str = "replay", kind: str = "def"
) -> None:
    project.makepyfile(MARKED.format(options=options, arguments=arguments, body=body, kind=kind))


def tamper(project: pytest.Pytester, old: str = '"cached":false', new: str = '"cached":true') -> None:
    log = project.path / "online.jsonl"
    head, row, tail = log.read_text().rpartition('"label":"submitted"')
    assert old in tail
    log.write_text(head + row + tail.replace(old, new, 1))


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    off = ("cacheprovider", "hypothesispytest", "timeout", "unraisableexception")  # what is not needed takes its time
    return project.runpytest(*(part for name in off for part in ("-p", f"no:{name}")), *arguments)


def ends_with_an_error(result: pytest.RunResult, *said: str) -> None:
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(said)


def test_a_marked_test_sees_what_the_log_replays_to(project: pytest.Pytester) -> None:
    write(
        project,
        """
    assert isinstance(replay.outcome(), Done)
    (granted,) = replay.events("job-online", Granted)
    assert granted.branch == "online"
    assert replay.jobs == ("job-online",)
    assert replay.stages()["render"] > 0
    assert [row.label for row in replay.sent()] == ["gpu.job.submit", "gpu.job.done"]
    assert replay.divergences == ()
    assert replay.path == replay.wanted.path
    assert replay.path.name == "online.jsonl"
""",
    )
    run(project).assert_outcomes(passed=1)


def test_the_mark_alone_replays_the_log_and_fails_where_it_diverges(project: pytest.Pytester) -> None:
    write(project, arguments="")
    run(project).assert_outcomes(passed=1)
    tamper(project)
    run(project).assert_outcomes(failed=1)


def test_a_failure_names_log_stream_row_and_difference_and_how_to_record_again(project: pytest.Pytester) -> None:
    write(project)
    tamper(project)
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*online.jsonl: the program now behaves differently than in the log*",
            "*first in job-online: seq *, submitted*",
            "*-   cached = true*",
            "*+   cached = false*",
            "*pytest 'test_*::test_it' --replay-record=rewrite*",
        ]
    )


def test_a_pipeline_that_breaks_says_so_before_what_it_did_not_do(project: pytest.Pytester) -> None:
    broken = "{}['size']"
    project.makepyfile(
        f"""
import pytest
from wakestream.operators import then
from wakestream.streams import pipeline

@pipeline
def broken(stages):
    return stages.submit().pipe(then(lambda grant: {broken}))

@pytest.mark.replay("online.jsonl", build=broken)
def test_it():
    pass
"""
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    lines = result.stdout.str().splitlines()
    at = next(number for number, line in enumerate(lines) if "behaves differently than in the log" in line)
    file = "test_a_pipeline_that_breaks_says_so_before_what_it_did_not_do.py"
    assert f"the pipeline of job-online raised an error: KeyError: 'size' ({file}:7)" in lines[at + 1]
    assert "first in job-online" in lines[at + 2]


def test_without_strict_the_divergences_are_for_the_test_to_judge(project: pytest.Pytester) -> None:
    write(project, "assert replay.divergences[0].label == 'submitted'", options=", strict=False")
    tamper(project)
    run(project).assert_outcomes(passed=1)


def test_settings_ask_what_if_and_differing_is_the_answer(project: pytest.Pytester) -> None:
    body = "assert replay.outcome() == TimedOut('execution', 0.01, 'execution: nothing within 0.01 s')"
    write(project, body, options=", settings={'execution': 0.01, 'again.max_retries': 0}")
    run(project).assert_outcomes(passed=1)


def test_a_setting_that_does_not_exist_is_named(project: pytest.Pytester) -> None:
    write(project, options=", settings={'onlin': 1}")
    ends_with_an_error(run(project), "*online.jsonl: there is no 'onlin'; there are again.*")


def test_another_pipeline_may_be_built(project: pytest.Pytester) -> None:
    project.makepyfile(
        pipeline="""
        from reactivex import of
        from wakestream.operators.model.events import Failed
        def refuse(job, world, policy, cancel):
            return of(Failed("not today", "no"))
    """
    )
    write(
        project, "assert replay.outcome().code == 'no'", options=", strict=False, build=__import__('pipeline').refuse"
    )
    run(project).assert_outcomes(passed=1)


def test_a_log_of_jobs_with_a_pipeline_of_their_own_asks_for_that_pipeline(project: pytest.Pytester) -> None:
    shutil.copy(LOGS / "examples" / "custom_pipeline.jsonl", project.path / "online.jsonl")
    write(project)
    hint = "*The jobs of this log called note: give the mark build=, the pipeline of the recording"
    run(project).stdout.fnmatch_lines([hint])


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_only_the_marked_async_test_runs_in_virtual_time(project: pytest.Pytester, mode: str) -> None:
    project.makepyfile("""
        import asyncio
        import pytest

        pytestmark = pytest.mark.asyncio

        @pytest.mark.replay("offline.jsonl")
        async def test_marked(replay):
            await asyncio.sleep(3600)
            assert asyncio.get_running_loop().time() == 3600

        @pytest.mark.virtual_loop
        async def test_virtual():
            await asyncio.sleep(3600)

        async def test_real():
            assert type(asyncio.get_running_loop()).__name__ != "VirtualLoop"
    """)
    result = run(project, "-o", f"asyncio_mode={mode}", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::test_real PASSED*"])


def test_a_marked_test_is_virtual_also_where_the_project_chooses_its_loops(project: pytest.Pytester) -> None:
    project.makeconftest("""
        import asyncio
        def pytest_asyncio_loop_factories():
            return {"theirs": asyncio.new_event_loop}
    """)
    write(project, "import asyncio; await asyncio.sleep(1e6)", kind="async def")
    run(project, "-o", "asyncio_mode=auto").assert_outcomes(passed=1)


def test_it_works_without_pytest_asyncio(project: pytest.Pytester) -> None:
    write(project)
    run(project, "-p", "no:asyncio").assert_outcomes(passed=1)


def test_virtual_time_without_pytest_asyncio_is_an_error_and_no_long_wait(project: pytest.Pytester) -> None:
    write(project, "import asyncio; await asyncio.sleep(1e6)", kind="async def")
    ends_with_an_error(
        run(project, "-p", "no:asyncio"), "*::test_it is async and runs in virtual time: that needs pytest-asyncio 1.5*"
    )


def test_real_io_fails_a_marked_test_even_where_the_error_is_swallowed(project: pytest.Pytester) -> None:
    write(
        project,
        """
    import contextlib, subprocess, sys
    with contextlib.suppress(BaseException):
        subprocess.run([sys.executable, '--secret=1'])
""",
    )
    result = run(project, "-W", "ignore")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a replayed test does no real I/O, this one tried: *"])
    assert "secret" not in result.stdout.str().partition("this one tried")[2]


def test_an_error_that_hides_tried_io_bears_a_note_of_it(project: pytest.Pytester) -> None:
    write(project, "import socket; socket.getaddrinfo('localhost', 80)")
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*real I/O was tried: socket.getaddrinfo 'localhost'*"])


def test_a_pipeline_that_does_real_io_in_replay_is_told_of_the_door_for_effects(project: pytest.Pytester) -> None:
    project.makepyfile(
        pipeline="""
        import asyncio
        from wakestream.operators import from_async
        from wakestream.operators.model.events import Done, Failed
        async def call():
            await asyncio.open_connection("127.0.0.1", 9)
        def build(job, world, policy, cancel):
            return from_async(call).catch(lambda *_: __import__("reactivex").of(Failed("quiet", "quiet")))
    """
    )
    write(project, options=", strict=False, build=__import__('pipeline').build")
    ends_with_an_error(run(project), "*did real I/O while it was replayed: create_connection*", "*world.effects.call*")


def test_logs_may_lie_in_a_folder_of_their_own_and_be_packed(project: pytest.Pytester) -> None:
    folder = project.mkdir("recorded")
    packed = gzip.compress((project.path / "online.jsonl").read_bytes())
    (project.path / "online.jsonl").unlink()
    (folder / "online.jsonl.gz").write_bytes(packed)
    project.makeini("[pytest]\nreplay_logs = recorded\nasyncio_default_fixture_loop_scope = function\n")
    project.makepyfile("""
        import pytest
        @pytest.mark.replay("online.jsonl.gz")
        def test_it(replay):
            assert replay.jobs
    """)
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n", "*the first line is no header*"),
        (b'{"v":9}\n', "*format version 9*"),
        (None, "*the log does not exist*"),
    ],
)
def test_a_log_that_cannot_be_used_says_why(project: pytest.Pytester, content: bytes | None, said: str) -> None:
    write(project)
    log = project.path / "online.jsonl"
    log.unlink()
    if content is not None:
        log.write_bytes(content)
    ends_with_an_error(run(project), said)


def test_a_pipeline_that_never_ends_fails_and_does_not_hang(project: pytest.Pytester) -> None:
    project.makepyfile(
        pipeline="""
        import reactivex
        def build(job, world, policy, cancel):
            return reactivex.never()
    """
    )
    write(project, options=", strict=False, build=__import__('pipeline').build")
    ends_with_an_error(run(project), "*the replay does not end: job-online wait*")


def test_a_wrong_argument_of_the_mark_is_named(project: pytest.Pytester) -> None:
    write(project, options=", stict=True")
    ends_with_an_error(run(project), "*@pytest.mark.replay(*unexpected keyword argument 'stict'*")


def test_the_fixture_without_the_mark_asks_for_a_log(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(replay):\n    pass\n")
    ends_with_an_error(run(project), '*needs a log: @pytest.mark.replay("x.jsonl")*')


RECORDING = """
import pytest
from wakestream.adapters.telemetry.recordings import write
from wakestream.adapters.testing.harness import PipelineHarness
from wakestream.operators import Done

async def record(folder):
    rehearsal = PipelineHarness()
    await rehearsal.run()
    write(rehearsal.log, folder / "any-name.jsonl")

{fixture}

@pytest.mark.replay("made/here.jsonl"{option})
def test_it(replay):
    assert isinstance(replay.outcome("job-1"), Done)
"""

BY_MARK = {"fixture": "", "option": ", record=record"}
NO_COROUTINE = {
    "fixture": "def plain(folder):\n    from wakestream.adapters.testing.virtual_loop import run_virtual\n"
    "    run_virtual(record(folder))",
    "option": ", record=plain",
}
BY_FIXTURE = {"fixture": "@pytest.fixture\ndef replay_record(tmp_path):\n    return record", "option": ""}


@pytest.mark.parametrize("how", [BY_MARK, NO_COROUTINE, BY_FIXTURE], ids=["mark", "plain", "fixture"])
def test_a_missing_log_is_recorded_once_and_then_only_replayed(project: pytest.Pytester, how: dict[str, str]) -> None:
    project.makepyfile(RECORDING.format(**how))
    run(project).assert_outcomes(errors=1)
    result = run(project, "--replay-record=once")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["recorded *made*here.jsonl"])
    log = project.path / "made" / "here.jsonl"
    first = log.read_bytes()
    run(project, "--replay-record=once").assert_outcomes(passed=1)
    run(project).assert_outcomes(passed=1)
    assert log.read_bytes() == first
    run(project, "--replay-record=rewrite").assert_outcomes(passed=1)
    assert log.read_bytes() != first
    assert [path.name for path in log.parent.iterdir()] == ["here.jsonl"]


def test_a_log_that_several_tests_share_is_recorded_again_once(project: pytest.Pytester) -> None:
    counted = 'with open("count", "a") as count:\n        count.write("x")\n    rehearsal = PipelineHarness()'
    project.makepyfile(
        RECORDING.format(**BY_MARK).replace("rehearsal = PipelineHarness()", counted)
        + '\n@pytest.mark.replay("made/here.jsonl", record=record)\ndef test_also(replay):\n    pass\n'
        + '\n@pytest.mark.replay("made/here.jsonl")\ndef test_what_if(replay):\n    pass\n'
    )
    result = run(project, "--replay-record=rewrite")
    result.assert_outcomes(passed=3)
    assert str(result.stdout).count("recorded ") == 1
    assert (project.path / "count").read_text() == "x"


def test_recording_without_a_recording_function_says_what_to_give(project: pytest.Pytester) -> None:
    write(project)
    before = (project.path / "online.jsonl").read_bytes()
    ends_with_an_error(
        run(project, "--replay-record=rewrite"), "*the test has no way to record it; give the mark record=*"
    )
    assert (project.path / "online.jsonl").read_bytes() == before


def test_a_job_that_has_not_ended_when_the_log_does_has_no_outcome(project: pytest.Pytester) -> None:
    write(
        project,
        """
    with pytest.raises(LookupError, match="has not ended when the log does; its last event is Uploaded"):
        replay.outcome()
    with pytest.raises(LookupError, match="has no job 'another'; it has job-online"):
        replay.events("another")
""",
    )
    log = project.path / "online.jsonl"
    kept = log.read_text().splitlines(keepends=True)
    cut = next(place for place, line in enumerate(kept) if '"label":"uploaded"' in line)
    log.write_text("".join(kept[: cut + 1]))
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("async def makes(folder):\n    pass\n", "must make exactly one log, it made 0"),
        (
            "def makes(folder):\n    (folder / 'x.jsonl').write_text('junk')\n",
            "online.jsonl: the recording cannot be used: ",
        ),
    ],
)
def test_a_recording_that_leaves_no_log_keeps_the_old_one(project: pytest.Pytester, pipeline: str, words: str) -> None:
    project.makepyfile(pipeline=pipeline)
    write(project, options=", record=__import__('pipeline').makes")
    before = (project.path / "online.jsonl").read_bytes()
    ends_with_an_error(run(project, "--replay-record=rewrite"), f"*{words}*")
    assert (project.path / "online.jsonl").read_bytes() == before


def test_the_plugin_can_be_switched_off(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it():\n    pass\n")
    run(project, "-p", "no:wakestream").assert_outcomes(passed=1)


def test_the_logs_of_hub_and_monitor_are_replayed_as_well(project: pytest.Pytester) -> None:
    header = '{"v":1,"program":"hub","epoch":1.0,"seed":1,"config":{},"redactions":[]}\n'
    (project.path / "online.jsonl").write_text(header)
    write(project, "assert replay.jobs == () and replay.sent() == []")
    run(project).assert_outcomes(passed=1)


def test_importing_the_plugin_is_light() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import wakestream.adapters.testing.pytest_plugin; "
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if not name.startswith("wakestream")} == set()


@pytest.mark.parametrize("caught", [False, True])
def test_io_in_virtual_time_fails_even_if_it_is_caught(project: pytest.Pytester, caught: bool) -> None:
    project.makepyfile(f"""
        import contextlib, socket
        import pytest

        @pytest.mark.virtual_loop
        async def test_virtual():
            with contextlib.{"suppress(Exception)" if caught else "nullcontext()"}:
                socket.create_connection(("127.0.0.1", 9))
    """)
    result = run(project, "-o", "asyncio_mode=auto", "-W", "ignore")
    result.assert_outcomes(failed=1)
    assert "socket.getaddrinfo '127.0.0.1'" in result.stdout.str()
    assert ("a test in virtual time does no real I/O, this one tried" in result.stdout.str()) == caught


def test_a_test_in_real_time_touches_what_it_likes_also_after_one_in_virtual_time(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio, socket, threading
        import pytest

        @pytest.mark.virtual_loop
        async def test_virtual():
            await asyncio.sleep(1)

        def test_real():
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
    """)
    run(project, "-o", "asyncio_mode=auto").assert_outcomes(passed=2)
