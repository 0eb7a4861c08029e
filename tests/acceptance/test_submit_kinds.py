"""`wakestream kinds`, and `submit` of a kind that the hub knows: all that can be checked is checked on the PC."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.field.hub import field_hub
from tests.support.programs.any_kind_scene import KINDS, Joining, Scene
from tests.support.programs.client_scene import Ran, User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.here import Here
from tests.support.programs.our_peers import Place, gpu_online, held, until
from tests.support.programs.terminal_scene import terminal
from wakestream.adapters.cli.i18n import choose
from wakestream.adapters.cli.i18n.catalog import translated
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.protocol import messages as m

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FLIP = Kind(
    "flip",
    (Slot("image", ("image",), "Picture", "what is turned"), Slot("mask", ("image",), required=False)),
    (Slot("image", (".png",)), Slot("log", (".txt",), required=False)),
    {
        "properties": {
            "scale": {"type": "integer", "minimum": 2, "maximum": 8, "default": 2, "title": "Scale"},
            "text": {"type": "string", "description": "what is written on it"},
            "speed": {"type": "number", "exclusiveMinimum": 0},
            "mode": {"enum": ["fast", "good"]},
            "seed": {"type": "integer"},
        },
        "required": ["text"],
    },
    "Flip",
    "Turns a picture.",
)


class Flipping(Scene):
    """A user at a PC, a hub and a worker that flips."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Place(folder))
        self.engine.kinds = [*KINDS, FLIP]
        (folder / "user").mkdir()
        self.user = User(folder / "user")
        self.here = self.user.folder
        (self.here / "a.png").write_bytes(PNG)
        (self.here / "notes.txt").write_text("words")
        (self.here / "words.png").write_text("not a picture")

    @asynccontextmanager
    async def online(self, through: str = "foreground", *flags: str) -> AsyncIterator[HubServer]:
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(self.place.hub())
            await stack.enter_async_context(self.worker())
            await gpu_online(hub)
            self.user.environment |= self.place.client_settings()
            self.user.environment.setdefault("WAKESTREAM_DAEMON", str(self.folder / "daemon"))
            if through == "daemon":
                await stack.enter_async_context(daemon(self.user, *flags))
            yield hub

    async def run(self, *arguments: str, **environment: str) -> Ran:  # type: ignore[override]
        async with self.user.runs(*arguments, **environment) as running:
            return await running.ended()


@pytest.fixture
def scene(tmp_path: Path) -> Flipping:
    return Flipping(tmp_path)


SUBMIT = ("submit", "--kind", "flip", "--in", "image=a.png", "--param", "text=hello")
OUT = ("--out", "image=b.png")
MANY = tuple(word for number in range(65) for word in ("--in", f"f{number}=a.png"))
WRONG = [
    (("submit", "--kind", "fly", "--in", "image=a.png", *OUT), "there is no kind 'fly'; there are flip, join, reverse"),
    (("submit", "--kind", "Flip!", "--in", "image=a.png", *OUT), "kind: the name 'Flip!' is not allowed"),
    (("submit", "--kind", "flip", *OUT, "--param", "text=a"), "kind flip needs the input 'image'"),
    ((*SUBMIT, *OUT, "--in", "image=a.png"), "kind flip: the input 'image' is one file; give only one"),
    ((*SUBMIT, *OUT, "--in", "video=a.png"), "kind flip has no input 'video'; it has image, mask"),
    ((*SUBMIT, "--out", "movie=b.png"), "kind flip has no output 'movie'; it has image, log"),
    (("submit", "--kind", "flip", "--in", "image=a.png", *OUT), "kind flip needs the parameter 'text'"),
    ((*SUBMIT, *OUT, "--param", "size=3"), "kind flip has no parameter 'size'"),
    ((*SUBMIT, *OUT, "--param", "scale=two"), "parameter scale: 'two' has the wrong type; give a whole number"),
    ((*SUBMIT, *OUT, "--param", "scale=9"), "parameter scale: 9 is too large; give 8 or less"),
    ((*SUBMIT, *OUT, "--param", "speed=0"), "parameter speed: 0 is too small; give more than 0"),
    ((*SUBMIT, *OUT, "--param", "mode=slow"), "parameter mode: 'slow' is not a choice; give one of fast, good"),
    ((*SUBMIT, *OUT, "--param", "speed=NaN"), "params.speed is not a finite number"),
    ((*SUBMIT, *OUT, "--param", "speed=-inf"), "params.speed is not a finite number"),
    ((*SUBMIT, *OUT, "--param", f"mode={'x' * 17 * 1024}"), "16384 are allowed"),
    (("submit", "--kind", "flip", *MANY, *OUT), "the job has 65 inputs; 64 are allowed"),
    ((*SUBMIT[:3], "--in", "image=notes.txt", "--param", "text=a", *OUT), "input image: a file with the ending '.txt'"),
    (
        (*SUBMIT[:3], "--in", "image=words.png", "--param", "text=a", *OUT),
        "input image: words.png cannot be used as",
    ),
    ((*SUBMIT[:3], "--in", "image=lost.png", "--param", "text=a", *OUT), "input image: lost.png does not exist"),
    ((*SUBMIT, *OUT, "--out", "log=b.png"), "outputs image and log have the same path b.png"),
    ((*SUBMIT, *OUT, "--out", "log=../user/b.png"), "outputs image and log have the same path ../user/b.png"),
    ((*SUBMIT, "--out", "image=nowhere/b.png"), "output image: the folder nowhere for the result does not exist"),
    ((*SUBMIT, "--out", "image=a.png"), "output image: the result would replace a.png"),
    ((*SUBMIT, *OUT, "--param", "scale=2", "--param", "scale=3"), "--param scale is given twice"),
]


