"""`submit --each`: the rows of a table as jobs of the daemon, beside real programs."""

import csv
import signal
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.acceptance.test_submit_kinds import FLIP, PNG, Flipping
from tests.support.programs.client_scene import Ran
from tests.support.programs.our_peers import until
from tests.support.programs.terminal_scene import terminal


@pytest.fixture
def scene(tmp_path: Path) -> Flipping:
    scene = Flipping(tmp_path)
    for name in "abc":
        (scene.here / f"{name}.png").write_bytes(PNG + name.encode())
    return scene


OUT = ("--out", "image=out/{name}.png")
TABLE = "image;text;name\r\na.png;hello;one\r\nb.png;2;two\r\n\r\nc.png;three;three\r\n"


async def batch(scene: Flipping, *arguments: str, table: str | bytes = TABLE, name: str = "rows.csv") -> Ran:
    content = table.encode("utf-8-sig") if isinstance(table, str) else table
    (scene.here / name).write_bytes(content)
    return await scene.run("submit", "--kind", "flip", "--each", name, "--yes", *OUT, *arguments)


def results(scene: Flipping, name: str = "rows.results.csv") -> list[dict[str, str]]:
    with (scene.here / name).open(encoding="utf-8-sig", newline="") as file:
        return [*csv.DictReader(file)]


def states(scene: Flipping) -> list[str]:
    return [row["state"] for row in results(scene)]


async def test_each_row_is_a_job_and_only_rows_that_have_changed_are_done_again(scene: Flipping) -> None:
    async with scene.online("daemon"):
        (await batch(scene)).says("3 done\nthe table of results is rows.results.csv")
        assert {work.params["text"] for work in scene.engine.works} == {"hello", "2", "three"}
        found = results(scene)
        assert [(row["line"], row["name"], row["state"]) for row in found] == [
            ("2", "one", "done"), ("3", "two", "done"), ("5", "three", "done"),
        ]  # fmt: skip
        assert [Path(row["result"]).read_bytes() for row in found] == [PNG + name for name in (b"a", b"b", b"c")]
        ran = await batch(scene)
        assert (ran.code, states(scene), len(scene.engine.works)) == (0, ["skipped"] * 3, 3), ran
        (scene.here / "rows.results.csv").unlink()  # then the daemon knows it
        (scene.here / "b.png").write_bytes(PNG + b"other")
        ran = await batch(scene)
        assert (ran.code, "line 3: " in ran.err, "exists, and it is not known from which job" in ran.err) == (
            2,
            True,
            True,
        )
        ran = await batch(scene, "--overwrite")
        assert (ran.code, states(scene)) == (0, ["skipped", "done", "skipped"]), ran
        ran = await batch(scene, table=TABLE.replace("hello", "new"))
        assert (ran.code, states(scene)) == (0, ["done", "skipped", "skipped"]), ran
        assert [Path(row["result"]).name for row in results(scene)] == ["one-2.png", "two.png", "three.png"]
        ran = await batch(scene, "--again", "--json", "--results", "all.jsonl")
        lines = [orjson.loads(line) for line in (scene.here / "all.jsonl").read_bytes().splitlines()]
        assert [line["state"] for line in lines] == ["done"] * 3, ran
        assert sorted(event["line"] for event in ran.events) == [2, 3, 5]


async def test_the_names_of_the_main_results_may_be_given_as_those_of_one_job(scene: Flipping) -> None:
    async with scene.online("daemon"):
        (scene.here / "rows.csv").write_text(TABLE)
        ran = await scene.run("submit", "--kind", "flip", "--each", "rows.csv", "--yes", "-o", "out/{name}.png")
    assert (ran.code, [Path(row["result"]).name for row in results(scene)]) == (0, ["one.png", "two.png", "three.png"])


