"""Jobs of any kind at the console, in a real browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.browser.console_scene import House, Media
from tests.support.browser.studio import EVIL, FRAMES, PAINT, REMIX, Studio, offer, offer_plain, png
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES
from wakestream.operators.model.engine import Kind, Preview, Slot
from wakestream.streams.protocol.kinds import MEDIA, plain_kind

pytest.importorskip("playwright", reason="playwright is not installed: pip install wakestream[browser]")

from playwright.async_api import expect

from tests.support.browser.actions import card, drop

if TYPE_CHECKING:
    from conftest import Visitor
    from playwright.async_api import Page, Request


async def submit(home: House, job: str, **fields: Any) -> None:
    """Submit a job as the command line does, by the daemon's API."""
    headers = {"Authorization": f"Bearer {home.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{home.url}/api/jobs", json={"id": job, "wake_to_ask": True, **fields}, headers=headers
        ) as response,
    ):
        assert response.status == 201, await response.text()


async def test_jobs_of_every_kind_are_shown_together(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"png")
    many = {f"f{number}": str(picture) for number in range(12)}
    folder = tmp_path / "results"
    folder.mkdir()
    await submit(home, "one", kind="remix", inputs={"picture": str(picture)}, outputs={"video": f"{folder}/one.mp4"})
    await submit(
        home, "none", kind="paint", inputs={}, params={"prompt": "a cat"}, outputs={"image": f"{folder}/p.png"}
    )
    await submit(home, "many", kind="many", inputs=many, outputs={"whole": f"{folder}/many.bin"})
    async with visitor.page() as page:
        await expect(card(page)).to_have_count(3)
        await expect(page.locator('.cards [data-job="one"] h3')).to_contain_text("cat.png")
        await expect(page.locator('.cards [data-job="none"] h3')).to_contain_text("paint")
        await expect(page.locator('.cards [data-job="many"] h3')).to_contain_text("cat.png")
        await expect(page.locator('.cards [data-job="many"] h3')).to_contain_text("10 more")
        await home.gpu_on(Studio(files))
        await expect(page.locator('.cards [data-job="one"]')).to_contain_text("Result saved")
        await expect(page.locator('.cards [data-job="none"]')).to_contain_text("Result saved")
        await expect(page.locator('.cards [data-job="many"] .pill')).to_have_text("Failed")
        await page.get_by_label("Search history").fill("remix")
        await expect(page.locator("#past li")).to_have_count(1)
        await page.reload()
        await expect(card(page)).to_have_count(3)


async def test_what_the_engine_has_so_far_is_shown_while_it_works(
    home: House, visitor: Visitor, tmp_path: Path
) -> None:
    async def paint(job: str) -> None:
        outputs = {"image": f"{tmp_path}/{job}.png"}
        await submit(home, job, kind="paint", inputs={}, params={"prompt": f"a cat, {job}"}, outputs=outputs)

    studio = Studio()
    studio.go_on.clear()
    studio.preview = Preview("image/png", png(64, 48))
    async with visitor.page() as page:
        await home.gpu_on(studio)
        await paint("one")
        so_far = page.locator('.cards [data-job="one"] .so-far')
        picture = so_far.get_by_alt_text("Preview")
        await expect(picture).to_have_js_property("naturalWidth", 64)
        await picture.evaluate("(img) => img.setAttribute('data-first', '')")
        studio.works[0].preview.write_bytes(png(32, 24))
        await expect(picture).to_have_js_property("naturalWidth", 32)
        assert await picture.get_attribute("data-first") is not None, "the card keeps its height while a picture loads"
        studio.go_on.set()
        await expect(page.locator('.cards [data-job="one"]')).to_contain_text("Result saved")
        await expect(so_far).to_be_hidden()
        studio.preview = Preview("text/plain", f"{EVIL} and then".encode())
        studio.go_on.clear()
        await paint("two")
        await expect(page.locator('.cards [data-job="two"] .so-far')).to_have_text(f"{EVIL} and then")
        studio.go_on.set()