async def test_what_does_not_fit_is_refused_on_the_pc_and_named(scene: Flipping, here: Here) -> None:
    async with scene.online("daemon") as hub:
        for arguments, words in WRONG:
            ran = await asyncio.to_thread(here, scene.user, *arguments, WAKESTREAM_PROBE="true")
            assert (ran.code, words in ran.err, "Traceback" in ran.err) == (2, True, False), (arguments, ran.err)
        assert (hub.state.jobs, scene.engine.works) == ({}, [])
        assert "no jobs" in (await scene.run("jobs", "--all")).out


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_of_two_kinds_of_one_name_the_job_goes_to_the_gpu_whose_kind_it_fits(
    scene: Flipping, through: str
) -> None:
    plug = Joining()
    plug.kinds = [replace(FLIP, params={"properties": {"spin": {"type": "integer"}}})]
    submit = ("submit", "--kind", "flip", "--in", "image=a.png", "--json")
    async with scene.online(through) as hub, scene.worker("plug", plug):
        await until(lambda: "plug" in hub.state.gpus and bool(hub.state.gpus["plug"].kinds))
        for number, chosen in enumerate([(), (), ("--gpu", "plug")]):
            ran = await scene.run(*submit, "--out", f"image={number}.png", "--param", f"spin={number}", *chosen)
            assert ran.code == 0, ran
        assert ([work.params["spin"] for work in plug.works], scene.engine.works) == ([0, 1, 2], [])
        ran = await scene.run(*submit, "--out", "image=c.png", "--gpu", "plog")
        assert (ran.code, "the GPU plog is not known to have the kind 'flip'" in ran.err) == (2, True), ran


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_a_job_goes_to_the_gpu_that_has_what_it_requires(scene: Flipping, through: str) -> None:
    plug = Joining()
    plug.kinds = [FLIP]

    async def submit(text: str, *chosen: str) -> Ran:
        out = f"image={text}.png"
        given = ("--kind", "flip", "--in", "image=a.png", "--param", f"text={text}", "--out", out, "--json")
        return await scene.run("submit", *given, *chosen)

    labels = {"memory": "24GB", "zone": "eu"}
    async with scene.online(through) as hub, scene.worker("plug", plug, labels):
        await until(lambda: "plug" in hub.state.gpus and bool(hub.state.gpus["plug"].kinds))
        ran = await submit("1", "--requires", "memory>=16", "--requires", "zone=eu")
        assert (ran.code, len(plug.works), scene.engine.works) == (0, 1, []), ran
        ran = await submit("2", "--requires", "memory>=48")
        assert (ran.code, "gpu lacks memory>=48; plug lacks memory>=48" in ran.out) == (2, True), ran
        (await submit("3", "--requires", "memory=>48")).says("'memory=>48' is no requirement", code=2)
        ran = await submit("4", "--priority", "5")
        if through == "daemon":  # it is the order of the daemon's jobs
            assert ran.code == 0, ran
        else:
            assert (ran.code, "the priority 5 is above 0, the highest of this license" in ran.out) == (2, True), ran
        assert hub.state.jobs == {}