async def test_every_row_is_checked_before_one_is_started(scene: Flipping) -> None:
    table = "image,text,scale,name\na.png,x,9,1\nlost.png,x,2,2\nb.png,,2,3\na.png,x,,1\nb.png,x,2,"
    async with scene.online("daemon") as hub:
        ran = await batch(scene, table=table)
        assert ran.err.splitlines() == [
            "wakestream: rows.csv, line 2, column scale: parameter scale: 9 is too large; give 8 or less",
            "wakestream: rows.csv, line 3, column image: input image: lost.png does not exist; check its name",
            "wakestream: rows.csv, line 4, column text: kind flip needs the parameter 'text'; give a value",
            "wakestream: rows.csv, line 6, column name: it is empty, and a flag has {name} in it; fill it in",
        ]
        assert ran.code == 2
        ran = await batch(scene, table="image,text,name\na.png,x,1\nb.png,x,1\na.png,x,2\n", name="two.csv")
        assert "two.csv, line 3: the result out/1.png is also that of line 2; give --out image=" in ran.err, ran
        (scene.here / "two.csv").write_text("image,text,name\na.png,x,b\nb.png,x,c\n")
        ran = await scene.run("submit", "--kind", "flip", "--each", "two.csv", "--yes", "--out", "image={name}.png")
        assert "two.csv, line 2: the result would replace" in ran.err, ran
        ran = await scene.run("submit", "--kind", "flip", "--each", "two.csv", "--results", "two.csv", "--yes")
        assert (ran.code, "is the table itself" in ran.err) == (2, True), ran
        assert (hub.state.jobs, scene.engine.works) == ({}, [])


async def test_a_folder_is_a_batch_by_the_patterns_of_its_inputs(scene: Flipping) -> None:
    takes = scene.here / "takes"
    takes.mkdir()
    for name in ("x.png", "x.mask.png", "y.png", "y.mask.png"):
        (takes / name).write_bytes(PNG + name.encode())
    flags = ("submit", "--kind", "flip", "--each", "takes", "--yes", "--param", "text={name}")
    flags += ("--in", "mask={name}.mask.png")
    async with scene.online("daemon"):
        ran = await scene.run(*flags, "--in", "image=*.png")
        ran_there = await scene.run(*flags[:4], "takes/..", *flags[5:], "--in", "image=x.png")
        assert (ran_there.code, "no file fits the patterns" in ran_there.err) == (2, True), ran_there
        assert "takes, x.mask, column mask: there is no file x.mask.mask.png" in ran.err, ran
        for name in "xy":
            (takes / f"{name}.mask.png").rename(takes / f"{name}.mask.webp")
        flags = (*flags[:-1], "mask={name}.mask.webp")
        (await scene.run(*flags, "--in", "image=*.png", "--out", "image=takes/{name}.flip.png")).says("2 done")
        (await scene.run(*flags, "--in", "image=*.png", "--out", "image=takes/{name}.flip.png")).says("2 skipped")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")
async def test_a_batch_is_stopped_and_continued_and_a_second_ctrl_c_cancels_its_jobs(scene: Flipping) -> None:
    scene.engine.go_on.clear()
    async with scene.online("daemon"):
        (scene.here / "rows.csv").write_text(TABLE)
        each = ("submit", "--kind", "flip", "--each", "rows.csv", *OUT)
        for cancels in (True, False):
            async with terminal(scene.user, *each) as screen:
                await screen.shows("submit 3 jobs? [Y/n]")
                screen.type("\r")
                await screen.shows("3 unfinished")  # all are submitted
                await screen.shows("50 %")
                screen.process.send_signal(signal.SIGINT)
                await screen.shows("press Ctrl-C again within 3 s to cancel them")
                if cancels:
                    screen.process.send_signal(signal.SIGINT)
                await screen.ended()
            assert states(scene) == (["cancelled"] * 3 if cancels else ["open"] * 3)
        scene.engine.go_on.set()
        ran = await scene.run(*each, "--yes")
        assert (ran.code, {*states(scene)} <= {"done", "skipped"}) == (0, True), ran
        assert [work.params["text"] for work in scene.engine.works[-3:]] == ["hello", "2", "three"]