async def pick(page: Page, kind: str) -> None:
    """Choose a kind of job."""
    await page.get_by_label("Kind of job").select_option(label=kind)


async def test_lip_sync_alone_needs_no_choice(home: House, visitor: Visitor) -> None:
    offer(home, LIPSYNC_KIND)
    async with visitor.page() as page:
        await expect(page.get_by_label("Choose a video")).to_be_attached()
        await expect(page.get_by_label("Kind of job")).to_be_hidden()
        await expect(page.locator("#new-hint")).to_have_text("The person in the video will speak this audio.")
        offer(home, RECIPES["lipsync"].kind)
        await page.reload()
        await expect(page.locator("#new-hint")).to_have_text("Test engine: only the sound is replaced.")


async def test_the_kinds_that_come_with_the_worker_are_shown_in_chinese(home: House, visitor: Visitor) -> None:
    offer(home, LIPSYNC_KIND, RECIPES["mux"].kind)
    async with visitor.page(locale="zh-CN") as page:
        await page.locator("#kind").select_option(label="替换声音")
        await expect(page.locator("#kind-help")).to_have_text(re.compile("^给视频配上这段音频。"))
        await expect(page.locator("[data-field=container]")).to_contain_text("封装格式")


async def test_a_list_is_one_slot_for_several_files_and_its_results_are_a_gallery(
    home: House, visitor: Visitor, tmp_path: Path
) -> None:
    studio = Studio(kinds=(LIPSYNC_KIND, FRAMES))
    await home.gpu_on(studio)
    offer(home, LIPSYNC_KIND, FRAMES)
    pictures = [tmp_path / f"{name}.png" for name in "abcde"]
    for number, picture in enumerate(pictures):
        picture.write_bytes(png(8 + number))
    async with visitor.page() as page:
        await pick(page, "Frames")
        slots = page.get_by_role("group", name="Images").locator(".slot")
        await expect(slots).to_have_count(1)
        await expect(slots.locator(".slot-text")).to_have_text("Drop files here, or choose some")
        await slots.last.locator("input[type=file]").set_input_files(pictures[:3])
        await expect(slots.locator(".slot-name")).to_have_text(["a.png", "b.png", "c.png", "Add more"])
        await drop(page, *((path.name, path.read_bytes()) for path in pictures[3:]))
        await expect(slots.locator(".slot-name")).to_have_text([*(path.name for path in pictures), "Add more"])
        await expect(page.get_by_text("Ready to start.", exact=True)).to_be_visible()
        async with page.expect_response(lambda answer: answer.request.method == "DELETE"):
            await slots.nth(1).get_by_role("button", name="Remove b.png").click()
        await expect(slots.locator(".slot-name")).to_have_text(["a.png", "c.png", "d.png", "e.png", "Add more"])
        await page.reload()
        await expect(slots.locator(".slot-name")).to_have_text(["a.png", "c.png", "d.png", "e.png", "Add more"])
        await expect(slots.locator(".slot-text").nth(2)).to_contain_text("Images")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("4 results saved")
        assert [*studio.works[0].inputs] == ["images", "images_2", "images_3", "images_4"]
        await expect(slots.locator(".slot-name")).to_have_text(["Images"])
        await card(page).get_by_role("button", name="Show").click()
        await expect(page.locator(".gallery.pictures img.made-image")).to_have_count(4)


