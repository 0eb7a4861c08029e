"""Which engine is meant."""

import pytest

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.engines.choice import engine_name


def test_without_a_setting_the_engine_is_ffmpeg() -> None:
    assert engine_name(Settings()) == "ffmpeg"


def test_an_unknown_engine_is_refused_with_the_names_of_those_that_exist() -> None:
    with pytest.raises(SettingsError, match="engine is 'magic'; write one of ffmpeg, command"):
        engine_name(Settings(engine="magic"))
