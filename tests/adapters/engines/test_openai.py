"""The engine `openai` against a server that answers as real ones do.

The bodies are those of vLLM (`create_error_response`, before and since 0.10), Ollama (`openai.NewError` and its native
form), llama.cpp (seen, and pull requests 15780 and 16486 of ggml-org/llama.cpp), Speaches (FastAPI's `detail`) and
OpenAI's documentation.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.programs import plain_server
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import openai, openai_answers
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.testing.engine_run import EngineRun, run_engine
from wakestream.operators.model.engine import Preview
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WrongInput

MODELS = ({"id": "qwen3:8b"}, {"id": "Systran/faster-whisper-small", "task": "automatic-speech-recognition"},
          {"id": "hexgrad/Kokoro-82M"}, {"id": "flux.1-dev"}, {"id": "nomic-embed-text"})  # fmt: skip
OK = orjson.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})


def chunk(text: str, end: str | None = None) -> bytes:
    """An event of a chat's stream."""
    return b"data: " + orjson.dumps({"choices": [{"delta": {"content": text}, "finish_reason": end}]}) + b"\n\n"


class Server:
    """Answers each POST with the next of `answers`; the last one stays."""

    def __init__(self, *answers: Callable[[], web.Response] | bytes) -> None:
        self.answers, self.asked = [*answers], list[tuple[str, Any]]()
        self.health, self.headers, self.models = 404, dict[str, str](), list[Mapping[str, Any]](MODELS)
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.headers = {**request.headers}
        if request.method == "GET":
            loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
            if request.path == "/health":
                return web.json_response(loading, status=self.health)
            return web.json_response({"object": "list", "data": self.models})
        form = dict(await request.post())
        if isinstance(file := form.get("file"), web.FileField):
            form["file"] = f"{file.filename}: {file.file.read().decode()}"  # it is closed afterwards
        self.asked.append((request.path, form or await request.json()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        stream = isinstance(answer, bytes) and answer.startswith((b"data:", b"error:"))
        if not isinstance(answer, bytes):
            return answer()
        return web.Response(body=answer, content_type="text/event-stream" if stream else "application/json")


@asynccontextmanager
async def engine_at(server: Server, **options: str) -> AsyncIterator[openai.OpenAI]:
    async with plain_server.answering(server.answer) as server.url:
        engine = openai.create(EngineConfig({"url": server.url, **options}))
        try:
            yield engine
        finally:
            await engine.close()


async def run(server: Server, folder: Path, kind: str = "complete", **params: Any) -> EngineRun:
    """One work; the input of a transcription is a file of sound."""
    inputs = {}
    if kind == "transcribe":
        inputs["audio"] = folder / "speech.mp3"
        inputs["audio"].write_bytes(b"sound")
    async with engine_at(server) as engine:
        given = params if kind == "transcribe" else {"text" if kind == "speak" else "prompt": "hi", **params}
        return await run_engine(engine, kind, inputs, given, folder=folder)


def refusal(status: int, body: object, **headers: str) -> Callable[[], web.Response]:
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    kind = "text/plain" if isinstance(body, str) else "application/json"
    return lambda: web.Response(status=status, text=text, content_type=kind, headers=headers)


VLLM = {
    "object": "error",
    "message": "The model `x` does not exist.",
    "type": "NotFoundError",
    "param": None,
    "code": 404,
}
LONG = "This model's maximum context length is 4096 tokens. However, your request has 9000 input tokens."


@pytest.mark.parametrize(
    ("kind", "status", "body", "fault", "field", "said"),
    [
        ("complete", 404, VLLM, WrongInput, "params.model", "The model `x` does not exist"),
        ("complete", 404, {"error": {**VLLM, "param": "model"}}, WrongInput, "params.model", "does not exist"),
        ("complete", 404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}},
         WrongInput, "params.model", "try pulling it first"),
        ("transcribe", 404, {"detail": "Model 'x' is not installed locally."}, WrongInput, "params.model", "installed"),
        ("speak", 404, {"detail": "Not Found"}, TaskFailed, "", "cannot do this .* for /v1/audio/speech"),
        ("image", 404, "404 page not found", TaskFailed, "", "404 page not found for /v1/images/generations"),
        ("complete", 400, {"object": "error", "message": LONG, "type": "BadRequestError", "param": None, "code": 400},
         WrongInput, "params", "maximum context length is 4096"),
        ("complete", 400, {"error": {"message": LONG, "param": "messages", "code": "context_length_exceeded"}},
         WrongInput, "params.prompt", "maximum context length"),
        ("complete", 400, {"error": {"message": "max_tokens must be at least 1", "param": "max_tokens"}},
         WrongInput, "params.max_tokens", "at least 1"),
        ("speak", 422, {"detail": [{"type": "missing", "loc": ["body", "voice"], "msg": "Field required"}]},
         WrongInput, "params.voice", "Field required"),
        ("complete", 401, {"error": "Unauthorized"}, TaskFailed, "", "does not accept the key .*Unauthorized"),
        ("complete", 429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
         TaskFailed, "", "current quota"),
        ("complete", 500, {"error": "model requires more system memory (5.3 GiB) than is available (4.7 GiB)"},
         TaskFailed, "", "HTTP 500: model requires more system memory"),
        ("transcribe", 501, {"error": {"code": 501, "message": "The current model does not support audio input."}},
         TaskFailed, "", "does not support audio input"),
        ("complete", 504, "<html>Gateway Time-out</html>", EngineUnreachable, "", "does not answer its proxy"),
    ],
)  # fmt: skip
async def test_an_error_is_told_in_the_servers_words_with_the_field(
    tmp_path: Path, kind: str, status: int, body: object, fault: type[Exception], field: str, said: str
) -> None:
    with pytest.raises(fault, match=said) as raised:
        await run(Server(refusal(status, body)), tmp_path, kind)
    assert getattr(raised.value, "field", "") == field


