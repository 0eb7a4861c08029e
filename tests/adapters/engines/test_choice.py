from __future__ import annotations

import pytest

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.config import EngineConfig, installed, make_engine


def test_the_engines_of_the_package_are_entry_points() -> None:
    assert {"cog", "comfyui", "command", "duix", "ffmpeg", "gradio", "openai"} <= installed().keys()


async def test_ffmpeg_is_the_default() -> None:
    assert [kind.name for kind in await make_engine(None, EngineConfig()).describe()][:2] == ["lipsync", "mux"]


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"--engine is 'magic'; installed are .*ffmpeg.*; MODULE:FUNCTION"):
        make_engine("magic", EngineConfig())


async def test_an_engine_of_ones_own_is_named_by_module_and_function() -> None:
    engine = make_engine("wakestream.adapters.engines.ffmpeg:create", EngineConfig())
    assert [kind.name for kind in await engine.describe()][:2] == ["lipsync", "mux"]
    with pytest.raises(SettingsError, match=r"the engine nowhere:create .* ModuleNotFoundError"):
        make_engine("nowhere:create", EngineConfig())


def test_an_unknown_option_and_a_missing_one_are_named() -> None:
    with pytest.raises(SettingsError, match="--engine-option speed: the engine gradio has no such option; it has url"):
        make_engine("gradio", EngineConfig({"speed": "9"}))
    with pytest.raises(SettingsError, match="the engine comfyui needs --engine-option manifest="):
        make_engine("comfyui", EngineConfig())
