"""The engine without a worker: pip install pytest pytest-asyncio, then pytest."""

import wave
from pathlib import Path

import pytest
from wakestream_tones import Tones

from wakestream.adapters.testing.engine_run import run_engine
from wakestream.operators.model.errors import WrongInput


@pytest.mark.asyncio
async def test_each_character_is_a_tone(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello", encoding="utf-8")
    run = await run_engine(Tones(), "tones", {"text": tmp_path / "hello.txt"}, {"speed": 20}, folder=tmp_path)
    with wave.open(str(run.files["audio"])) as sound:
        assert sound.getnframes() == 5 * 8000 // 20
    assert run.frames[-1].percent == 100


@pytest.mark.asyncio
async def test_a_text_that_is_not_utf_8_names_the_input(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    with pytest.raises(WrongInput) as refused:
        await run_engine(Tones(), "tones", {"text": tmp_path / "latin.txt"}, folder=tmp_path)
    assert refused.value.field == "inputs.text"
