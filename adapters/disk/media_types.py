"""What a result is: the content type it is served with, and how the page shows it.

Results come from other machines, so the page is given only types that cannot run anything in a browser. HTML, SVG and
everything unknown is a download.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple


class MediaType(NamedTuple):
    """A type of files.

    Attributes:
        content: The content type.
        shown: How the page shows it: `video`, `audio`, `image`, `text`, `json`; empty: only as a download.
        ending: The file ending.
    """

    content: str
    shown: str
    ending: str


UNKNOWN: Final = MediaType("application/octet-stream", "", "")

_TEXT: Final = "text/plain; charset=utf-8"

_CONTENT: Final[Mapping[str, Mapping[str, str]]] = {
    "video": {
        ".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime",
        ".mkv": "video/x-matroska",
    },
    "audio": {
        ".mp3": "audio/mpeg", ".wav": "audio/wav", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
        ".flac": "audio/flac", ".m4a": "audio/mp4", ".aac": "audio/aac",
    },
    "image": {
        ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
        ".bmp": "image/bmp", ".avif": "image/avif",
    },
    "text": dict.fromkeys((".txt", ".md", ".srt", ".vtt", ".csv", ".yaml", ".yml", ".log"), _TEXT),
    "json": {".json": "application/json"},
}  # fmt: skip

TYPES: Final[Mapping[str, MediaType]] = {
    ending: MediaType(content, shown, ending)
    for shown, endings in _CONTENT.items()
    for ending, content in endings.items()
}
"""The types by file ending."""

_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"), (0, b"\xff\xd8\xff", ".jpg"), (0, b"GIF8", ".gif"), (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"), (0, b"fLaC", ".flac"), (0, b"OggS", ".ogg"), (0, b"ID3", ".mp3"), (0, b"\xff\xfb", ".mp3"),
    (0, b"\xff\xf3", ".mp3"), (0, b"\xff\xf2", ".mp3"), (0, b"\xff\xf1", ".aac"), (0, b"\xff\xf9", ".aac"),
    (4, b"ftypM4A ", ".m4a"), (4, b"ftypavif", ".avif"), (4, b"ftypqt  ", ".mov"), (0, b"\x1aE\xdf\xa3", ".mkv"),
    *(
        (4, b"ftyp" + brand, ".mp4")
        for brand in b"isom iso2 iso3 iso4 iso5 iso6 iso7 iso8 iso9 mp41 mp42 avc1 dash MSNV M4VP M4VH".split()
    ),
)  # fmt: skip
"""Which bytes are where in a file, and the ending of such files."""

_MORE_MAGIC: Final = (
    (4, b"ftyp"), (8, b"AVI "), (0, b"FLV"),
    (0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3"), (0, b"\x30\x26\xb2\x75"), (0, b"\x06\x0e\x2b\x34"), (0, b"FORM"),
    (0, b"#!AMR"), (0, b"caff"), (0, b"\x0b\x77"), (0, b"II*\0"), (0, b"MM\0*"), (0, b"\x76\x2f\x31\x01"), (4, b"moov"),
    (4, b"mdat"), (4, b"wide"), (4, b"free"),
)  # fmt: skip
"""Which bytes are where in media files that browsers do not show."""

_HEAD: Final = 64
"""Bytes that tell the type."""


def media_type(path: Path) -> MediaType:
    """Return the type of a file: by its first bytes, or by its ending if they do not tell.

    The ending alone may be wrong: a kind may name several for one output, and a parameter decides which is made.

    Args:
        path: The file; it need not exist.

    Returns:
        The type; `UNKNOWN` for all that a browser must not open.

    Example:
        >>> media_type(Path("cat.png")).shown
        'image'
        >>> media_type(Path("page.html")).content
        'application/octet-stream'
    """
    content = content_ending(path)
    return TYPES[content] if content and not same_type(path, content) else TYPES.get(path.suffix.lower(), UNKNOWN)


def content_ending(path: Path) -> str:
    """Return the usual ending of a file with this content; empty if its first bytes do not tell, or cannot be read."""
    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
    return ending_of_content(head)


def ending_of_content(head: bytes) -> str:
    """As `content_ending`, of a file that begins like this."""
    head = head[:_HEAD]
    by_magic = next((ending for at, magic, ending in _MAGIC if head.startswith(magic, at)), "")
    return ".webm" if by_magic == ".mkv" and b"webm" in head else by_magic


def same_type(path: Path, ending: str) -> bool:
    """Return whether the ending of a path stands for the same type of files as another one."""
    return TYPES.get(path.suffix.lower(), UNKNOWN).content == TYPES[ending].content


def fitted(path: Path, wanted: Path, *, renamed: bool) -> tuple[Path, str]:
    """Compare the content of a result with the ending of its path.

    Args:
        path: The file.
        wanted: Where it is to be.
        renamed: Whether the ending may change, because the user has not named the result.

    Returns:
        Its path, and a sentence if content and ending differ.
    """
    content = content_ending(path)
    if not content or same_type(wanted, content):
        return wanted, ""
    data = f"{content[1:].upper()} data"
    if not renamed:
        return wanted, f"{wanted.name} holds {data}: rename it, or name a {content} file"
    fits = wanted.with_suffix(content)
    return fits, f"{wanted.name} would hold {data}, so the result is {fits.name}"


def is_media(head: bytes) -> bool:
    """Return whether a file that begins like this is a video, an audio or an image file.

    Args:
        head: Its first bytes, 512 of them if there are as many.

    Example:
        >>> is_media(b"\\x89PNG\\r\\n\\x1a\\n")
        True
        >>> is_media(b"-----BEGIN OPENSSH PRIVATE KEY-----")
        False
    """
    known = [*((at, magic) for at, magic, _ in _MAGIC), *_MORE_MAGIC]
    if any(head.startswith(magic, at) for at, magic in known):
        return True
    is_bmp = head.startswith(b"BM") and head[6:10] == bytes(4)
    return is_bmp or (head[:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G")  # a transport stream