@asynccontextmanager
async def a_silent_gpu(scene: Flipping, hub: HubServer) -> AsyncIterator[None]:
    """A worker at this hub that never tells its kinds."""
    register = m.Register(role="worker", token=scene.place.keys["worker"], gpu="attic", features=("inputs",))
    link = Link(scene.place.hub_url, lambda: register)
    link.events.subscribe(lambda event: isinstance(event, LinkUp) and link.send(m.Online(gpu="attic")))
    try:
        await until(lambda: "attic" in hub.state.gpus and hub.state.gpus["attic"].online)
        yield
    finally:
        await link.close()


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_a_mistyped_kind_wakes_nothing_unless_that_is_wanted(scene: Flipping, through: str) -> None:
    mistyped = ("submit", "--kind", "flpi", "--in", "image=a.png", *OUT)
    async with scene.online(through) as hub, a_silent_gpu(scene, hub):
        async with asyncio.timeout(100):  # a daemon's answer of the hub counts for 2 s
            while "To start a GPU" not in (ran := await scene.run(*mistyped)).err:
                assert ran.code == 2, ran.err
        assert (ran.code, "Did you mean flip? To start a GPU" in ran.err) == (2, True), ran.err
        async with terminal(scene.user, *mistyped) as screen:
            await screen.shows("start such a GPU to ask it? That may cost money. [y/N]")
            screen.type("n\r")
            await screen.ended()
        assert (screen.process.returncode, hub.state.jobs) == (2, {})
        if through == "foreground":
            async with terminal(scene.user, *mistyped, "--job-id", "agreed") as screen:
                await screen.shows("[y/N]")
                screen.type("y\r")
                await until(lambda: held(hub) == ["agreed"])
        else:
            async with scene.user.runs(*mistyped, "--wake-to-ask", "--job-id", "asked"):
                await until(lambda: held(hub) == ["asked"])


def test_what_is_refused_is_said_in_chinese_too() -> None:
    choose("zh")
    try:
        said = [translated(words) for _, words in WRONG if words.endswith(("reverse", "mask", "log", "less", "good"))]
    finally:
        choose("en")
    assert len(said) == 5
    assert None not in said


async def test_without_a_daemon_the_hub_is_asked(scene: Flipping, here: Here) -> None:
    async with scene.online() as hub:
        for arguments, words in WRONG[:9:4]:
            (await asyncio.to_thread(here, scene.user, *arguments)).says(words, code=2)
        assert hub.state.jobs == {}


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_a_result_goes_beside_the_first_input_and_replaces_nothing(scene: Flipping, through: str) -> None:
    (scene.here / "pictures").mkdir()
    (scene.here / "pictures" / "a.png").write_bytes(PNG)
    (scene.here / "pictures" / "a.flip.png").write_bytes(b"mine")
    submit = ("submit", "--kind", "flip", "--in", "image=pictures/a.png", "--param", "text=5", "--json")
    async with scene.online(through):
        ran = await scene.run(*submit, WAKESTREAM_PROBE="true")
        assert ran.code == 0, ran.err
        assert (scene.here / "pictures" / "a.flip-2.png").read_bytes() == PNG
        assert (scene.here / "pictures" / "a.flip.png").read_bytes() == b"mine"
        assert scene.engine.works[0].params == {"scale": 2, "text": "5"}, "5 is a text, as the kind wants it"


async def test_a_kind_with_several_results_has_a_name_for_each(scene: Flipping) -> None:
    both = Kind("both", (Slot("first"),), (Slot("whole", (".bin",)), Slot("log", (".txt",))))
    scene.engine.kinds = [both]
    async with scene.online():
        ran = await scene.run("submit", "--kind", "both", "--in", "first=clip.mp4", "--json")
        assert ran.code == 0, ran.err
        assert {path.name for path in scene.here.glob("clip.both*")} == {"clip.both.whole.bin", "clip.both.log.txt"}