async def test_a_form_made_from_the_schema_starts_the_job(home: House, visitor: Visitor, files: Media) -> None:
    studio = Studio(files)
    await home.gpu_on(studio)
    offer(home, LIPSYNC_KIND, PAINT, REMIX)
    async with visitor.page() as page:
        await pick(page, "Paint a picture")
        await expect(page.locator("#kind-help")).to_have_text("Makes a picture from a description.")
        await page.get_by_label("Prompt").fill("a cat\non a roof")
        await expect(page.get_by_role("spinbutton", name="Steps")).to_have_value("20")
        await page.get_by_role("slider", name="Steps").press("ArrowRight")
        await expect(page.locator("#param-steps")).to_have_value("21")
        await page.get_by_label("style").select_option("oil")
        await page.get_by_label("Tiling").check()
        await page.get_by_label("seed").fill("18446744073709551615")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("Result saved")
        [work] = studio.works
        assert work.params == {
            "prompt": "a cat\non a roof", "steps": 21, "strength": 0.7, "style": "oil", "tiling": True,
            "seed": 2**64 - 1,
        }  # fmt: skip
        await expect(card(page).locator(".card-kind")).to_contain_text("Prompt: a cat on a roof · Steps: 21")
        await expect(card(page).locator("h3")).to_have_text("Paint a picture")
        await card(page).get_by_role("button", name="Show").click()
        await page.wait_for_function("() => document.querySelector('.made-image')?.naturalWidth === 8")
        await page.reload()
        await expect(page.get_by_label("Prompt")).to_have_value("a cat\non a roof")
        await expect(page.locator("#param-steps")).to_have_value("21")
        await page.get_by_role("button", name="Back to the defaults").click()
        await expect(page.get_by_label("Prompt")).to_have_value("")
        await expect(page.locator("#param-steps")).to_have_value("20")
        await pick(page, "Lip-sync")
        await expect(page.get_by_label("Choose a video")).to_be_attached()
        await expect(page.get_by_label("Prompt")).to_have_count(0)
        await card(page).get_by_role("button", name="Use these settings").click()
        await expect(page.get_by_label("Prompt")).to_have_value("a cat\non a roof")
        await expect(page.get_by_label("Prompt")).to_be_focused()
        await expect(page.locator("#param-steps")).to_have_value("21")
        await expect(page.get_by_label("style")).to_have_value('"oil"')
        await expect(page.get_by_label("Tiling")).to_be_checked()


async def test_every_fault_is_told_at_its_field_before_anything_is_sent(home: House, visitor: Visitor) -> None:
    offer(home, PAINT)
    async with visitor.page() as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        await pick(page, "Paint a picture")
        await expect(page.locator("#new-hint")).to_have_text("Still needed: Prompt.")
        await page.get_by_role("button", name="Start").click()
        prompt = page.get_by_label("Prompt")
        await expect(page.locator("#param-prompt-wrong")).to_have_text("Prompt: a value is needed.")
        await expect(prompt).to_be_focused()
        await expect(prompt).to_have_attribute("aria-invalid", "true")
        await prompt.fill("ab")
        await expect(page.locator("#param-prompt-wrong")).to_have_text("")
        for field, value, said in (
            ("prompt", "ab", "Prompt: the text is too short. Give 3 characters or more."),
            ("steps", "51", "Steps: 51 is too large. Give 50 or less."),
            ("steps", "2.5", "Steps: 2.5 is not a whole number."),
            ("strength", "-1", "strength: -1 is too small. Give 0 or more."),
        ):
            await page.locator(f"#param-{field}").fill(value)
            await page.get_by_role("button", name="Start").click()
            await expect(page.locator(f"#param-{field}-wrong")).to_have_text(said)
        assert [url for url in sent if "/console/jobs" in url] == []
        await expect(card(page)).to_have_count(0)


async def test_what_the_daemon_refuses_is_shown_at_the_field_it_names(home: House, visitor: Visitor) -> None:
    offer(home, PAINT)
    refusal = {"code": "wrong_input", "error": "parameter steps: 7 is odd", "field": "params.steps"}
    async with visitor.page() as page:
        await page.route("**/console/jobs", lambda route: route.fulfill(status=400, json=refusal))
        await pick(page, "Paint a picture")
        await page.get_by_label("Prompt").fill("a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#param-steps-wrong")).to_have_text("Parameter steps: 7 is odd.")
        await expect(page.locator("#param-steps")).to_be_focused()
        await expect(page.locator("#toasts")).to_have_text("")
        visitor.complaints.clear()