async def test_variations_have_a_drawn_number_a_family_and_a_record_beside_the_result(scene: Flipping) -> None:
    flags = ("submit", "--kind", "flip", "--in", "image=a.png", "--param", "text=x", "--param", "seed=random", "--yes")
    async with scene.online("daemon"):
        ran = await scene.run(*flags, "--repeat", "3", "--sidecar", "--out", "image=v.png", "--json")
        assert (ran.code, len(ran.events)) == (0, 3), ran
        seeds = [work.params["seed"] for work in scene.engine.works]
        assert (len({*seeds}), {type(seed) for seed in seeds}) == (3, {int})
        await until(lambda: len([*scene.here.glob("v*.png.json")]) == 3)
        found = [orjson.loads((scene.here / f"{name}.png.json").read_bytes()) for name in ("v", "v-2", "v-3")]
        assert {record["params"]["seed"] for record in found} == {*seeds}
        assert (len({record["family"] for record in found}), found[0]["kind"], len(found[0]["version"])) == (
            1,
            "flip",
            16,
        )
        assert found[0]["inputs"]["image"]["path"] == str(scene.here / "a.png")
        ran = await scene.run("open", found[1]["job"], "--json")
        record = orjson.loads(ran.out)
        assert (record["params"], record["gpu"], record["seconds"] >= 0) == (found[1]["params"], "gpu", True), ran
        (await scene.run(*flags, "--repeat", "3", "--out", "image=v.png")).says("v.png exists", code=2)
        table = "image,name\na.png,one\nb.png,two\n"
        ran = await batch(scene, "--repeat", "2", "--param", "text=x", "--param", "seed=random", table=table)
        assert (ran.code, states(scene)) == (0, ["done"] * 4), ran
        assert [Path(row["result"]).name for row in results(scene)] == ["one.png", "one-2.png", "two.png", "two-2.png"]
        before = len(scene.engine.works)
        ran = await batch(scene, "--repeat", "2", "--param", "text=x", "--param", "seed=random", table=table)
        assert (ran.code, states(scene), len(scene.engine.works)) == (0, ["skipped"] * 4, before), ran


async def test_what_is_wrong_in_a_flag_and_no_row_is_said_once(scene: Flipping) -> None:
    (scene.here / "rows.csv").write_text(TABLE)
    async with scene.online():
        ran = await scene.run("submit", "--kind", "flip", "--each", "rows.csv", "--yes", *OUT)
        assert (ran.code, "no daemon runs" in ran.err) == (4, True), ran
    async with scene.online("daemon"):
        ran = await scene.run("submit", "--kind", "flap", "--each", "rows.csv", "--yes", *OUT)
        assert (ran.code, ran.err.count("there is no kind 'flap'")) == (2, 1), ran
        ran = await batch(scene, "--param", "tme=1")
        assert (ran.code, ran.err.count("tme"), "line" in ran.err) == (2, 1, False), ran
        ran = await batch(scene, "--param", "scale={name}", table="image,text,name\nlost.png,x,3\nb.png,x,9")
        assert ("line 2, column image" in ran.err, "line 3, column scale" in ran.err) == (True, True), ran


async def test_a_secret_parameter_is_not_in_the_table_of_results(scene: Flipping) -> None:
    secret = {"token": {"type": "string", "format": "password"}}
    scene.engine.kinds = [replace(FLIP, params={"properties": {**FLIP.params["properties"], **secret}})]
    async with scene.online("daemon"):
        ran = await batch(scene, table="image,name,token\na.png,one,hunter2-hunter2\n")
        assert (ran.code, states(scene)) == (0, ["done"]), ran
        assert b"hunter2" not in (scene.here / "rows.results.csv").read_bytes()
        assert scene.engine.works[0].params["token"] == "hunter2-hunter2"
