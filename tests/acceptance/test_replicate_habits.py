"""What programs written for Replicate do: names that a model does not know, files without a name, their own outputs."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.browser.studio import png
from tests.support.programs.any_kind_scene import KINDS, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Place
from tests.support.programs.replicate_scene import NODE, PEERS, Programs, programs
from wakestream.adapters.daemon.replicate import predictions
from wakestream.operators.model.engine import Kind, Slot

pytestmark = pytest.mark.timeout(120)

ABC = {"first": "data:,abc"}
PICTURE = Kind("picture", (Slot("first", ("image",)),), (Slot("whole", (".bin",)),))


@pytest.fixture
async def api(tmp_path: Path, user: User) -> AsyncIterator[Programs]:
    scene = Scene(tmp_path, Place(tmp_path, user))
    scene.engine.kinds = [*KINDS, PICTURE]
    async with scene.gpu(), programs(scene) as found:
        yield found


async def upload(api: Programs, data: bytes, **fields: str) -> dict[str, Any]:
    """Upload a file as client 2 does: its name and type, if they are given, are fields of the form."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("content", data, filename="upload")
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.session.post(f"{api.url}/v1/files", data=form, headers=headers) as response:
        assert response.status == 201, await response.text()
        plain: dict[str, Any] = await response.json()
        return plain


async def test_names_that_the_model_does_not_know_are_ignored_and_said_in_the_logs(api: Programs) -> None:
    given = await api.create(input={**ABC, "num_outputs": 1, "size": "1024x1024", "times": 2})
    ended = await api.ended(given["id"])
    assert (ended["status"], ended["input"]["times"], "size" in ended["input"]) == ("succeeded", 2, False)
    line = "ignored, since the model has no such input: 'num_outputs', 'size'\n"
    assert ended["logs"].startswith(line)
    async with api.session.get(ended["urls"]["stream"]) as response:
        assert "data: " + line in await response.text()
    status, refusal = await api.ask("POST", "/v1/predictions", {"version": "join", "input": {**ABC, "times": "many"}})
    assert (status, refusal["invalid_fields"][0]["field"]) == (422, "input.times")


@pytest.mark.skipif(
    NODE is None or not (PEERS / "node_modules" / "@ai-sdk" / "replicate").is_dir(),
    reason="no AI SDK here (make peers)",
)
async def test_the_ai_sdk_makes_an_image(api: Programs) -> None:
    said = await api.js("""
import { experimental_generateImage as generateImage } from 'ai'
import { createReplicate } from '@ai-sdk/replicate'
const model = createReplicate({ apiToken: auth, baseURL: `${url}/v1` }).image('wakestream/reverse')
const providerOptions = { replicate: { first: 'data:text/plain;base64,YWJj' } }
const { image } = await generateImage({ model, prompt: 'a cat', n: 1, size: '64x64', providerOptions })
say(Buffer.from(image.uint8Array).toString())
""")
    assert said == "cba"


async def test_a_file_without_a_name_gets_the_ending_of_its_content(api: Programs) -> None:
    heads = (png(), b"\0\0\0\x20ftypdash" + bytes(20), b"\xff\xf3" + bytes(20), b"some words", b'{"a": 1}', b"\0\1\2")
    names = [(await upload(api, head))["name"] for head in heads]
    assert names == ["upload.png", "upload.mp4", "upload.mp3", "upload.txt", "upload.json", "upload.bin"]
    told = {"version": "picture", "input": {"first": (await upload(api, png()))["urls"]["get"]}}
    assert (await api.ask("POST", "/v1/predictions", told))[0] == 201
    unknown = (await upload(api, b"\0\1\2"))["urls"]["get"]
    assert (await api.ask("POST", "/v1/predictions", {"version": "join", "input": {"first": unknown}}))[0] == 201


async def test_an_uploaded_file_has_the_name_and_the_type_that_the_form_says_and_can_be_downloaded(
    api: Programs,
) -> None:
    plain = await upload(api, b"abc", filename="cat.png", type="image/png")
    assert (plain["name"], plain["content_type"]) == ("cat.png", "image/png")
    where = f"/v1/files/{plain['id']}/download?owner=a&expiry=1&signature=b"
    assert await api.ask("GET", where) == (200, "abc")
    assert (await api.ask("GET", where, token=api.tokens.add("other")))[0] == 404


async def test_the_address_of_an_output_is_an_input_for_its_program_only(
    api: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "INLINE", 0)
    made = await api.ended((await api.create(input=ABC))["id"])
    url = made["output"]["whole"]
    assert url.startswith(f"{api.url}/v1/outputs/")
    again = await api.ended((await api.create(input={"first": url, "times": 2}))["id"])
    async with api.session.get(again["output"]["whole"]) as response:
        assert await response.read() == b"abcabc"
    body = {"version": "join", "input": {"first": url}}
    assert (await api.ask("POST", "/v1/predictions", body, token=api.tokens.add("other")))[0] >= 400
    for file in (api.scene.folder / "daemon" / "console" / "results").glob("*.whole.bin"):
        file.unlink()
    assert (await api.ask("POST", "/v1/predictions", body))[0] == 410


@pytest.mark.parametrize("base", ["", "/v1", "/v1/v1"])
async def test_the_address_of_the_api_may_be_written_with_and_without_v1(api: Programs, base: str) -> None:
    assert (await api.ask("GET", f"{base}/models/wakestream/join"))[0] == 200
    assert (await api.ask("GET", f"{base}/models/wakestream/join", token="wrong"))[0] == 401


async def test_a_deployment_has_the_name_of_a_kind(api: Programs) -> None:
    status, plain = await api.ask("POST", "/v1/deployments/me/join/predictions", {"input": ABC})
    assert (status, plain["model"]) == (201, "wakestream/join")


async def test_the_work_of_a_kind_that_is_not_declared_repeatable_is_done_again(api: Programs) -> None:
    for _ in range(2):
        ended = await api.ended((await api.create(input=ABC))["id"])
        assert base64.b64decode(ended["output"]["whole"].partition(",")[2]) == b"abc"
    assert len(api.scene.engine.works) == 2


async def test_the_work_of_a_kind_that_is_declared_repeatable_is_done_once(tmp_path: Path, user: User) -> None:
    scene = Scene(tmp_path, Place(tmp_path, user))
    scene.engine.kinds = [Kind("reverse", (Slot("first"),), (Slot("whole", (".bin",)),), deterministic=True)]
    async with scene.gpu(), programs(scene) as api:
        for _ in range(2):
            _, made = await api.ask("POST", "/v1/predictions", {"version": "reverse", "input": ABC})
            assert (await api.ended(made["id"]))["status"] == "succeeded"
    assert len(scene.engine.works) == 1