async def test_a_secret_is_neither_shown_nor_remembered(home: House, visitor: Visitor) -> None:
    params = {"properties": {"token": {"type": "string", "format": "password", "title": "Token"}}}
    offer(home, replace(PAINT, params=params))
    async with visitor.page() as page:
        await pick(page, "Paint a picture")
        await page.get_by_label("Token").fill("swordfish")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("Token: •••")
        assert "swordfish" not in await page.locator("body").inner_text()
        assert "swordfish" not in await page.evaluate("() => JSON.stringify(localStorage)")


async def test_an_ending_of_two_kinds_of_media_is_named_once(home: House, visitor: Visitor) -> None:
    slots = (replace(REMIX.inputs[0], name="picture", title="Picture", accepts=("image", "video")),)
    offer(home, replace(REMIX, inputs=slots))
    async with visitor.page() as page:
        await pick(page, "Remix")
        file = {"name": "a.exe", "mimeType": "", "buffer": b"x"}
        await page.get_by_label("Choose a file: Picture").set_input_files(file)
        await expect(page.locator("#slot-picture-wrong")).to_contain_text(re.compile("flv, gif, [^g]"))


async def test_files_go_to_the_slots_that_they_fit(home: House, visitor: Visitor, files: Media) -> None:
    studio = Studio(files)
    await home.gpu_on(studio)
    offer(home, REMIX)
    async with visitor.page() as page:
        await pick(page, "Remix")
        await expect(page.locator("#new-hint")).to_have_text("Still needed: Picture.")
        await expect(page.get_by_role("button", name="Start")).to_be_disabled()
        await drop(page, ("notes.txt", b"x"))
        await expect(page.locator("#toasts")).to_contain_text("notes.txt fits none of the inputs.")
        picture = page.get_by_label("Choose a file: Picture")
        await picture.set_input_files({"name": "a.mp4", "mimeType": "", "buffer": b"x"})
        await expect(page.locator("#slot-picture-wrong")).to_contain_text("Picture: a.mp4 does not fit. Supported: bmp")
        await drop(page, (files[1].name, files[1].read_bytes()), ("cat.png", png()))
        await expect(page.locator("#slot-picture")).to_contain_text("cat.png")
        await expect(page.locator("#slot-sound")).to_contain_text("narration.wav")
        await expect(page.locator(".slot[data-slot=ready]")).to_have_count(2)
        await page.reload()
        await expect(page.locator("#slot-picture")).to_contain_text("cat.png")
        await page.get_by_label("Transcript").check()
        await page.get_by_label("Data").check()
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("3 results saved")
        [work] = studio.works
        assert ([*work.inputs], work.outputs) == (["picture", "sound"], ("video", "text", "data"))


async def test_of_many_files_three_are_sent_at_a_time(home: House, visitor: Visitor) -> None:
    slots = tuple(Slot(f"page_{number}", ("image",)) for number in range(12))
    offer(home, Kind("album", slots, (Slot("book", (".pdf",)),)))
    async with visitor.page() as page:
        sending: set[str] = set()
        most: list[int] = []

        def begins(request: Request) -> None:
            if request.method == "PUT":
                sending.add(request.url)
                most.append(len(sending))

        page.on("request", begins)
        page.on("requestfinished", lambda request: sending.discard(request.url))
        await pick(page, "album")
        await drop(page, *((f"{number}.png", png(number + 1)) for number in range(12)))
        await expect(page.locator(".slot[data-slot=ready]")).to_have_count(12)
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()
        assert (len(most), max(most)) == (12, 3)