@pytest.mark.parametrize(
    ("stream", "fault", "said"),
    [
        (chunk("a"), EngineUnreachable, "broke off before the text was complete"),  # Ollama after an error
        (b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\ndata: [DONE]\n\n', TaskFailed, "EngineCore"),
        (b'data: {"object": "error", "message": "too long", "code": 400}\n\n', WrongInput, "HTTP 400: too long"),
        (b'error: {"code":500,"message":"Context size has been exceeded."}\n\n', TaskFailed, "Context size"),
        (chunk("", "stop") + b"data: [DONE]\n\n", TaskFailed, "returned no text; if the prompt is long"),  # LM Studio
        (b"data: {\n\n", EngineUnreachable, "not JSON"),
    ],
)
async def test_a_stream_that_does_not_end_well_makes_no_file(
    tmp_path: Path, stream: bytes, fault: type[Exception], said: str
) -> None:
    with pytest.raises(fault, match=said):
        await run(Server(stream), tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("stream", [chunk("hel") + chunk("lo", "stop"), chunk("hello") + b"data: [DONE]", OK])
async def test_a_text_is_complete_with_a_reason_or_the_end_of_the_stream(tmp_path: Path, stream: bytes) -> None:
    server = Server(stream)
    assert (await run(server, tmp_path, system="be short")).files["text"].read_text() == "hello"
    (path, asked), = server.asked  # fmt: skip
    assert (path, asked["stream"], asked["model"]) == ("/v1/chat/completions", True, "qwen3:8b")
    assert asked["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
    assert "system" not in asked


async def test_a_text_is_shown_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "SAY_EVERY", 0.0)
    shown = (await run(Server(chunk("hel") + chunk("lo", "stop")), tmp_path)).previews
    assert shown == [Preview("text/plain", b"hel"), Preview("text/plain", b"hello")]


@pytest.mark.parametrize(
    "busy",
    [
        refusal(503, {"error": {"message": "server busy, please try again.  maximum pending requests exceeded"}}),
        refusal(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        refusal(429, {"error": {"message": "Rate limit reached"}}, **{"Retry-After": "0"}),
    ],
)
async def test_a_busy_server_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: Callable[[], web.Response]
) -> None:
    monkeypatch.setattr(openai_answers, "AGAIN", 0.001)
    result = await run(Server(busy, busy, OK), tmp_path)
    assert result.files["text"].read_text() == "hello"
    assert len(result.lines) == 1
    assert result.lines[0].startswith("the work waits for 0 s: the model server is busy (HTTP ")
    monkeypatch.setattr(openai, "PATIENCE", -1.0)
    with pytest.raises(EngineUnreachable, match="the model server takes no work: the model server is busy"):
        await run(Server(busy), tmp_path)


@pytest.mark.parametrize(("after", "seconds"), [("0", openai_answers.AGAIN), ("7", 7.0), ("900", 60.0), ("soon", 1.0)])
def test_a_busy_server_is_asked_again_when_it_says_but_never_at_once(after: str, seconds: float) -> None:
    busy = openai_answers.fault_of(429, {}, "/v1", None, after)
    assert isinstance(busy, openai_answers.Busy)
    assert busy.after == seconds


async def test_a_server_that_loads_its_model_is_not_ready() -> None:
    server = Server(OK)
    async with engine_at(server) as engine:
        assert (await engine.ready()).ready
        server.health = 503
        state = await engine.ready()
    assert (state.ready, state.reason) == (False, "the model server is not ready: Loading model")


async def test_the_kinds_are_what_the_models_are_for() -> None:
    async with engine_at(Server(OK)) as engine:
        kinds = {kind.name: kind.params["properties"]["model"]["enum"] for kind in await engine.describe()}
    assert kinds == {
        "complete": ["qwen3:8b"], "transcribe": ["Systran/faster-whisper-small"], "speak": ["hexgrad/Kokoro-82M"],
        "image": ["flux.1-dev"],
    }  # fmt: skip


MANIFEST = """
[kinds.summary]
task = "complete"
model = "qwen3"
request = { temperature = 0, chat_template_kwargs = { enable_thinking = false } }
params.prompt = { default = "Summarize:" }

[kinds.poem]
task = "complete"
model = "gone"
"""


async def test_a_manifest_narrows_a_kind_and_names_a_model_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "kinds.toml").write_text(MANIFEST)
    server = Server(OK)
    server.models = [{"id": "qwen3:latest"}]
    (tmp_path / "in.txt").write_text("a story")
    (tmp_path / "out").mkdir()
    async with engine_at(server, manifest=str(tmp_path / "kinds.toml")) as engine:
        state = await engine.ready()
        await run_engine(engine, "summary", {"text": tmp_path / "in.txt"}, folder=tmp_path / "out")
    assert state.ready
    assert "kind poem is not offered: the model server has no model gone; it has qwen3:latest" in state.reason
    (_, asked), = server.asked  # fmt: skip
    assert asked["messages"][0]["content"] == "Summarize:\n\na story"
    assert (asked["model"], asked["temperature"]) == ("qwen3", 0)
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('task = "dance"', r'"task" is \'dance\'; use complete, transcribe, speak, image'),
        ('model = "a"', '"task" is missing'),
        ('task = "speak"\nmodel = 5', "kinds.a.model must be a text"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "kinds.toml").write_text(f"[kinds.a]\n{text}\n")
    with pytest.raises(SettingsError, match=said):
        openai.create(EngineConfig({"manifest": str(tmp_path / "kinds.toml")}))


async def test_the_key_is_sent_and_shown_nowhere(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    server = Server(OK)
    async with engine_at(server, key=str(key)) as engine:
        await engine.describe()
        assert "sk-secret" not in repr(vars(engine))
    assert server.headers["Authorization"] == "Bearer sk-secret"


OPENAI = b"".join(
    b"data: " + orjson.dumps(event) + b"\n\n"
    for event in ({"type": "transcript.text.delta", "delta": "hel"}, {"type": "transcript.text.delta", "delta": "lo"},
                  {"type": "transcript.text.done", "text": "hello"})
)  # fmt: skip


@pytest.mark.parametrize("answer", [OPENAI, chunk("hello", "stop"), b'{"text": "hello"}', refusal(200, "hello")])
async def test_speech_becomes_text_whatever_form_the_answer_has(tmp_path: Path, answer: Any) -> None:
    server = Server(answer)
    result = await run(server, tmp_path, "transcribe", language="en")
    assert result.files["text"].read_text() == "hello"
    (path, form), = server.asked  # fmt: skip
    assert (path, form["file"]) == ("/v1/audio/transcriptions", "speech.mp3: sound")
    assert {name: form[name] for name in ("language", "response_format")} == {
        "language": "en",
        "response_format": "text",
    }


async def test_subtitles_are_stored_as_they_come(tmp_path: Path) -> None:
    srt = "1\n00:00:00,000 --> 00:00:01,000\nhello\n"
    result = await run(Server(refusal(200, srt)), tmp_path, "transcribe", response_format="srt")
    assert (result.files["text"].suffix, result.files["text"].read_text()) == (".srt", srt)


async def test_speech_is_stored_with_its_format(tmp_path: Path) -> None:
    server = Server(lambda: web.Response(body=b"RIFFsound", content_type="audio/wav"))
    result = await run(server, tmp_path, "speak", voice="anna", response_format="wav")
    assert (result.files["audio"].suffix, result.files["audio"].read_bytes()) == (".wav", b"RIFFsound")
    assert server.asked[0][1]["input"] == "hi"
    with pytest.raises(TaskFailed, match="sent no sound, but application/json"):
        await run(Server(OK), tmp_path, "speak", voice="anna")


async def test_images_come_as_base64_or_by_an_address_of_the_server(tmp_path: Path) -> None:
    png = base64.b64encode(b"\x89PNG1").decode()
    server = Server(orjson.dumps({"data": [{"b64_json": png}, {"url": f"data:image/png;base64,{png}"}]}))
    result = await run(server, tmp_path, "image", n=2)
    assert [result.files[name].read_bytes() for name in ("images", "images_2")] == [b"\x89PNG1"] * 2
    assert server.asked[0][1]["response_format"] == "b64_json"
    for answer, said in (
        ({"data": []}, "made no image"),
        ({"data": [{"b64_json": "?"}]}, "not base64"),
        ({"data": [{"url": "http://127.0.0.1:9/a.png"}]}, "an address of this machine"),
    ):
        with pytest.raises(TaskFailed, match=said):
            await run(Server(orjson.dumps(answer)), tmp_path, "image")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "error", "detail", "message", "code", "loc", "param", "text"]),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
@example({"choices": [{"delta": {"content": 5}, "finish_reason": ["x"]}]})
@example({"detail": [{"loc": [], "msg": None}]})
def test_any_answer_is_read(said: Any) -> None:
    if isinstance(said, dict):
        piece, end = openai_answers.piece_of(said)
        assert isinstance(piece, str)
        assert isinstance(end, str)
    for status in (400, 404, 429, 500):
        assert str(openai_answers.fault_of(status, said, "/v1/x", None))


async def test_a_connection_that_is_cut_can_be_tried_again(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            body = orjson.dumps({"data": [{"id": "qwen3"}]})
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        else:
            event = chunk("hel")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        writer.close()

    async with plain_server.talking(talk) as port:
        engine = openai.create(EngineConfig({"url": f"http://127.0.0.1:{port}"}))
        with pytest.raises(EngineUnreachable, match=r"The model server at .* does not answer"):
            await run_engine(engine, "complete", {}, {"prompt": "hi"}, folder=tmp_path)
        await engine.close()
