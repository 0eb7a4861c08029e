"""Which files belong together, by their names. The web console has the same rule in `pairs.js`.

The names are compared in steps, the strictest first; a file that has a partner takes no part in later steps:

1. the same stem, in any case and any Unicode form: `Clip1.mp4` and `clip1.WAV`
2. the same stem without words such as `video` and `audio` at its ends: `clip1_video.mp4` and `audio-clip01.wav`
3. a stem that begins with the other: `talk.mp4` with `talk_en.wav` and `talk_de.wav`
4. the same stem without what all files of a type have in common: `cam_1.mp4`, `cam_2.mp4` and `mic_1.wav`, `mic_2.wav`
5. nothing was found, and there is one file of one type: it goes with all files of the other
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Final, NamedTuple

from wakestream.streams.protocol.kinds import MEDIA

ROLES: Final = frozenset({
    "video", "videos", "vid", "picture", "image",
    "audio", "audios", "aud", "voice", "voiceover", "speech", "sound", "narration",
    "视频", "影片", "画面", "音频", "语音", "声音", "配音", "旁白",
})  # fmt: skip
"""Words at the ends of a name that say what a file is, and not which job it belongs to."""

_UNSPACED: Final = tuple(word for word in ROLES if not word.isascii())
_ENDING: Final = re.compile(r"\.[a-z0-9]{1,10}\Z", re.IGNORECASE)

Words = tuple[str, ...]


class Pairs(NamedTuple):
    """What was found in a list of names; each part is in the order of that list.

    Attributes:
        jobs: The video and the audio file of each job. A file may be in several.
        single: Videos and audio files without a partner.
        other: Files that are neither, and hidden files.
    """

    jobs: tuple[tuple[str, str], ...]
    single: tuple[str, ...]
    other: tuple[str, ...]


def pairs_of(names: Sequence[str], *, strict: bool = False) -> Pairs:
    """Return which files are the video and the audio of one job.

    Args:
        names: The names of the files, with or without folders.
        strict: Only steps 1 and 2, whose pairs stay the same when more files are added.

    Returns:
        The pairs, and the files that are in none.

    Example:
        >>> pairs_of(["b.wav", "a.mp4", "A.wav", "notes.txt"])
        Pairs(jobs=(('a.mp4', 'A.wav'),), single=('b.wav',), other=('notes.txt',))
    """
    types = [_type(name) for name in names]
    sides = tuple(
        {at: _last(name) for at, name in enumerate(names) if types[at] == side} for side in ("video", "audio")
    )
    jobs = _jobs(sides[0], sides[1], strict)
    used = {at for job in jobs for at in job}
    return Pairs(
        tuple((names[video], names[audio]) for video, audio in sorted(jobs)),
        tuple(name for at, name in enumerate(names) if types[at] and at not in used),
        tuple(name for at, name in enumerate(names) if not types[at]),
    )


def _jobs(videos: dict[int, str], audios: dict[int, str], strict: bool) -> list[tuple[int, int]]:
    """The pairs of indexes. It removes the files that it uses."""
    jobs: list[tuple[int, int]] = []

    def use(pairs: Sequence[tuple[int, int]]) -> None:
        jobs.extend(pairs)
        for video, audio in pairs:
            videos.pop(video, None)
            audios.pop(audio, None)

    use(_same(videos, audios, lambda name: (_stem(name),)))
    use(_same(videos, audios, _bare))
    if strict:
        return jobs
    use(_longer(videos, audios))
    use([(video, audio) for audio, video in _longer(audios, videos)])
    groups = _by_key(_rests(videos), _rests(audios))
    use([pair for some, others in groups for pair in _matched(some, others)])
    if not jobs and 1 in (len(videos), len(audios)):
        use([(video, audio) for video in videos for audio in audios])
    return jobs


def _type(name: str) -> str:
    """`video`, `audio`, or empty."""
    last = _last(name)
    ending = _ENDING.search(last)
    if ending is None or last.startswith("."):
        return ""
    return next((media for media in ("video", "audio") if ending[0].lower() in MEDIA[media]), "")


def _last(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", _ENDING.sub("", name)).lower())


def _words(stem: str) -> Words:
    """The words and numbers of a stem; leading zeros do not count."""

    def sort(char: str) -> str:
        return unicodedata.category(char)[0].replace("M", "L")

    runs = [(category, "".join(chars)) for category, chars in groupby(stem, sort) if category in "LN"]
    return tuple((text.lstrip("0") or "0") if category == "N" else text for category, text in runs) or (stem,)


def _bare(name: str) -> Words:
    """The words of a name, without those at its ends that say what the file is."""
    words = list(_words(_stem(name)))
    while words and words[0] in ROLES:
        words.pop(0)
    while words and words[-1] in ROLES:
        words.pop()
    if words:
        words[0] = next((words[0][len(role) :] for role in _UNSPACED if words[0].startswith(role)), words[0])
        words[-1] = next((words[-1][: -len(role)] for role in _UNSPACED if words[-1].endswith(role)), words[-1])
    return tuple(words)


def _same(videos: Mapping[int, str], audios: Mapping[int, str], key: Callable[[str], Words]) -> list[tuple[int, int]]:
    """The pairs of files with the same key: one with many, or in their order if there are several of both."""
    return [pair for some, others in _by_key(_keys(videos, key), _keys(audios, key)) for pair in _matched(some, others)]


def _keys(files: Mapping[int, str], key: Callable[[str], Words]) -> dict[int, Words]:
    return {at: key(name) for at, name in files.items()}


def _by_key(videos: Mapping[int, Words], audios: Mapping[int, Words]) -> list[tuple[list[int], list[int]]]:
    groups: dict[Words, tuple[list[int], list[int]]] = {}
    for side, files in enumerate((videos, audios)):
        for at, words in files.items():
            groups.setdefault(words, ([], []))[side].append(at)
    return list(groups.values())


def _matched(videos: list[int], audios: list[int]) -> list[tuple[int, int]]:
    if 1 in (len(videos), len(audios)):
        return [(video, audio) for video in videos for audio in audios]
    return list(zip(videos, audios, strict=False))


def _longer(shorter: Mapping[int, str], longer: Mapping[int, str]) -> list[tuple[int, int]]:
    """Each of the `longer` names with the longest of the others that it begins with."""
    known: dict[Words, int] = {}
    for at, words in _keys(shorter, _bare).items():
        if words:
            known.setdefault(words, at)
    matches: list[tuple[int, int]] = []
    for at, words in _keys(longer, _bare).items():
        heads = (words[:length] for length in range(len(words) - 1, 0, -1))
        partner = next((known[head] for head in heads if head in known), None)
        if partner is not None:
            matches.append((partner, at))
    return matches


def _rests(files: Mapping[int, str]) -> dict[int, Words]:
    """The words of each name, without those that all have in common at their ends."""
    all_words = _keys(files, _bare)
    if len(files) < 2:
        return all_words
    shortest = max(0, min(map(len, all_words.values())) - 1)
    head = min(_common(list(all_words.values())), shortest)
    tail = min(_common([words[::-1] for words in all_words.values()]), shortest - head)
    return {at: words[head : len(words) - tail] for at, words in all_words.items()}


def _common(all_words: list[Words]) -> int:
    """How many words all have in common at the start."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*all_words, strict=False)))