async def test_a_kind_whose_gpus_sleep_can_be_submitted(home: House, visitor: Visitor) -> None:
    await home.monitor()
    offer(home, PAINT, online=False)
    async with visitor.page() as page:
        await pick(page, "Paint a picture")
        note = page.locator("#kind-note")
        await expect(note).to_have_text("The GPUs for this are asleep. A job wakes one.")
        home.power("no_capacity", retry_in=300)
        await expect(note).to_have_text("No GPU for this is available now. A job waits until one is.")
        home.power("off")
        await expect(note).to_have_text("The GPUs for this are asleep. A job wakes one.")
        await page.get_by_label("Prompt").fill("a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_contain_text("The GPU is waking up")


async def test_a_kind_whose_gpus_no_monitor_can_start_says_so_although_another_monitor_is_there(
    home: House, visitor: Visitor
) -> None:
    await home.monitor(gpu="lab")
    studio = await home.monitor()
    offer(home, PAINT, online=False)
    async with visitor.page() as page:
        await pick(page, "Paint a picture")
        note = page.locator("#kind-note")
        await expect(note).to_have_text("The GPUs for this are asleep. A job wakes one.")
        await studio.close()
        await expect(note).to_contain_text("no monitor that can start one is connected. A job waits.")


async def test_the_form_stays_while_kinds_come_and_go(home: House, visitor: Visitor) -> None:
    offer(home, PAINT, online=False)
    async with visitor.page() as page:
        await pick(page, "Paint a picture")
        await page.get_by_label("Prompt").fill("half a sent")
        offer(home, PAINT, REMIX)
        await home.gpu_on()
        await expect(page.get_by_label("Kind of job").locator("option")).to_have_count(3)
        await expect(page.locator("#kind-note")).to_be_hidden()
        await expect(page.get_by_label("Prompt")).to_have_value("half a sent")
        offer(home, REMIX)
        await page.reload()
        await expect(page.get_by_label("Kind of job").locator("option")).to_have_text(["Lip-sync", "Remix"])


async def test_two_gpus_with_other_descriptions_are_two_choices(home: House, visitor: Visitor) -> None:
    small = replace(PAINT, params={"properties": {"size": {"type": "integer", "default": 1}}})
    told = [
        {"kind": plain_kind(PAINT), "gpus": [{"gpu": "big", "online": True}]},
        {"kind": plain_kind(small), "gpus": [{"gpu": "small", "online": True}]},
    ]
    offer_plain(home, told, known=False)
    async with visitor.page() as page:
        await pick(page, "Paint a picture (small)")
        await expect(page.get_by_label("size")).to_have_value("1")
        await expect(page.locator("#kind-note")).to_contain_text("This hub cannot tell")
        async with page.expect_request("**/console/jobs") as sent:
            await page.get_by_role("button", name="Start").click()
        assert (await sent.value).post_data_json["gpus"] == ["small"]
        await pick(page, "Paint a picture (big)")
        await expect(page.get_by_label("Prompt")).to_be_visible()


async def test_descriptions_from_outside_cannot_break_or_take_over_the_page(home: House, visitor: Visitor) -> None:
    odd = {
        "name": "odd",
        "title": EVIL,
        "help": EVIL,
        "inputs": [{"name": "constructor", "accepts": ["constructor", "toString", '.a"><b>'], "title": EVIL}],
        "outputs": [{"name": "valueOf", "accepts": ["__proto__"], "title": EVIL, "required": False}],
        "params": {
            "properties": {
                "constructor": {"enum": [EVIL, None, {"a": 1}, []], "title": EVIL, "description": EVIL},
                "nothing": None,
                "anything": True,
                "toString": {"type": ["string", "integer"], "default": EVIL},
                "never": {"type": "number", "minimum": 5, "maximum": 1, "multipleOf": 0},
            }
        },
    }
    unusable = {"name": "unusable", "outputs": [{"name": "a"}], "params": {"properties": {}, "required": 5}}
    gpus = [{"gpu": "gpu", "online": True}]
    told = {"kinds": [{"kind": kind, "gpus": gpus} for kind in (odd, plain_kind(PAINT), unusable)], "known": True}
    media = {name: sorted(endings) for name, endings in MEDIA.items()}
    async with visitor.page() as page:
        await page.route("**/console/form", lambda route: route.fulfill(json={**told, "media": media}))
        await page.reload()
        await page.locator("#kind").select_option("odd")
        await expect(page.locator("#kind-help")).to_have_text(EVIL)
        await expect(page.locator("#composer .field")).to_have_count(5)
        assert await page.locator("#composer script, #composer img, #composer b").count() == 0
        await page.locator("#kind").select_option("unusable")
        await expect(page.locator("#kind-note")).to_contain_text("This page cannot show a form for it")
        await expect(page.get_by_role("button", name="Start")).to_be_disabled()
        await pick(page, "Paint a picture")
        await expect(page.get_by_label("Prompt")).to_be_visible()
        assert "taken" not in await page.title()


async def test_kinds_come_from_the_hub_and_are_checked_before_a_gpu_wakes(
    home: House, visitor: Visitor, files: Media
) -> None:
    await home.monitor()
    async with visitor.page() as page:
        await expect(page.get_by_label("Choose a video")).to_be_attached()
        await expect(page.get_by_label("Kind of job")).to_be_hidden()
        studio = Studio(files)
        await home.gpu_on(studio)
        await expect(page.get_by_label("Kind of job").locator("option")).to_have_text(
            ["Lip-sync", "Paint a picture", "Remix"]
        )
        await pick(page, "Paint a picture")
        await expect(page.locator("#kind-note")).to_be_hidden()
        await home.gpu_off()
        await expect(page.locator("#kind-note")).to_have_text("The GPUs for this are asleep. A job wakes one.")
        sent = await page.evaluate(START, {"prompt": "a cat", "steps": 99})
        assert (sent["status"], sent["numbers"]["field"]) == (400, "params.steps")
        assert "99 is too large" in sent["numbers"]["error"]
        await page.locator("#param-steps").fill("7")
        await page.get_by_label("Prompt").fill("a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(card(page)).to_have_attribute("data-state", "waiting")
        await home.gpu_on(studio)
        await expect(card(page)).to_contain_text("Result saved")
        assert (studio.works[0].params["prompt"], studio.works[0].params["steps"]) == ("a cat", 7)
        visitor.complaints[:] = [said for said in visitor.complaints if "status of 400" not in said]


START = """
async (params) => {
  const { call } = await import("/session.js");
  const job = { id: "ws-wrong", kind: "paint", inputs: {}, params, outputs: { image: ".png" } };
  return call("POST", "/console/jobs", job).catch(({ status, numbers }) => ({ status, numbers }));
}
"""


async def test_a_job_that_waits_for_another_says_for_which(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(png())
    await submit(home, "one", kind="remix", inputs={"picture": str(picture)}, outputs={"video": f"{tmp_path}/1.mp4"})
    outputs = {"whole": f"{tmp_path}/2.mp4"}
    await submit(home, "two", kind="cut", inputs={"video": "@one:video"}, outputs=outputs)
    async with visitor.page() as page:
        second = page.locator('.cards [data-job="two"]')
        await expect(second).to_contain_text("Waits for the end of cat.png.")
        await expect(second).to_have_attribute("data-state", "waiting")
        await page.locator('.cards [data-job="one"]').get_by_role("button", name="Cancel").click()
        await expect(second.locator(".card-why")).to_contain_text("Job one, whose result it needs, was cancelled.")


async def test_results_are_shown_by_type_and_nothing_in_them_runs(
    home: House, visitor: Visitor, files: Media, tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(png())
    await home.gpu_on(Studio(files))
    outputs = {slot.name: str(tmp_path / f"out.{slot.name}{slot.accepts[0]}") for slot in REMIX.outputs}
    await submit(home, "one", kind="remix", inputs={"picture": str(picture)}, outputs=outputs)
    async with visitor.page() as page:
        await expect(card(page)).to_contain_text("8 results saved")
        await card(page).get_by_role("button", name="Show").click()
        made = card(page).locator(".made")
        await expect(made).to_have_count(8)
        await expect(made.locator("video")).to_have_count(1)
        await expect(made.locator("audio")).to_have_count(1)
        await page.wait_for_function("() => document.querySelector('.made-image')?.naturalWidth === 8")
        await expect(made.locator("pre").first).to_have_text(f"{EVIL}\nünï 中文")
        await expect(made.locator("pre").last).to_have_text(PRETTY)
        assert await made.locator("script, iframe, object, embed").count() == 0
        async with page.expect_download() as waiting:
            await made.get_by_role("button", name="Download: out.page.html").click()
        assert (await waiting.value).suggested_filename == "out.page.html"
        await page.get_by_label("Search history").fill("remix")
        await page.locator("#past").get_by_role("button", name="Show").click()
        await expect(page.locator("dialog .made")).to_have_count(8)
        await page.locator("dialog").get_by_role("button", name="Hide").click()
        # Opened on its own, each is inert too.
        url = await page.evaluate(TICKET)
        for name in ("text", "data", "image"):
            other = await page.context.new_page()
            visitor.watch(other)
            await other.goto(f"{home.url}{url}&name={name}")
            assert await other.evaluate("() => [document.title.includes('taken'), self.origin]") == [False, "null"]
            await other.close()
        assert "taken" not in await page.title()


PRETTY = f'{{\n  "b": [\n    1,\n    2.50\n  ],\n  "a": "{len(EVIL)}"\n}}'

TICKET = """
async () => (await (await import("/session.js")).call("POST", "/console/jobs/one/ticket")).url
"""

FIELDS = """
async (cases) => {
  const { controlOf, faultOf, plainSchema, textOf, valueOf } = await import("/schema.js");
  return cases.map(([schema, text, required]) => {
    const plain = plainSchema(schema);
    const control = controlOf(plain);
    const fault = faultOf(text, control, plain, required, "X");
    return [control, fault || JSON.stringify(valueOf(text, control, plain) ?? null)];
  });
}
"""


SCHEMAS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"type": "integer", "minimum": 0, "maximum": 2**32}, "7", ["number", "7"]),
    ({"type": "integer", "minimum": 0, "maximum": 20}, "", ["slider", "null"]),
    ({"type": "number", "minimum": 0, "maximum": 1, "x-step": 0.01}, ".5", ["slider", "0.5"]),
    ({"type": "number", "minimum": 0, "maximum": 2}, "2.1", ["slider", "X: 2.1 is too large. Give 2 or less."]),
    ({"type": "number", "exclusiveMinimum": 0}, "0", ["number", "X: 0 is too small. Give more than 0."]),
    ({"type": "number", "multipleOf": 0.1}, "0.3", ["number", "0.3"]),
    ({"type": "integer", "multipleOf": 8}, "12", ["number", "X: 12 is not a multiple of 8."]),
    ({"type": "integer"}, "12345678901234567890", ["number", "12345678901234567890"]),
    ({"type": ["integer", "null"]}, "3", ["number", "3"]),
    ({"type": ["string", "null"], "title": "T"}, "t", ["lines", '"t"']),
    ({"type": "string", "maxLength": 3}, "abcd", ["text", "X: the text is too long. Give 3 characters or fewer."]),
    ({"type": "string", "maxLength": 2}, "😀😀", ["text", '"😀😀"']),
    ({"type": "string", "format": "password"}, "s", ["secret", '"s"']),
    ({"enum": [1, "1", None]}, '"1"', ["choice", '"1"']),
    ({"type": "boolean"}, "true", ["switch", "true"]),
    ({"type": "array", "minItems": 2}, "[1]", ["json", "X: the list is too short. Give 2 items or more."]),
    ({"type": "object"}, "[1]", ["json", 'X: give an object in JSON, such as {"a": 1}.']),
    ({}, "{", ["json", "X: “{” is not valid JSON."]),
    ({"type": ["string", "number"]}, "1", ["json", "1"]),
]  # fmt: skip


async def test_each_schema_has_a_control_and_a_sentence(visitor: Visitor) -> None:
    async with visitor.page() as page:
        found = await page.evaluate(FIELDS, [[schema, text, False] for schema, text, _ in SCHEMAS])
        assert found == [wanted for _, _, wanted in SCHEMAS]
