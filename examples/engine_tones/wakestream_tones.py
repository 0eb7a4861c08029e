"""An engine that turns a text file into sound: one tone for each character."""

import array
import math
import wave
from collections.abc import AsyncGenerator, Sequence

from wakestream.adapters.engines.config import EngineConfig
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.errors import WrongInput

SPEED = {"type": "number", "minimum": 1, "maximum": 50, "default": 10, "title": "Characters a second"}
TONES = Kind("tones", (Slot("text", (".txt",)),), (Slot("audio", (".wav",)),), {"properties": {"speed": SPEED}})


class Tones(Engine):
    async def describe(self) -> Sequence[Kind]:
        return [TONES]

    async def ready(self) -> Readiness:
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        try:
            text = work.inputs["text"].read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise WrongInput("inputs.text", "the text file is not UTF-8; save it as UTF-8") from None
        with wave.open(str(work.folder / "audio.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            for number, letter in enumerate(text, 1):
                turn = math.tau * (200 + ord(letter) % 1000) / 8000
                samples = range(int(8000 / work.params["speed"]))
                sound.writeframes(array.array("h", (int(9000 * math.sin(turn * at)) for at in samples)).tobytes())
                yield Frame(number, len(text), 100 * number / len(text))
        yield Made("audio", work.folder / "audio.wav")

    async def cancel(self, work: Work) -> None: ...

    async def close(self) -> None: ...


def create(config: EngineConfig) -> Tones:
    config.known("tones", ())
    return Tones()
