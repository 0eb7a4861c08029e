"""The commonest failures of ffmpeg, in a sentence each."""

import pytest

from wakestream.adapters.engines.ffmpeg_errors import explained


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Error opening input: Invalid data found when processing input", "the video file is damaged, or of a kind"),
        ("[mov] moov atom not found | Invalid data found when processing input", "the video file is incomplete"),
        ("Stream map '0:v:0' matches no streams.", "the video file has no picture in it"),
        ("Format not on whitelist 'mov,wav'", "the video file has a format that is not supported"),
        ("Decoder (codec av2) not found for input stream #0:0", "in a format that this ffmpeg cannot decode"),
        ("Picture size 99999x99999 is invalid", "the video file has a picture that is too large"),
    ],
)
def test_a_failure_has_a_plain_sentence_and_ffmpegs_message(said: str, sentence: str) -> None:
    told = explained(said, "video")
    assert told.startswith(sentence) or sentence in told
    assert told.endswith(f"({said})")


def test_a_file_without_sound_is_reported_as_such() -> None:
    assert explained("Stream map '0:a:0' matches no streams.", "audio").startswith("the audio file has no sound in it")


def test_unknown_messages_stay_unchanged() -> None:
    said = "ffmpeg ended with code 9: it gave no reason"
    assert explained(said, "audio") == said
