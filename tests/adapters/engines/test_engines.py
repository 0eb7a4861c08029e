"""What the engines make of text and of files; the programs themselves run in tests/acceptance/."""

import json
import re
from functools import reduce
from pathlib import Path

import pytest

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import lipsync_program
from wakestream.adapters.engines.ffmpeg import Ffmpeg, Progress, fps_in
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES, wrong_input
from wakestream.adapters.engines.samples import make_video
from wakestream.operators.model.errors import TaskFailed
from wakestream.streams.protocol.kinds import kind_from, plain_kind

GOOD = ("python", "run.py", "{video}", "--audio={audio}", "{output}")


def test_a_template_may_have_its_placeholders_anywhere_in_its_words() -> None:
    template = lipsync_program(GOOD).template
    assert (template.program, template.words) == (
        "python",
        ("run.py", "{in:video}", "--audio={in:audio}", "{out:video}"),
    )


@pytest.mark.parametrize("name", ["{video}", "{audio}", "{output}"])
def test_a_template_without_a_placeholder_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        lipsync_program([word for word in GOOD if name not in word])


def test_ffmpegs_report_is_read_and_never_goes_backwards() -> None:
    lines = [
        "frame=12",
        "fps=0.00",
        "out_time_us=N/A",
        "out_time_us=480000",
        "out_time_us=-9",
        "progress=continue",
        "x",
    ]
    progress = reduce(Progress.after, lines, Progress())
    assert progress == Progress(0.48, 12)
    assert progress.of(0, 0.96).percent == 50.0
    assert progress.of(0, 0.40).percent == 100.0
    assert progress.of(48, 0.48).percent == 25.0, "the pictures are behind the sound"
    assert progress.of(0, 0.0).percent == 0.0


@pytest.mark.parametrize(
    ("text", "fps"),
    [
        ("  Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 160x120 [SAR 1:1], 119 kb/s, 29.97 fps, 25 tbr", 29.97),
        ("  Stream #0:1: Audio: aac\n  Stream #0:0: Video: vp8, 64x64, SAR 1:1, 30 tbr, 1k tbn", 30.0),
        ("  Stream #0:0: Video: wmv3, 64x64, 1k fps, 1k tbr", None),
        ("  Stream #0:0: Audio: pcm_s16le, 44100 Hz", None),
    ],
)
def test_the_frame_rate_is_read_from_what_ffmpeg_says_of_the_file(text: str, fps: float | None) -> None:
    assert fps_in(text) == fps


async def test_without_ffmpeg_engine_and_samples_report_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found. Install ffmpeg on your system.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    why = r"no ffmpeg: .* Install ffmpeg on your system"
    assert re.fullmatch(why, (await Ffmpeg().ready()).reason)
    with pytest.raises(TaskFailed, match=f"^{why}$"):
        await make_video(tmp_path / "clip.mp4", 1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_kind_of_ffmpeg_is_valid_and_its_defaults_fit(name: str) -> None:
    kind = RECIPES[name].kind
    plain = json.loads(json.dumps(plain_kind(kind)))
    assert kind_from(plain) == kind_from(plain, own=True) == kind
    assert set(RECIPES[name].reads) == {slot.name for slot in kind.inputs}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Error opening input: Invalid data found when processing input", "the video file is damaged, or of a kind"),
        ("[mov] moov atom not found | Invalid data found when processing input", "the video file is incomplete"),
        ("Stream map '0:v:0' matches no streams.", "the video file has no picture in it"),
        ("Format not on whitelist 'mov,wav'", "the video file has a format that is not supported"),
        ("Decoder (codec av2) not found for input stream #0:0", "in a format that this ffmpeg cannot decode"),
        (
            "Picture size 6300x6300 exceeds specified max pixel | Error submitting packet to decoder: 22",
            "the video file has a picture that is too large",
        ),
        ("Picture size 99999x99999 is invalid", "the video file has a picture that is too large"),
    ],
)
def test_a_failure_has_a_plain_sentence_and_ffmpegs_message(said: str, sentence: str) -> None:
    error = wrong_input(said, "video", "video")
    assert error is not None
    assert error.field == "inputs.video"
    told = str(error)
    assert told.startswith(sentence) or sentence in told
    assert told.endswith(f"({said})")


def test_a_file_without_sound_is_reported_as_such() -> None:
    error = wrong_input("Stream map '0:a:0' matches no streams.", "speech", "audio")
    assert str(error).startswith("the speech file has no sound in it")


def test_other_messages_are_not_about_an_input() -> None:
    assert wrong_input("ffmpeg ended with code 9: it gave no reason", "audio", "audio") is None
    assert wrong_input("Invalid data found when processing input", "video", "video", only="container") is None
