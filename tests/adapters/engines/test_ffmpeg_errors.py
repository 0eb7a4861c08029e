"""The commonest failures of ffmpeg, in a sentence each."""

import pytest

from wakestream.adapters.engines.ffmpeg_kinds import wrong_input


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