async def test_without_a_known_kind_a_result_needs_a_name(scene: Flipping) -> None:
    async with field_hub() as old:
        scene.user.environment |= {**scene.place.client_settings(), "API_SERVER_URL": old.url}
        ran = await scene.run(*SUBMIT)
    assert ran.code == 2
    assert "give --out NAME=FILE for each result: the kind flip is not known" in ran.err
    assert "the hub does not tell its kinds" in ran.err


@pytest.mark.parametrize("through", ["foreground", "daemon"])
async def test_kinds_lists_what_the_gpus_can_do(scene: Flipping, through: str) -> None:
    async with scene.online(through):
        ran = await scene.run("kinds")
        assert ran.code == 0, ran.err
        assert ran.out.splitlines() == [
            "KIND     INPUTS           PARAMETERS                      OUTPUTS       GPU",
            "flip     image, [mask]    scale, text, speed, mode, seed  image, [log]  gpu (on)",
            "join     first, [second]  times                           whole, [log]  gpu (on)",
            "reverse  first            -                               whole         gpu (on)",
        ]
        plain: dict[str, Any] = orjson.loads((await scene.run("kinds", "--json")).out)
        assert [each["kind"]["name"] for each in plain["kinds"]] == ["flip", "join", "reverse"]
        assert (plain["known"], plain["complete"]) == (True, True)


async def test_kinds_of_a_hub_that_cannot_tell_or_is_not_there(scene: Flipping) -> None:
    async with field_hub() as old:
        scene.user.environment |= {**scene.place.client_settings(), "API_SERVER_URL": old.url}
        ran = await scene.run("kinds")
        assert (ran.code, ran.out) == (0, "this hub does not tell the kinds of its GPUs; update the hub\n")
    ran = await scene.run("kinds")
    assert ran.code == 4


async def test_the_help_of_a_kind_says_what_it_takes_and_makes(scene: Flipping) -> None:
    async with scene.online():
        ran = await scene.run("submit", "--kind", "flip", "--help")
        assert ran.code == 0, ran.err
        assert ran.out.splitlines() == [
            "flip: Flip",
            "  Turns a picture.",
            "at gpu (on)",
            "",
            "inputs (--in NAME=FILE):",
            "  image  image            Picture: what is turned",
            "  mask   image  optional",
            "",
            "parameters (--param NAME=VALUE):",
            "  scale  whole number 2..8  default 2  Scale",
            "  text   text               required   what is written on it",
            "  speed  number 0..",
            "  mode   fast | good",
            "  seed   whole number",
            "",
            "outputs (--out NAME=FILE):",
            "  image  .png",
            "  log    .txt  optional",
            "",
            "example:",
            "  wakestream submit --kind flip --in image=FILE --param text=VALUE",
        ]
        second = await scene.run("submit", "--kind", "fly", "--then", "--kind", "flip", "--help")
        assert (second.code, second.out) == (0, ran.out)  # and nothing is submitted
        chinese = await scene.run("submit", "--kind", "flip", "--help", "--lang", "zh")
        assert "默认 2" in chinese.out
        (await scene.run("submit", "--kind", "fly", "--help")).says("there is no kind 'fly'; there are flip", code=2)
    usual = await scene.run("submit", "--help")
    assert usual.out.startswith("usage: wakestream submit")


async def test_the_api_checks_what_other_programs_submit(scene: Flipping) -> None:
    async with scene.online(), daemon(scene.user) as api:
        job = {"kind": "flip", "inputs": {"image": str(scene.here / "a.png")}, "params": {"text": "a", "scale": 9}}
        job |= {"outputs": {"image": str(scene.here / "b.png")}}
        await api.kinds(lambda plain: plain["kinds"])
        status, plain = await api.ask("POST", "/api/jobs", job)
        assert (status, plain["code"], plain["field"]) == (400, "wrong_input", "params.scale")
        status, plain = await api.ask("POST", "/api/jobs", {**job, "kind": "fly"})
        assert (status, plain["code"], plain["field"]) == (400, "unknown_kind", "kind")
        status, plain = await api.ask("POST", "/api/jobs", {**job, "params": {"text": "a"}, "id": "good"})
        assert status == 201, plain
        await api.outcome("good")
        scene.engine.kinds = KINDS
        assert (await api.ask("POST", "/api/jobs", {**job, "params": {"text": "a"}, "id": "good"}))[0] == 200
