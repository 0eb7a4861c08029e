"""An engine of several kinds for the console: a painter without inputs, and one that makes a file of every type."""

import asyncio
import base64
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.browser.console_scene import House, Media
from tests.support.engines.pair import QuietEngine
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.operators.model.engine import Frame, Kind, Line, Made, Preview, Slot, Work
from wakestream.streams.protocol.kinds import plain_kind
from wakestream.streams.protocol.known_kinds import KnownKinds, from_plain

PAINT = Kind(
    "paint",
    (),
    (Slot("image", (".png",), "Image"),),
    {
        "properties": {
            "prompt": {"type": "string", "title": "Prompt", "description": "What the picture shows", "minLength": 3},
            "steps": {"type": "integer", "title": "Steps", "minimum": 1, "maximum": 50, "default": 20},
            "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.7, "x-step": 0.05},
            "style": {"type": "string", "enum": ["photo", "sketch", "oil"], "default": "photo"},
            "tiling": {"type": "boolean", "title": "Tiling", "default": False},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        },
        "required": ["prompt"],
    },
    title="Paint a picture",
    help="Makes a picture from a description.",
)

REMIX = Kind(
    "remix",
    (
        Slot("picture", ("image",), "Picture", "The still that moves."),
        Slot("sound", ("audio",), "Sound", required=False),
    ),
    (
        Slot("video", (".mp4",), "Video"),
        Slot("audio", (".wav",), "Audio", required=False),
        Slot("image", (".png",), "Poster", required=False),
        Slot("text", (".txt",), "Transcript", required=False),
        Slot("data", (".json",), "Data", required=False),
        Slot("model", (".glb",), "3-D model", required=False),
        Slot("page", (".html",), "Page", required=False),
        Slot("drawing", (".svg",), "Drawing", required=False),
    ),
    {"properties": {"times": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}}},
    title="Remix",
)

FRAMES = Kind(
    "frames",
    (Slot("images", ("image",), "Images", many=True),),
    (Slot("pictures", (".png",), "Pictures", many=True),),
    title="Frames",
)

EVIL = '<script>document.title = "taken"</script><img src=x onerror="document.title=1">'
"""A result that would take the page over if the page ran it."""


def png(width: int = 8, height: int = 8, colour: tuple[int, int, int] = (11, 99, 181)) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return len(data).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Studio(QuietEngine):
    """Makes each output at once. `media` are a video and an audio file to give out, `works` what was asked for."""

    def __init__(self, media: Media | None = None, kinds: Sequence[Kind] = (LIPSYNC_KIND, PAINT, REMIX)) -> None:
        self.media, self.kinds = media, kinds
        self.works: list[Work] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.preview: Preview | None = None

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        self.works.append(work)
        yield Frame(1, 2, 50.0)
        if self.preview is not None:
            yield self.preview
        await self.go_on.wait()
        kind = next(kind for kind in self.kinds if kind.name == work.kind)
        for slot in kind.outputs:
            count = len(work.inputs) if slot.many else 1
            for number in range(1, count + 1) if slot.name in work.outputs else ():
                path = work.folder / f"{slot.name}{number}{slot.accepts[0] if slot.accepts else '.png'}"
                path.write_bytes(self._content(path, work.params))
                yield Made(slot.name, path, number)

    def _content(self, path: Path, params: Any) -> bytes:
        if self.media is not None and path.suffix in (".mp4", ".wav"):
            return self.media[path.suffix == ".wav"].read_bytes()
        texts = {".txt": f"{EVIL}\nünï 中文", ".json": f'{{"b": [1, 2.50], "a": "{len(EVIL)}"}}', ".html": EVIL}
        texts[".svg"] = f'<svg xmlns="http://www.w3.org/2000/svg">{EVIL}</svg>'
        text = texts.get(path.suffix)
        return text.encode() if text is not None else png() if path.suffix == ".png" else base64.b64decode("Z2xURgI=")


def offer(home: House, *kinds: Kind, online: bool = True, known: bool = True) -> None:
    """The hub says that its GPU can do these kinds."""
    offer_plain(home, [{"kind": plain_kind(each), "gpus": [{"gpu": "gpu", "online": online}]} for each in kinds], known)


def offer_plain(home: House, kinds: Sequence[Mapping[str, Any]], known: bool = True) -> None:
    """The hub says this of the kinds."""

    found = from_plain({"kinds": kinds, "known": known})

    async def told() -> KnownKinds:
        return found

    home.daemon.console.kinds.present = told  # type: ignore[method-assign]
